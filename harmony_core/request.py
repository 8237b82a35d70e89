"""What is asked for, and what comes back.

Every field of `GenerateRequest` says in its metadata what it means and within which bounds: the command line's options
and the lines of a prompts file are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import HarmonyConfig
from .geometry import MAX_SIDE, as_fps
from .quoting import quoted

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .media import AudioClip, VideoClip

CLIP_FORMS = ("trained", "untrained")
STATIC_VIDEOS = ("auto", "grey", "image", "estimate")
NEGATIVE_SCALES = ("video_negative_scale", "audio_negative_scale")
REFERENCE_SCALES = ("video_reference_scale", "audio_reference_scale")


@dataclass(frozen=True)
class Setting:
    """What a field of a request is to a person.

    `kind` is what is written for it: str, int, float, Fraction (a frame rate) or Path (a file that is read). Bounds are
    beyond any use, and within what a machine refuses itself rather than dies of. `per_clip` fields may differ within a
    batch.
    """

    help: str
    kind: type
    low: float = -1_000_000
    high: float = 1_000_000
    per_clip: bool = False


def setting(help: str, kind: type, **more: Any) -> dict[str, Setting]:
    """Metadata of a field; see `Setting`."""
    return {"setting": Setting(help, kind, **more)}


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What to make. None means the checkpoint's own value.

    `image` (uint8 [H, W, 3]) becomes the first frame; `video` is kept and gets a sound; `audio` is kept and gets a
    picture. `reference_images` (uint8 [H, W, 3] each, of any size) show somebody or something that should be seen,
    `reference_audio` lets one hear a voice or timbre. `static_video`, SyncCFG's still: `image` (the given first frame),
    `grey`, `estimate` (of each step's own estimate) or `auto` (the image if there is one, else grey). `notes` says what
    was converted when the media were read.

    Raises:
        ValueError: settings that contradict each other, or as `check_numbers`.
    """

    prompt: str = field(metadata=setting("What is to be seen.", str, per_clip=True))
    audio_prompt: str = field(default="", metadata=setting("What is to be heard.", str, per_clip=True))
    transcript: str = field(default="", metadata=setting("Words to be spoken.", str, per_clip=True))
    language: str = field(default="en", metadata=setting("Of the transcript, en or zh (UniAVGen).", str, per_clip=True))
    reference_transcript: str = field(
        default="", metadata=setting("What the reference voice says (UniAVGen).", str, per_clip=True)
    )
    negative_prompt: str | None = field(
        default=None,
        metadata=setting("What is not to be seen (text guidance); default: the model's.", str, per_clip=True),
    )
    negative_audio_prompt: str | None = field(
        default=None,
        metadata=setting("What is not to be heard (text guidance); default: the model's.", str, per_clip=True),
    )
    image: np.ndarray | None = field(default=None, repr=False, metadata=setting("First frame.", Path, per_clip=True))
    video: VideoClip | None = field(
        default=None, repr=False, metadata=setting("Video that gets a sound.", Path, per_clip=True)
    )
    audio: AudioClip | None = field(
        default=None, repr=False, metadata=setting("Sound that gets a picture.", Path, per_clip=True)
    )
    reference_audio: AudioClip | None = field(
        default=None, repr=False, metadata=setting("Voice or timbre to follow.", Path, per_clip=True)
    )
    reference_seconds: float | None = field(
        default=None,
        metadata=setting("How much of the reference is heard; default: the model's.", float, low=0, high=3600),
    )
    reference_images: tuple[np.ndarray, ...] = field(
        default=(),
        repr=False,
        metadata=setting("Somebody or something to be seen again; once for each picture (DreamID-Omni).", Path),
    )
    seconds: float | None = field(
        default=None, metadata=setting("Length; default: the given media's, else the model's.", float, low=0, high=3600)
    )
    fps: float | Fraction | None = field(
        default=None,
        metadata=setting(
            "Frames a second, such as 24, 23.976 or 30000/1001; default: the model's.", Fraction, low=0, high=240
        ),
    )
    width: int | None = field(default=None, metadata=setting("Default: the model's.", int, low=1, high=MAX_SIDE))
    height: int | None = field(default=None, metadata=setting("Default: the model's.", int, low=1, high=MAX_SIDE))
    seed: int = field(
        default=0,
        metadata=setting("The same seed gives the same clip.", int, low=-(2**63), high=2**64 - 1, per_clip=True),
    )
    steps: int | None = field(default=None, metadata=setting("Sampling steps; default: the model's.", int))
    shift: float | None = field(default=None, metadata=setting("Of the noise schedule; default: the model's.", float))
    solver: str = field(default="euler", metadata=setting("Name of a solver; a wrong one lists them.", str))
    video_sync_scale: float | None = field(
        default=None, metadata=setting("SyncCFG of the video; 1 is off, no cost.", float)
    )
    audio_sync_scale: float | None = field(
        default=None, metadata=setting("SyncCFG of the sound; 1 is off, no cost.", float)
    )
    video_text_scale: float | None = field(
        default=None, metadata=setting("Text guidance of the video; 1 is off.", float)
    )
    audio_text_scale: float | None = field(
        default=None, metadata=setting("Text guidance of the sound; 1 is off.", float)
    )
    video_negative_scale: float | None = field(
        default=None, metadata=setting("UniAVGen's guidance of the video; 1 is off.", float)
    )
    audio_negative_scale: float | None = field(
        default=None, metadata=setting("UniAVGen's guidance of the sound; 1 is off.", float)
    )
    video_reference_scale: float | None = field(
        default=None, metadata=setting("How closely the video follows the reference images; 1 is off.", float)
    )
    audio_reference_scale: float | None = field(
        default=None, metadata=setting("How closely the sound follows appended reference audio; 1 is off.", float)
    )
    clip_form: str = field(
        default="trained",
        metadata=setting(f"{', '.join(CLIP_FORMS)}: whether UniAVGen's clip may be of another length.", str),
    )
    static_video: str = field(default="auto", metadata=setting(f"SyncCFG's still: {', '.join(STATIC_VIDEOS)}.", str))
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        if self.video is not None and self.audio is not None:
            raise ValueError("Both video and audio are given, so nothing is left to generate; leave one of them out.")
        if self.video is not None and self.image is not None:
            raise ValueError("Both video and image are given, but the video already has a first frame; leave one out.")
        if self.static_video not in STATIC_VIDEOS:
            raise ValueError(f"static_video is {quoted(self.static_video)}; choose one of {', '.join(STATIC_VIDEOS)}.")
        if self.clip_form not in CLIP_FORMS:
            raise ValueError(f"clip_form is {quoted(self.clip_form)}; choose one of {', '.join(CLIP_FORMS)}.")
        if self.static_video == "image" and self.image is None:
            raise ValueError("static_video is 'image', but no image is given; give one or choose 'grey'.")


SETTINGS: dict[str, Setting] = {
    item.name: item.metadata["setting"] for item in fields(GenerateRequest) if "setting" in item.metadata
}
MEDIA = tuple(name for name, each in SETTINGS.items() if each.kind is Path and name != "reference_images")
NUMBERS = tuple(name for name, each in SETTINGS.items() if each.kind in (int, float, Fraction))


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
    for name in NUMBERS:
        value, low, high = values.get(name), SETTINGS[name].low, SETTINGS[name].high
        if value is not None and not low <= value <= high:
            value = float(value) if isinstance(value, Fraction) else value
            raise ValueError(f"{name} is {value}, but must be a number from {low} to {high}.")
    fps = values.get("fps")
    if fps is not None and max(as_fps(fps).as_integer_ratio()) >= 2**31:
        raise ValueError(f"fps is {float(fps)}, finer than a video file can state; round it to 6 decimals.")


def check_batch(requests: Sequence[GenerateRequest]) -> None:
    """Requests of one batch differ in texts, seeds and the content of media only.

    Raises:
        ValueError: names the first setting that differs.
    """
    first = requests[0]
    for request in requests[1:]:
        for name, each in SETTINGS.items():
            one, other = getattr(first, name), getattr(request, name)
            if name in MEDIA:
                one, other = one is not None, other is not None
            elif name == "reference_images":
                one, other = len(one), len(other)
            if (name in MEDIA or not each.per_clip) and one != other:
                raise ValueError(f"Requests of one batch differ in {name} ({one} and {other}); run them apart.")


def check_supported(request: GenerateRequest, config: HarmonyConfig) -> None:
    """What a checkpoint cannot do is an error, never left out silently.

    Raises:
        ValueError: names the input, the reason, and the fix.
    """
    if config.starts_from_picture:
        _check_speaker(request)
    given = {name for name in MEDIA if getattr(request, name) is not None}
    given |= {
        name
        for name in ("audio_prompt", "transcript", "reference_images", "reference_transcript")
        if getattr(request, name)
    }
    given |= {name for name in ("audio_sync_scale", "audio_text_scale") if getattr(request, name) is not None}
    given |= {name for name in (*REFERENCE_SCALES, *NEGATIVE_SCALES) if getattr(request, name) not in (None, 1)}
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
    if config.reads_transcript_across:
        refused["audio_prompt"] = "this checkpoint reads a transcript in the place of it"
    else:
        refused |= dict.fromkeys(NEGATIVE_SCALES, "this checkpoint has no guidance of that kind")
        refused["reference_transcript"] = "this checkpoint follows a voice without its words"
    for name in sorted(refused):
        if name in given or name == "video_sync_scale":
            raise ValueError(f"{name} is given, but {refused[name]}; leave it out.")


def _check_speaker(request: GenerateRequest) -> None:
    """UniAVGen starts from a picture, and follows a voice by its words."""
    if request.image is None and request.video is None:
        raise ValueError("image is missing, but this checkpoint needs a first frame to start from; give one.")
    if (request.reference_audio is None) != (not request.reference_transcript):
        there, missing = ("reference_audio", "reference_transcript")
        if request.reference_audio is None:
            there, missing = missing, there
        raise ValueError(f"{there} is given without {missing}, but this checkpoint needs both; give it as well.")
