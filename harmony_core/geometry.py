"""Every length of a clip, from seconds, fps and size. The only place with length arithmetic.

A causal video VAE with temporal stride s maps frame 0 to latent 0 and frames s*i-s+1 .. s*i to latent i >= 1.
Audio latent j is centred at (j + 1/2) / audio_latent_rate seconds. All times are exact fractions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

from .config import HarmonyConfig

Number = float | str | Fraction  # as a person writes it: 12.5, 30000/1001
MAX_SIDE = 8192  # pixels; players take no larger H.264
# What people write for the rates of NTSC.
NTSC = {
    **dict.fromkeys(("23.976", "23.98"), Fraction(24000, 1001)),
    **{"29.97": Fraction(30000, 1001), "47.952": Fraction(48000, 1001)},
    **{"59.94": Fraction(60000, 1001), "119.88": Fraction(120000, 1001)},
}
AREA_SLACK, SHAPE_SLACK = 1.1, 2.5  # how far a size may be off one that was trained; models see several shapes
RATE_SLACK = 0.01  # 23.976 for 24
SHORTEST, LONGEST = 0.5, 1.25  # of a trained length
FORM_SLACK = 0.01  # of a length or rate that is the only one; people write two decimals


def as_fraction(value: Number) -> Fraction:
    """The decimal a person wrote (12.5, "30000/1001"), not its nearest binary float.

    Raises:
        ValueError: not a finite number.
    """
    try:
        return value if isinstance(value, Fraction) else Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{value} is not a number of seconds or fps; write it like 12.5 or 30000/1001.") from error


def as_fps(value: Number) -> Fraction:
    """A frame rate as `as_fraction` reads it, but 23.976, 29.97 and their like are the rates that they round."""
    rate = as_fraction(value)
    return NTSC.get(f"{float(rate):.6g}", rate)


def rounded_up(value: Fraction) -> int:
    """The nearest whole number, ties upwards."""
    return floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class ClipGeometry:
    """All lengths of one clip.

    `num_frames_asked` frames at `fps` are what the user gets; `num_frames`, the next length of the form
    stride * n + 1, is what is generated. `snapped` says in words what differs from the request.
    """

    num_frames_asked: int
    fps: Fraction
    height: int
    width: int
    num_frames: int
    num_latent_frames: int
    latent_height: int
    latent_width: int
    num_audio_latents: int
    num_samples: int
    sample_rate: int
    snapped: tuple[str, ...] = ()

    @classmethod
    def from_seconds(
        cls,
        seconds: Number,
        fps: Number,
        height: int,
        width: int,
        config: HarmonyConfig,
    ) -> ClipGeometry:
        """Lengths for a clip of `seconds` at `fps`.

        Raises:
            ValueError: not one whole frame, or a size that the model cannot tile.
        """
        seconds, fps = as_fraction(seconds), as_fps(fps)
        if fps <= 0:
            raise _bad_fps(fps, config)
        asked = rounded_up(seconds * fps)
        if asked < 1:
            raise ValueError(
                f"{float(seconds):g} s at {float(fps):g} fps is less than one frame; "
                f"ask for at least {1 / float(fps):g} s."
            )
        geometry = cls.from_frames(asked, fps, height, width, config)
        if abs(asked / fps - seconds) < Fraction(1, 2000):
            return geometry
        said = f"{float(seconds):g} s at {float(fps):g} fps is {float(asked / fps):g} s: {asked} whole frames."
        return replace(geometry, snapped=(said, *geometry.snapped))

    @classmethod
    def from_frames(
        cls, num_frames_asked: int, fps: Number, height: int, width: int, config: HarmonyConfig
    ) -> ClipGeometry:
        """Lengths for exactly `num_frames_asked` frames at `fps`. Raises ValueError as `from_seconds` does."""
        fps, stride = as_fps(fps), config.temporal_stride
        if fps <= 0:
            raise _bad_fps(fps, config)
        if num_frames_asked < 1:
            raise ValueError(f"A clip of {num_frames_asked} frames was asked for; ask for at least 1.")
        unit = config.spatial_stride * config.patch_size[1]
        if height % unit or width % unit or height < unit or width < unit:
            near = max(unit, round(height / unit) * unit), max(unit, round(width / unit) * unit)
            raise ValueError(
                f"Size {width}x{height} must be multiples of {unit} for this checkpoint; "
                f"{near[1]}x{near[0]} is the nearest."
            )
        num_frames = stride * ceil(Fraction(num_frames_asked - 1, stride)) + 1
        num_latent_frames = (num_frames - 1) // stride + 1
        snapped = ()
        if num_frames != num_frames_asked:
            snapped = (
                f"{num_frames} frames are generated and the last {num_frames - num_frames_asked} cut, "
                f"because the video autoencoder takes {stride}n+1 frames.",
            )
        return cls(
            num_frames_asked=num_frames_asked,
            fps=fps,
            height=height,
            width=width,
            num_frames=num_frames,
            num_latent_frames=num_latent_frames,
            latent_height=height // config.spatial_stride,
            latent_width=width // config.spatial_stride,
            num_audio_latents=num_audio_latents(num_latent_frames, fps, config),
            num_samples=round(Fraction(num_frames_asked) / fps * config.sample_rate),
            sample_rate=config.sample_rate,
            snapped=snapped,
        )

    @property
    def duration_s(self) -> float:
        """Length of what the user gets, in seconds."""
        return float(self.num_frames_asked / self.fps)

    def video_shape(self, batch: int, channels: int) -> tuple[int, int, int, int, int]:
        """[B, C, T_v, h, w] of the video latents."""
        return batch, channels, self.num_latent_frames, self.latent_height, self.latent_width

    def audio_shape(self, batch: int, channels: int) -> tuple[int, int, int]:
        """[B, C, T_a] of the audio latents."""
        return batch, channels, self.num_audio_latents


def size_of_picture(height: int, width: int, config: HarmonyConfig) -> tuple[int, int]:
    """Height and width of the clip that starts from a picture of this size, for a model that takes its shape.

    The shorter side becomes the model's shorter side, the other one grows by the same factor; both are rounded up to
    what the model tiles, in exact fractions (as published they are floats, whose noise adds a tile to some sizes).
    """
    unit = config.spatial_stride * config.patch_size[1]
    factor = Fraction(min(config.height, config.width), min(height, width))
    tall, wide = (unit * ceil(side * factor / unit) for side in (height, width))
    return tall, wide


def check_clip_form(seconds: Number | None, fps: Number | None, config: HarmonyConfig, fix: str) -> None:
    """Raises ValueError for another length or rate than the one that a model was trained on. None = its own.

    Args:
        fix: what to do then.
    """
    for name, asked, own in (("seconds", seconds, config.seconds), ("fps", fps, config.fps)):
        trained = float(as_fraction(own))
        if asked is not None and abs(float(as_fraction(asked)) - trained) > FORM_SLACK:
            raise ValueError(
                f"{name} is {float(as_fraction(asked)):g}, but this checkpoint was trained on clips of {trained:g} "
                f"alone; {fix}."
            )


def beyond_training(geometry: ClipGeometry, config: HarmonyConfig) -> tuple[str, ...]:
    """What a checkpoint was not trained for in a clip's size, rate and length, in words."""
    notes = []
    (width, height), (own_width, own_height) = (geometry.width, geometry.height), (config.width, config.height)
    area = width * height / (own_width * own_height)
    shape = max(width, height) / min(width, height) / (max(own_width, own_height) / min(own_width, own_height))
    if config.starts_from_picture:  # it was trained in the shapes of pictures
        area = min(width, height) / min(own_width, own_height)
    if not (1 / AREA_SLACK <= area <= AREA_SLACK and 1 / SHAPE_SLACK <= shape <= SHAPE_SLACK):
        notes.append(f"{width}x{height} is not a size this checkpoint was trained at ({own_width}x{own_height}).")
    rate, trained = float(geometry.fps), float(as_fps(config.fps))
    if abs(rate / trained - 1) > RATE_SLACK:
        notes.append(f"{rate:g} fps is not the rate this checkpoint was trained at ({trained:g} fps).")
    if geometry.num_latent_frames not in dict(config.num_audio_latents):
        trained = float(as_fraction(config.seconds))
        if not SHORTEST * trained <= geometry.duration_s <= LONGEST * trained:
            notes.append(f"{geometry.duration_s:g} s is not a length this checkpoint was trained at ({trained:.3g} s).")
    return tuple(f"{note} Expect a worse clip." for note in notes)


def _bad_fps(fps: Fraction, config: HarmonyConfig) -> ValueError:
    return ValueError(f"fps is {fps}, but must be above 0; this checkpoint was trained at {config.fps}.")


def num_audio_latents(num_latent_frames: int, fps: Fraction, config: HarmonyConfig) -> int:
    """T_a for a clip: the checkpoint's own table where it has one (Ovi), else ceil(F / fps * rate)."""
    table = dict(config.num_audio_latents)
    if fps == as_fraction(config.fps) and num_latent_frames in table:
        return table[num_latent_frames]
    num_frames = config.temporal_stride * (num_latent_frames - 1) + 1
    return ceil(Fraction(num_frames) / fps * as_fraction(config.audio_latent_rate))


@lru_cache(maxsize=64)
def clip_fps(num_latent_frames: int, num_audio: int, config: HarmonyConfig) -> Fraction:
    """The frame rate that two latent lengths imply.

    The transformer sees lengths, not rates: the checkpoint's own fps where it gives this T_a, else F * rate / T_a.
    """
    fps = as_fraction(config.fps)
    if num_audio_latents(num_latent_frames, fps, config) == num_audio:
        return fps
    num_frames = config.temporal_stride * (num_latent_frames - 1) + 1
    return Fraction(num_frames) * as_fraction(config.audio_latent_rate) / num_audio


def latent_frame_span(index: int, fps: Fraction, stride: int) -> tuple[Fraction, Fraction]:
    """[start, end) in seconds of the pixel frames that video latent `index` holds."""
    first = 0 if index == 0 else stride * index - stride + 1
    return Fraction(first) / fps, Fraction(stride * index + 1) / fps


def audio_centre(index: int, config: HarmonyConfig) -> Fraction:
    """Centre of audio latent `index` in seconds."""
    return (index + Fraction(1, 2)) / as_fraction(config.audio_latent_rate)


@lru_cache(maxsize=64)
def a2v_windows(num_latent_frames: int, num_audio: int, config: HarmonyConfig) -> tuple[tuple[int, int], ...]:
    """Per video latent, the [start, end) of the audio latents it may attend to (paper 3.3).

    Audio latents whose centre lies within `config.a2v_window` video latents either side, in true time, clamped to
    the clip and never empty.
    """
    fps = clip_fps(num_latent_frames, num_audio, config)
    stride, reach = config.temporal_stride, config.a2v_window
    rate = as_fraction(config.audio_latent_rate)
    windows = []
    for i in range(num_latent_frames):
        start = latent_frame_span(max(i - reach, 0), fps, stride)[0]
        end = latent_frame_span(min(i + reach, num_latent_frames - 1), fps, stride)[1]
        # centre (j + 1/2) / rate >= time  <=>  j >= time * rate - 1/2
        first = min(max(ceil(start * rate - Fraction(1, 2)), 0), num_audio - 1)
        last = min(max(ceil(end * rate - Fraction(1, 2)), first + 1), num_audio)
        windows.append((first, last))
    return tuple(windows)


@lru_cache(maxsize=64)
def v2a_windows(num_latent_frames: int, num_audio: int, config: HarmonyConfig) -> tuple[tuple[int, int], ...]:
    """Per audio latent, the [start, end) of the video latents it may attend to: its own and
    `config.v2a_window` either side, in true time."""
    fps = clip_fps(num_latent_frames, num_audio, config)
    stride, reach = config.temporal_stride, config.v2a_window
    windows = []
    for j in range(num_audio):
        frame = int(audio_centre(j, config) * fps)
        own = min(ceil(Fraction(frame, stride)), num_latent_frames - 1)
        windows.append((max(own - reach, 0), min(own + reach + 1, num_latent_frames)))
    return tuple(windows)


def group_windows(windows: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int, int], ...]:
    """Runs of queries that share a window: (query_start, query_end, key_start, key_end)."""
    groups: list[tuple[int, int, int, int]] = []
    for index, (start, end) in enumerate(windows):
        if groups and groups[-1][2:] == (start, end):
            groups[-1] = (groups[-1][0], index + 1, start, end)
        else:
            groups.append((index, index + 1, start, end))
    return tuple(groups)
