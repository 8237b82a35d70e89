"""Guidance as deltas on the joint prediction.

out = joint + sum_k (scale_k - 1) * (joint - negative_k), per modality. Everything is linear, so predictions may be
velocities, noise or clean estimates. A scale of 1 costs no pass and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .latents import AVLatents

JOINT = "joint"
MUTE_AUDIO, STATIC_VIDEO = "mute_audio", "static_video"
NEGATIVE_TEXT, ISOLATED, SKIP_LAYER = "negative_text", "isolated", "skip_layer"
NEGATIVE_ISOLATED, NEGATIVE_SKIP = "negative_isolated", "negative_skip_layer"
NO_REFERENCE_IMAGE, NO_REFERENCE_AUDIO = "no_reference_image", "no_reference_audio"


@dataclass(frozen=True, kw_only=True)
class PassChange:
    """What a pass changes of the joint one. Every sampler reads it here: the denoiser and ComfyUI's guider.

    Args:
        anchor: the stream, `video` or `audio`, that its anchor stands in for: clean, and the driver of the other.
        negative_text: the texts are the negative ones.
        without: the stream whose reference is zeros.
        isolated: neither stream hears the other.
        skips_layers: the layers that a `SkipLayer` names are left out.
    """

    anchor: str | None = None
    negative_text: bool = False
    without: str | None = None
    isolated: bool = False
    skips_layers: bool = False

    @property
    def changes_driver(self) -> bool:
        """Whether a driver's keys and values are others than in the joint pass."""
        return self.anchor is not None or self.negative_text or self.without is not None


PASSES = {  # in the order in which a step runs them
    JOINT: PassChange(),
    NEGATIVE_TEXT: PassChange(negative_text=True),
    NEGATIVE_ISOLATED: PassChange(negative_text=True, isolated=True, skips_layers=True),
    NEGATIVE_SKIP: PassChange(negative_text=True, skips_layers=True),
    NO_REFERENCE_IMAGE: PassChange(without="video"),
    NO_REFERENCE_AUDIO: PassChange(without="audio"),
    MUTE_AUDIO: PassChange(anchor="audio"),
    STATIC_VIDEO: PassChange(anchor="video"),
    ISOLATED: PassChange(isolated=True),
    SKIP_LAYER: PassChange(skips_layers=True),
}


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """A scale per modality, active from `start` to `stop` (fractions of the run) on every `interval`-th step."""

    video_scale: float
    audio_scale: float
    start: float = 0.0
    stop: float = 1.0
    interval: int = 1

    def __post_init__(self) -> None:
        for stream, scale in (("video", self.video_scale), ("audio", self.audio_scale)):
            if not math.isfinite(scale):
                raise ValueError(f"A {stream} guidance scale is {scale}; write a number, 1 for none.")
        if not 0 <= self.start <= self.stop <= 1:
            raise ValueError(f"Guidance range {self.start:g} to {self.stop:g} must satisfy 0 <= start <= stop <= 1.")
        if self.interval < 1:
            raise ValueError(f"Guidance interval is {self.interval}, but must be 1 (every step) or more.")

    @property
    def negatives(self) -> tuple[str, str]:
        """Names of the passes that video and audio are pushed away from."""
        raise NotImplementedError

    def active(self, step: int, num_steps: int) -> bool:
        first = round(self.start * num_steps)
        return first <= step < round(self.stop * num_steps) and (step - first) % self.interval == 0

    def passes(self, generates_video: bool, generates_audio: bool) -> tuple[str, ...]:
        """The extra passes: none for a scale of 1, nor for a modality that is given."""
        video, audio = self.negatives
        wanted = []
        if generates_video and self.video_scale != 1:
            wanted.append(video)
        if generates_audio and self.audio_scale != 1 and audio not in wanted:
            wanted.append(audio)
        return tuple(wanted)

    def delta(self, predictions: Mapping[str, AVLatents]) -> tuple[Tensor | float, Tensor | float]:
        """What to add to the joint video and audio predictions. A pass that was not run adds nothing."""
        joint = predictions[JOINT]
        video, audio = self.negatives
        delta_video = delta_audio = 0.0
        if self.video_scale != 1 and video in predictions:
            delta_video = (self.video_scale - 1) * (joint.video - predictions[video].video)
        if self.audio_scale != 1 and audio in predictions and joint.audio is not None:
            delta_audio = (self.audio_scale - 1) * (joint.audio - predictions[audio].sound)
        return delta_video, delta_audio


class SyncCFG(Guidance):
    """Away from "mute audio" for video (paper eq. 9) and from "static video" for audio (eq. 10).

    v = driven_v(mute) + s_v * (joint_v - driven_v(mute)) and likewise for audio; the text stays on in all passes.
    """

    @property
    def negatives(self) -> tuple[str, str]:
        return MUTE_AUDIO, STATIC_VIDEO


class TextCFG(Guidance):
    """Ordinary classifier-free guidance, a scale per modality."""

    @property
    def negatives(self) -> tuple[str, str]:
        return NEGATIVE_TEXT, NEGATIVE_TEXT


class ReferenceCFG(Guidance):
    """Away from reference images of zeros for video, and from a reference sound of zeros for audio (DreamID-Omni).

    DreamID-Omni writes v = negative + t * (joint - negative) + r * (joint - no_reference), so that t is the scale of
    `TextCFG` and r + 1 the one here.
    """

    @property
    def negatives(self) -> tuple[str, str]:
        return NO_REFERENCE_IMAGE, NO_REFERENCE_AUDIO


class Isolated(Guidance):
    """Away from the two streams deaf to each other (what LTX-2 calls modality guidance)."""

    @property
    def negatives(self) -> tuple[str, str]:
        return ISOLATED, ISOLATED


@dataclass(frozen=True, kw_only=True)
class SkipLayer(Guidance):
    """Away from the same model with `layers` left out."""

    layers: tuple[int, ...]

    @property
    def negatives(self) -> tuple[str, str]:
        return SKIP_LAYER, SKIP_LAYER


@dataclass(frozen=True, kw_only=True)
class ModalityAwareCFG(SkipLayer):
    """Away from one pass of negative texts, without `layers` and, where `isolated`, both streams deaf (UniAVGen).

    It is published in two ranges, of which the first is isolated; their border is rounded down.
    """

    isolated: bool

    @property
    def negatives(self) -> tuple[str, str]:
        name = NEGATIVE_ISOLATED if self.isolated else NEGATIVE_SKIP
        return name, name

    def active(self, step: int, num_steps: int) -> bool:
        return int(self.start * num_steps) <= step < int(self.stop * num_steps)


@dataclass(frozen=True)
class GuidancePlan:
    """Which passes each step needs, merged over all guidances, and how their predictions combine."""

    guidances: tuple[Guidance, ...]
    num_steps: int
    generates_video: bool = True
    generates_audio: bool = True

    def passes(self, step: int) -> tuple[str, ...]:
        """Pass names in a fixed order; `joint` is always first."""
        wanted = {JOINT}
        for guidance in self._active(step):
            wanted.update(guidance.passes(self.generates_video, self.generates_audio))
        return tuple(name for name in PASSES if name in wanted)

    def combine(self, step: int, predictions: Mapping[str, AVLatents]) -> AVLatents:
        video, audio = predictions[JOINT]
        for guidance in self._active(step):
            delta_video, delta_audio = guidance.delta(predictions)
            video = video + delta_video
            audio = None if audio is None else audio + delta_audio
        return AVLatents(video, audio)

    @property
    def passes_per_step(self) -> float:
        """Mean number of model passes over the run."""
        return sum(len(self.passes(step)) for step in range(self.num_steps)) / self.num_steps

    @property
    def skipped_layers(self) -> frozenset[int]:
        """Layers that the `skips_layers` passes leave out."""
        return frozenset(
            layer for guidance in self.guidances if isinstance(guidance, SkipLayer) for layer in guidance.layers
        )

    def _active(self, step: int) -> list[Guidance]:
        return [guidance for guidance in self.guidances if guidance.active(step, self.num_steps)]
