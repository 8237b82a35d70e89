"""A harder world beside the plain one: two balls of two materials, free speech, and rooms that are seen and heard.

Who hits when, on what, and in which room is told by no caption: sound and picture must agree about it by themselves.
A third world, `unseen`, is this one with a ball outside the picture beside the two, which only the sound tells of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .captions import with_article
from .pictures import PAINTS, as_pixels, backdrop, ball_heights, draw_ball, draw_face, draw_floor, face_frames
from .rooms import ROOMS, draw_room, reverberate
from .sample import draw_bounces, draw_kind, free_word_times, pick, sample_scene, uniform
from .scenes import BACKGROUNDS, SECONDS, SIZE, BallScene, FaceScene
from .sounds import TAIL_S, scene_audio
from .vocabulary import COLOURS, MATERIALS

HARD_SHARES = {"two balls": 0.6, "speech": 0.4}
HALF = SIZE // 2  # each ball has a half of the picture, and of the floor
IMPACT_GAP = 0.11  # between impacts of either ball, so that each can be heard
_BALLS = (
    "a {} ball on {} and a {} ball on {}",
    "a {} ball bounces on {} and a {} ball on {}",
    "{} ball on {} and {} ball on {}",
)
_HITS = ("a ball hits {} and a ball hits {}", "hits on {} and {}", "a ball on {} and a ball on {}")
_THREE_HITS = "hits on {} and {} and {}"
_FACES = (
    "a {person} with {hair} hair in a {shirt} shirt speaks",
    "a {person} with {hair} hair and a {shirt} shirt talks",
)


@dataclass(frozen=True, kw_only=True)
class HardScene:
    """A room with two balls, the left one first, or with one face; JSON-able. `kind` is one of HARD_SHARES.

    `unseen` is a ball that is heard and not in the picture.
    """

    kind: str
    room: str
    background: str
    parts: tuple[BallScene, ...] | tuple[FaceScene, ...]
    video_caption: str
    audio_caption: str
    unseen: BallScene | None = None

    @property
    def transcript(self) -> str:
        return self.parts[0].transcript

    @property
    def materials(self) -> tuple[str, ...]:
        """Of the floor under each ball."""
        return tuple(part.material for part in self.parts if isinstance(part, BallScene))


def sample_hard_scene(rng: np.random.Generator, kind: str | None = None) -> HardScene:
    """Draw a scene; `kind` is one of HARD_SHARES, or None to draw that too.

    Raises:
        ValueError: an unknown kind.
    """
    kind = draw_kind(rng, kind, HARD_SHARES)
    room, background = pick(rng, ROOMS), pick(rng, BACKGROUNDS)
    if kind == "two balls":
        balls = _two_balls(rng, background)
        first, second = balls
        video = pick(rng, _BALLS).format(first.colour, first.material, second.colour, second.material)
        audio = pick(rng, _HITS).format(first.material, second.material)
        video = with_article(video)
        return HardScene(
            kind=kind, room=room, background=background, parts=balls, video_caption=video, audio_caption=audio
        )
    face = _face(rng, background)
    video = pick(rng, _FACES).format(person=face.person, hair=face.hair, shirt=face.shirt)
    return HardScene(
        kind=kind,
        room=room,
        background=background,
        parts=(face,),
        video_caption=with_article(video),
        audio_caption=f"a {face.person} speaks",
    )


def sample_unseen_scene(rng: np.random.Generator, kind: str | None = None) -> HardScene:
    """A hard scene, with a ball that is not in the picture beside two that are. Raises as `sample_hard_scene`."""
    scene = sample_hard_scene(rng, kind)
    if scene.kind != "two balls":
        return scene
    heard = np.array([at for part in scene.parts if isinstance(part, BallScene) for at in part.impact_times])
    while True:
        bounces = draw_bounces(rng)
        apart = tuple(t for t in bounces if 0 <= t < SECONDS - TAIL_S and np.abs(heard - t).min() >= IMPACT_GAP)
        if apart:
            break
    material = pick(rng, tuple(each for each in MATERIALS if each not in scene.materials))
    pitch = uniform(rng, 0.94, 1.06)
    unseen = replace(scene.parts[0], x=0.0, material=material, pitch=pitch, bounce_times=bounces, impact_times=apart)
    caption = _THREE_HITS.format(*scene.materials, material)
    return replace(scene, unseen=unseen, audio_caption=caption)


def _two_balls(rng: np.random.Generator, background: str) -> tuple[BallScene, BallScene]:
    colours = [str(each) for each in rng.choice(COLOURS, 2, replace=False)]
    materials = [str(each) for each in rng.choice(MATERIALS, 2, replace=False)]
    while True:
        bounces = [draw_bounces(rng) for _ in range(2)]
        impacts = [tuple(t for t in times if 0 <= t < SECONDS) for times in bounces]
        if min(b - a for a, b in pairwise(sorted(sum(impacts, ())))) >= IMPACT_GAP:
            break
    left, right = (
        BallScene(
            kind="ball",
            background=background,
            x=uniform(rng, centre - 2, centre + 2),
            colour=colours[side],
            material=materials[side],
            pitch=uniform(rng, 0.94, 1.06),
            bounce_times=bounces[side],
            impact_times=impacts[side],
        )
        for side, centre in enumerate((HALF / 2, HALF * 3 / 2))
    )
    return left, right


def _face(rng: np.random.Generator, background: str) -> FaceScene:
    """A plain world's speaking face that starts when it likes, and pauses as long as it likes."""
    face = sample_scene(rng, "face")
    assert isinstance(face, FaceScene)
    words = face.words[: rng.integers(2, 4)]
    times = free_word_times(rng, face.voice, words)
    return replace(face, background=background, words=words, word_times=times, video_caption="", audio_caption="")


def hard_video(scene: HardScene) -> np.ndarray:
    """uint8 [25, 64, 64, 3]."""
    base = backdrop(scene.background)
    draw_room(base, scene.room)
    first = scene.parts[0]
    if isinstance(first, FaceScene):
        draw_face(base, first)
        return as_pixels(face_frames(base, first))
    balls = [part for part in scene.parts if isinstance(part, BallScene)]
    for side, ball in enumerate(balls):
        draw_floor(base.columns(side * HALF, (side + 1) * HALF), ball.material)
    frames = []
    for heights in zip(*(ball_heights(ball) for ball in balls), strict=True):
        frame = base.copy()
        for ball, height in zip(balls, heights, strict=True):
            draw_ball(frame, ball.x, height, PAINTS[ball.colour])
        frames.append(frame.pixels)
    return as_pixels(frames)


def hard_audio(scene: HardScene) -> np.ndarray:
    """Everything that is heard in the room: float32 [32000]."""
    heard = (*scene.parts, *([scene.unseen] if scene.unseen else []))
    dry = np.stack([scene_audio(part) for part in heard]).sum(axis=0, dtype=np.float64)
    return np.clip(reverberate(dry, scene.room), -1, 1).astype(np.float32)
