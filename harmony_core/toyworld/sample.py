"""Scenes drawn from a random generator. The same generator always gives the same scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .captions import write_captions
from .scenes import BACKGROUNDS, BOUNCE_SECONDS, SECONDS, SKINS, BallScene, FaceScene, Scene
from .vocabulary import COLOURS, HAIR_COLOURS, MATERIALS, PERSONS
from .words import VOICES, WORDS, word_seconds

SHARES = {"ball": 0.38, "face": 0.46, "complex": 0.12, "still": 0.04}
# An impact outside this span would be heard but not seen to turn round, or the other way about.
IMPACT_SPAN = (0.12, 1.78)
WORD_GAP = 0.12


def sample_scene(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """Draw a scene; `kind` is one of SHARES, or None to draw that too.

    Raises:
        ValueError: an unknown kind.
    """
    kind = draw_kind(rng, kind, SHARES)
    background = pick(rng, BACKGROUNDS)
    shows_ball = kind == "ball" or (kind == "still" and rng.random() < 0.5)
    scene = _ball_scene(rng, kind, background) if shows_ball else _face_scene(rng, kind, background)
    return _captioned(scene, rng)


def sample_free_speech(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """A scene whose speech, if any, starts and pauses when it likes. Raises as `sample_scene`."""
    scene = sample_scene(rng, kind)
    if not isinstance(scene, FaceScene) or not scene.words:
        return scene
    return _captioned(replace(scene, word_times=free_word_times(rng, scene.voice, scene.words)), rng)


def sample_mixed_scene(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """One of `sample_scene` or of `sample_free_speech`, as likely. Raises as these."""
    return (sample_scene if rng.random() < 0.5 else sample_free_speech)(rng, kind)


def _captioned(scene: Scene, rng: np.random.Generator) -> Scene:
    video_caption, audio_caption = write_captions(scene, rng)
    return replace(scene, video_caption=video_caption, audio_caption=audio_caption)


def draw_kind(rng: np.random.Generator, kind: str | None, shares: dict[str, float]) -> str:
    """`kind`, or one drawn by its share. Raises ValueError for an unknown one."""
    if kind is None:
        return str(rng.choice(list(shares), p=list(shares.values())))
    if kind not in shares:
        raise ValueError(f'The kind of scene "{kind}" is unknown; use one of {", ".join(shares)}.')
    return kind


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the options."""
    return options[rng.integers(len(options))]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between the two, to four decimals."""
    return round(float(rng.uniform(low, high)), 4)


def _ball_scene(rng: np.random.Generator, kind: str, background: str) -> BallScene:
    scene = BallScene(
        kind=kind,
        background=background,
        x=uniform(rng, 27, 37),
        colour=pick(rng, COLOURS),
        material=pick(rng, MATERIALS),
        pitch=uniform(rng, 0.94, 1.06),
    )
    if kind == "still":
        return scene
    bounces = draw_bounces(rng)
    impacts = tuple(t for t in bounces if 0 <= t < SECONDS)
    return replace(scene, bounce_times=bounces, impact_times=impacts)


def draw_bounces(rng: np.random.Generator) -> tuple[float, ...]:
    """Impacts with a constant restitution: each flight lasts `restitution` times as long as the one before, and
    never less than the shortest."""
    shortest, longest = BOUNCE_SECONDS
    count = rng.choice((2, 3, 4, 5), p=(0.15, 0.3, 0.33, 0.22))
    while True:
        flight, restitution = rng.uniform(0.42, longest), rng.uniform(0.85, 1.0)
        times = [rng.uniform(-flight, 0)]
        while times[-1] < SECONDS:
            times.append(times[-1] + flight)
            flight = max(flight * restitution, shortest)
        first, last = IMPACT_SPAN
        inside = [t for t in times if 0 <= t < SECONDS]
        if len(inside) == count and first <= inside[0] and inside[-1] <= last and times[0] <= -0.03:
            return tuple(round(float(t), 4) for t in times)


def _face_scene(rng: np.random.Generator, kind: str, background: str) -> FaceScene:
    person = pick(rng, PERSONS)
    scene = FaceScene(
        kind=kind,
        background=background,
        x=uniform(rng, 30, 34),
        y=uniform(rng, -1, 1),
        person=person,
        voice=pick(rng, VOICES[person]),
        hair=pick(rng, HAIR_COLOURS),
        skin=pick(rng, SKINS),
        shirt=pick(rng, COLOURS),
        blink_times=(uniform(rng, 0.2, 1.8),) if rng.random() < 0.6 else (),
    )
    if kind == "still":
        return scene
    words = tuple(str(w) for w in rng.choice(WORDS, size=rng.integers(2, 5), replace=False))
    manner = rng.random()
    loudness = (0.35, 0.5) if manner < 0.25 else (1.3, 1.5) if manner > 0.75 else (0.75, 1.05)
    scene = replace(
        scene, words=words, word_times=_word_times(rng, scene.voice, words), loudness=uniform(rng, *loudness)
    )
    if kind == "complex":
        scene = replace(scene, tick_times=_tick_times(rng), lamp_x=float(rng.choice((9.0, 55.0))))
    return scene


def _word_times(rng: np.random.Generator, voice: str, words: tuple[str, ...]) -> tuple[float, ...]:
    """Starts of the words, in order: one gap between all of them, of WORD_GAP or more, around the clip's middle."""
    seconds = [word_seconds(voice, word) for word in words]
    first, last = 0.06, SECONDS - 0.06
    slack = last - first - sum(seconds) - WORD_GAP * (len(words) - 1)
    widest = min(slack / (len(words) + 1), 0.35)
    extra = rng.uniform(0, min(widest, 0.055)) if rng.random() < 0.3 else rng.uniform(0.7, 1.0) * widest
    around = (slack - extra * (len(words) - 1)) / 2
    start = first + around + rng.uniform(-1, 1) * min(around, 0.06)
    starts = []
    for length in seconds:
        starts.append(round(float(start), 4))
        start += length + WORD_GAP + extra
    return tuple(starts)


def free_word_times(rng: np.random.Generator, voice: str, words: tuple[str, ...]) -> tuple[float, ...]:
    """Starts of the words, in order, with pauses of any length around them, but never less than WORD_GAP between."""
    seconds = [word_seconds(voice, word) for word in words]
    free = SECONDS - 0.12 - sum(seconds) - WORD_GAP * (len(words) - 1)
    pauses = rng.dirichlet(np.ones(len(words) + 1)) * free
    starts = 0.06 + np.cumsum(pauses[:-1]) + np.cumsum([0, *(s + WORD_GAP for s in seconds[:-1])])
    return tuple(round(float(start), 4) for start in starts)


def _tick_times(rng: np.random.Generator) -> tuple[float, ...]:
    """Two to four random moments at least 0.3 s apart."""
    while True:
        times = np.sort(rng.uniform(0.1, 1.8, rng.integers(2, 5)))
        if np.diff(times).min() >= 0.3:
            return tuple(round(float(t), 4) for t in times)
