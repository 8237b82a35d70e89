"""What is asked for, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from ..config import HarmonyConfig
from ..geometry import as_fraction
from ..media import MAX_SIDE, AudioClip, VideoClip

STATIC_VIDEOS = ("auto", "grey", "image", "estimate")
MEDIA = ("image", "video", "audio", "reference_audio")
REFERENCE_SCALES = ("video_reference_scale", "audio_reference_scale")
INTEGERS = ("width", "height", "seed", "steps")
NUMBERS = (
    *("seconds", "fps", "shift", "reference_seconds"),
    *("video_sync_scale", "audio_sync_scale", "video_text_scale", "audio_text_scale"),
    *REFERENCE_SCALES,
)
# Beyond any use, and within what a machine refuses itself rather than dies of.
BOUNDS = {"seconds": (0, 3600), "reference_seconds": (0, 3600), "fps": (0, 240), "seed": (-(2**63), 2**64 - 1)}
BOUNDS |= {"width": (1, MAX_SIDE), "height": (1, MAX_SIDE)}
OTHER_BOUNDS = (-1_000_000, 1_000_000)
PER_CLIP = ("prompt", "audio_prompt", "transcript", "negative_prompt", "negative_audio_prompt", "seed", *MEDIA)


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What to make. None means the checkpoint's own value.

    `image` (uint8 [H, W, 3]) becomes the first frame; `video` is kept and gets a sound; `audio` is kept and gets a
    picture. `reference_images` (uint8 [H, W, 3] each, of any size) show somebody or something that should be seen,
    `reference_audio` lets one hear a voice or timbre. `static_video`, SyncCFG's still: `image` (the given first frame),
    `grey`, `estimate` (of each step's own estimate) or `auto` (the image if there is one, else grey).

    Raises:
        ValueError: settings that contradict each other, or as `check_numbers`.
    """

    prompt: str
    audio_prompt: str = ""
    transcript: str = ""
    negative_prompt: str | None = None
    negative_audio_prompt: str | None = None
    seconds: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    image: np.ndarray | None = field(default=None, repr=False)
    video: VideoClip | None = field(default=None, repr=False)
    audio: AudioClip | None = field(default=None, repr=False)
    reference_audio: AudioClip | None = field(default=None, repr=False)
    reference_seconds: float = 0.48
    reference_images: tuple[np.ndarray, ...] = field(default=(), repr=False)
    seed: int = 0
    steps: int | None = None
    shift: float | None = None
    solver: str = "euler"
    video_sync_scale: float | None = None
    audio_sync_scale: float | None = None
    video_text_scale: float | None = None
    audio_text_scale: float | None = None
    video_reference_scale: float | None = None
    audio_reference_scale: float | None = None
    static_video: str = "auto"

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        if self.video is not None and self.audio is not None:
            raise ValueError("Both video and audio are given, so nothing is left to generate; leave one of them out.")
        if self.video is not None and self.image is not None:
            raise ValueError("Both video and image are given, but the video already has a first frame; leave one out.")
        if self.static_video not in STATIC_VIDEOS:
            raise ValueError(f"static_video is {self.static_video!r}; choose one of {', '.join(STATIC_VIDEOS)}.")
        if self.static_video == "image" and self.image is None:
            raise ValueError("static_video is 'image', but no image is given; give one or choose 'grey'.")


@dataclass(frozen=True)
class Generation:
    """A finished clip: `frames` uint8 [F, H, W, 3] at `fps`, `samples` float32 [1, N] at `sample_rate`, exactly as
    long as asked. A checkpoint without sound leaves `samples` and `latents_audio` None. `notes` says in words what was
    snapped, converted or not understood."""

    frames: np.ndarray
    samples: np.ndarray | None
    fps: Fraction
    sample_rate: int
    latents_video: Tensor
    latents_audio: Tensor | None
    notes: tuple[str, ...]
    passes_per_step: float
    seed: int


def check_numbers(values: Mapping[str, Any]) -> None:
    """Numbers of a request, by field; None and what is no number of a request are left alone.

    Raises:
        ValueError: not finite or beyond any use, or a frame rate that no video file can state.
    """
    for name in (*INTEGERS, *NUMBERS):
        value, (low, high) = values.get(name), BOUNDS.get(name, OTHER_BOUNDS)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name} is {value}, but must be a number from {low} to {high}.")
    fps = values.get("fps")
    if fps is not None and max(as_fraction(fps).as_integer_ratio()) >= 2**31:
        raise ValueError(f"fps is {fps}, finer than a video file can state; round it to 6 decimals.")


def check_batch(requests: Sequence[GenerateRequest]) -> None:
    """Requests of one batch differ in texts, seeds and the content of media only.

    Raises:
        ValueError: names the first setting that differs.
    """
    first = requests[0]
    for request in requests[1:]:
        for name in (item.name for item in fields(GenerateRequest)):
            one, other = getattr(first, name), getattr(request, name)
            if name in MEDIA:
                one, other = one is not None, other is not None
            if name == "reference_images":
                one, other = len(one), len(other)
            if (name in MEDIA or name not in PER_CLIP) and one != other:
                raise ValueError(f"Requests of one batch differ in {name} ({one} and {other}); run them apart.")


def check_supported(request: GenerateRequest, config: HarmonyConfig) -> None:
    """What a checkpoint cannot do is an error, never left out silently.

    Raises:
        ValueError: names the input, the reason, and the fix.
    """
    given = {name for name in MEDIA if getattr(request, name) is not None}
    given |= {name for name in ("audio_prompt", "transcript", "reference_images") if getattr(request, name)}
    given |= {name for name in ("audio_sync_scale", "audio_text_scale") if getattr(request, name) is not None}
    given |= {name for name in REFERENCE_SCALES if getattr(request, name) not in (None, 1)}
    refused: dict[str, str] = {}
    if not config.audio:
        refused = dict.fromkeys(given - {"image"}, "this checkpoint makes pictures without sound")
        if request.video_sync_scale not in (None, 1):
            refused["video_sync_scale"] = "this checkpoint has no sound to sync with"
    elif config.speech is None and config.prompt_format == "separate":
        refused["transcript"] = "this checkpoint reads no transcript"
    if not config.takes_reference_audio:
        refused["reference_audio"] = "this checkpoint was not trained with a reference voice"
    if config.references != "appended":
        refused["reference_images"] = "this checkpoint was not trained with reference images"
        refused |= dict.fromkeys(REFERENCE_SCALES, "this checkpoint has no guidance by references")
    for name in sorted(refused):
        if name in given or name == "video_sync_scale":
            raise ValueError(f"{name} is given, but {refused[name]}; leave it out.")
