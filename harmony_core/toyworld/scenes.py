"""What happens in one clip of the toy world. Times in seconds, lengths in pixels."""

from __future__ import annotations

from dataclasses import dataclass

from .words import word_seconds

FPS = "12.5"
SIZE = 64
NUM_FRAMES = 25
SECONDS = NUM_FRAMES / float(FPS)
HELD_OUT_SEED = 1_000_000  # training draws its scenes from the seeds below, evaluation from this one on

BACKGROUNDS = ("sky", "sand", "mint", "lilac")
SKINS = ("light", "tan", "brown")
BOUNCE_SECONDS = (0.36, 0.74)  # shortest and longest time between two impacts


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What balls and faces have in common. `kind` is one of `sample.SHARES`; `x` is where the ball or the face is."""

    kind: str
    background: str
    x: float
    video_caption: str = ""
    audio_caption: str = ""


@dataclass(frozen=True, kw_only=True)
class BallScene(_Scene):
    """A ball on a floor; JSON-able. Without bounces it rests.

    `bounce_times` runs past both ends of the clip, so that the ball's flight is defined everywhere; `impact_times`
    are those within it. `pitch` scales the impact's resonances.
    """

    colour: str
    material: str
    pitch: float
    bounce_times: tuple[float, ...] = ()
    impact_times: tuple[float, ...] = ()

    @property
    def transcript(self) -> str:
        """Balls say nothing."""
        return ""


@dataclass(frozen=True, kw_only=True)
class FaceScene(_Scene):
    """A face that speaks, perhaps beside a ticking lamp; JSON-able. Without words it is silent.

    `voice` is one of two voices of the same `person`.
    """

    y: float
    person: str
    voice: str
    hair: str
    skin: str
    shirt: str
    blink_times: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    word_times: tuple[float, ...] = ()
    loudness: float = 1.0
    tick_times: tuple[float, ...] = ()
    lamp_x: float = 0.0  # where there are ticks

    @property
    def transcript(self) -> str:
        return " ".join(self.words)

    @property
    def manners(self) -> tuple[str, ...]:
        """The loudness and rate words that are true of the speech."""
        if not self.words:
            return ()
        ends = [at + word_seconds(self.voice, word) for at, word in zip(self.word_times, self.words, strict=True)]
        gaps = [start - end for start, end in zip(self.word_times[1:], ends, strict=False)]
        manners = ("quietly",) if self.loudness < 0.55 else ("loudly",) if self.loudness > 1.2 else ()
        if max(gaps) < 0.16:
            return (*manners, "quickly")
        return (*manners, "slowly") if min(gaps) > 0.24 else manners


Scene = BallScene | FaceScene
