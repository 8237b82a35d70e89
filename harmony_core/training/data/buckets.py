"""Buckets: the few sizes, rates and lengths that clips are brought to, so that those of one can be a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from ...config import HarmonyConfig
from ...geometry import ClipGeometry, as_fps, as_fraction, check_clip_form, size_of_picture

SHARES = (Fraction(1), Fraction(3, 4), Fraction(1, 2), Fraction(1, 4))  # of the model's own length, by default
MOST_CROPPED = 2.0  # how far a clip's shape may be off its bucket's


@dataclass(frozen=True)
class Buckets:
    """Every combination of `sizes` (width, height), `rates` (fps) and `lengths` (frames of a rate, longest first).

    No `sizes`: every film in its own shape, as a model that starts from a picture makes it (`size_of_picture`).
    """

    config: HarmonyConfig
    sizes: tuple[tuple[int, int], ...]
    rates: tuple[Fraction, ...]
    seconds: tuple[Fraction, ...]

    @classmethod
    def of(
        cls,
        config: HarmonyConfig,
        sizes: Sequence[tuple[int, int]] = (),
        rates: Sequence[float | str | Fraction] = (),
        seconds: Sequence[float | str | Fraction] = (),
    ) -> Buckets:
        """Those that are named; of what is not, the model's own size and rate, and quarters of its own length.

        A model that starts from a picture has one rate and length, and films keep their own shapes.

        Raises:
            ValueError: a size, rate or length that the model cannot take.
        """
        own, own_size = as_fraction(config.seconds), ((config.width, config.height),)
        if config.starts_from_picture:
            for each in seconds:
                check_clip_form(each, None, config, "leave --seconds out")
            for rate in rates:
                check_clip_form(None, rate, config, "leave --fps out, clips of other rates are brought to that")
            rates, seconds, own_size = (), (own,), ()
        lengths = tuple(as_fraction(each) for each in seconds) or tuple(share * own for share in SHARES)
        made = cls(
            config,
            tuple(sizes) or own_size,
            tuple(as_fps(rate) for rate in rates) or (as_fps(config.fps),),
            tuple(sorted(set(lengths), reverse=True)),
        )
        for width, height in made.sizes:
            for fps in made.rates:
                ClipGeometry.from_seconds(made.seconds[-1], fps, height, width, config)
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """As they are kept with the shards."""
        sizes = [f"{width}x{height}" for width, height in self.sizes] or ["films in their own shapes"]
        return (*sizes, *(f"{rate} fps" for rate in self.rates), *(f"{float(each):g} s" for each in self.seconds))

    @property
    def longest_side(self) -> int:
        """In pixels, of what films become; of films in their own shapes, of the model's own size."""
        return max(max(size) for size in self.sizes or ((self.config.width, self.config.height),))

    def lengths(self, fps: Fraction) -> list[int]:
        """Numbers of frames, longest first: the longest of the form stride * n + 1 within each of `seconds`."""
        stride = self.config.temporal_stride
        counts = (max(1, floor((each * fps - 1) / stride) * stride + 1) for each in self.seconds)
        return sorted(set(counts), reverse=True)

    def film(self, width: int, height: int, fps: Fraction, num_frames: int) -> ClipGeometry:
        """The bucket of a film: the nearest shape and rate, and the longest length that the film fills.

        Raises:
            ValueError: shorter than the shortest, or of quite another shape.
        """
        rate = min(self.rates, key=lambda rate: abs(math.log(rate / fps)))
        there = floor(Fraction(num_frames) / fps * rate + Fraction(1, 2))
        if not self.sizes:
            tall, wide = size_of_picture(height, width, self.config)
            return self._filled(there, rate, (wide, tall))
        shape = width / height
        size = min(self.sizes, key=lambda size: abs(math.log(size[0] / size[1] / shape)))
        off = abs(math.log(size[0] / size[1] / shape))
        if off > math.log(MOST_CROPPED):
            raise ValueError(
                f"its pictures are {width}x{height}, of which less than half would be left at {size[0]}x{size[1]}, the "
                "nearest bucket; add a --size."
            )
        return self._filled(there, rate, size)

    def sound(self, duration_s: Fraction) -> ClipGeometry:
        """The bucket of a sound alone, at the first rate; its size says nothing. Raises ValueError as `film`."""
        there = floor(duration_s * self.rates[0] + Fraction(1, 2))
        return self._filled(there, self.rates[0], (*self.sizes, (self.config.width, self.config.height))[0])

    def _filled(self, there: int, rate: Fraction, size: tuple[int, int]) -> ClipGeometry:
        fitting = [count for count in self.lengths(rate) if count <= there]
        if not fitting:
            shortest = self.lengths(rate)[-1]
            fix = "add a length with --seconds"
            if self.config.starts_from_picture:
                fix = "this model was trained on clips of that length alone"
            raise ValueError(
                f"it has {there} frames at {float(rate):g} fps, but the shortest bucket {shortest} "
                f"({float(shortest / rate):.3g} s); {fix}."
            )
        return ClipGeometry.from_frames(fitting[0], rate, size[1], size[0], self.config)


def bucket_name(geometry: ClipGeometry, has_video: bool) -> str:
    """What clips of one batch share."""
    length = f"{geometry.num_frames} frames, {geometry.num_audio_latents} of sound"
    if not has_video:
        return f"sound alone, {length}"
    return f"{geometry.width}x{geometry.height} at {geometry.fps} fps, {length}"
