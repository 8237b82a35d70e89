"""What happens in one clip of the toy world, drawn from a random generator. Times in seconds, lengths in pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .captions import COLOURS, HAIR_COLOURS, MATERIALS, PERSONS, write_captions
from .words import VOICES, WORDS, word_seconds

FPS = "12.5"
SIZE = 64
NUM_FRAMES = 25
SECONDS = NUM_FRAMES / float(FPS)
HELD_OUT_SEED = 1_000_000  # training draws its scenes from the seeds below, evaluation from this one on

SHARES = {"ball": 0.38, "face": 0.46, "complex": 0.12, "still": 0.04}
BACKGROUNDS = ("sky", "sand", "mint", "lilac")
SKINS = ("light", "tan", "brown")
# An impact outside this span would be heard but not seen to turn round, or the other way about.
IMPACT_SPAN = (0.12, 1.78)
BOUNCE_SECONDS = (0.36, 0.74)  # shortest and longest time between two impacts
WORD_GAP = 0.12


@dataclass(frozen=True)
class Scene:
    """Everything that `render` needs; JSON-able. Fields that do not apply are empty.

    `bounce_times` runs past both ends of the clip, so that the ball's flight is defined everywhere; `impact_times`
    are those within it. `voice` is one of two voices of the same `person`. `pitch` scales the impact's resonances.
    """

    kind: str
    background: str
    x: float
    y: float = 0.0
    ball_colour: str = ""
    material: str = ""
    bounce_times: tuple[float, ...] = ()
    impact_times: tuple[float, ...] = ()
    pitch: float = 1.0
    person: str = ""
    voice: str = ""
    hair: str = ""
    skin: str = ""
    shirt: str = ""
    words: tuple[str, ...] = ()
    word_times: tuple[float, ...] = ()
    loudness: float = 1.0
    blink_times: tuple[float, ...] = ()
    tick_times: tuple[float, ...] = ()
    lamp_x: float = 0.0
    video_caption: str = ""
    audio_caption: str = ""
    transcript: str = ""

    @property
    def manners(self) -> tuple[str, ...]:
        """The loudness and rate words that are true of the speech."""
        if not self.words:
            return ()
        gap = self.word_times[1] - self.word_times[0] - word_seconds(self.voice, self.words[0])
        manners = ("quietly",) if self.loudness < 0.55 else ("loudly",) if self.loudness > 1.2 else ()
        if gap < 0.16:
            return (*manners, "quickly")
        return (*manners, "slowly") if gap > 0.24 else manners


def sample_scene(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """Draw a scene; `kind` is one of SHARES, or None to draw that too.

    Raises:
        ValueError: an unknown kind.
    """
    if kind is None:
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if kind not in SHARES:
        raise ValueError(f'The kind of scene "{kind}" is unknown; use one of {", ".join(SHARES)}.')
    common = {"kind": kind, "background": _pick(rng, BACKGROUNDS)}
    shows_ball = kind == "ball" or (kind == "still" and rng.random() < 0.5)
    scene = _ball_scene(rng, common) if shows_ball else _face_scene(rng, common)
    video_caption, audio_caption = write_captions(scene, rng)
    return replace(scene, video_caption=video_caption, audio_caption=audio_caption, transcript=" ".join(scene.words))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)


def _ball_scene(rng: np.random.Generator, common: dict[str, str]) -> Scene:
    scene = Scene(
        **common,
        x=_uniform(rng, 27, 37),
        ball_colour=_pick(rng, COLOURS),
        material=_pick(rng, MATERIALS),
        pitch=_uniform(rng, 0.94, 1.06),
    )
    if common["kind"] == "still":
        return scene
    bounces = _bounce_times(rng)
    impacts = tuple(t for t in bounces if 0 <= t < SECONDS)
    return replace(scene, bounce_times=bounces, impact_times=impacts)


def _bounce_times(rng: np.random.Generator) -> tuple[float, ...]:
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


def _face_scene(rng: np.random.Generator, common: dict[str, str]) -> Scene:
    person = _pick(rng, PERSONS)
    scene = Scene(
        **common,
        x=_uniform(rng, 30, 34),
        y=_uniform(rng, -1, 1),
        person=person,
        voice=_pick(rng, VOICES[person]),
        hair=_pick(rng, HAIR_COLOURS),
        skin=_pick(rng, SKINS),
        shirt=_pick(rng, COLOURS),
        blink_times=(_uniform(rng, 0.2, 1.8),) if rng.random() < 0.6 else (),
    )
    if common["kind"] == "still":
        return scene
    words = tuple(str(w) for w in rng.choice(WORDS, size=rng.integers(2, 5), replace=False))
    manner = rng.random()
    loudness = (0.35, 0.5) if manner < 0.25 else (1.3, 1.5) if manner > 0.75 else (0.75, 1.05)
    scene = replace(
        scene, words=words, word_times=_word_times(rng, scene.voice, words), loudness=_uniform(rng, *loudness)
    )
    if common["kind"] == "complex":
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


def _tick_times(rng: np.random.Generator) -> tuple[float, ...]:
    """Two to four random moments at least 0.3 s apart."""
    while True:
        times = np.sort(rng.uniform(0.1, 1.8, rng.integers(2, 5)))
        if np.diff(times).min() >= 0.3:
            return tuple(round(float(t), 4) for t in times)
