"""ComfyUI's context windows on latents of video and sound: a long clip made in overlapping shorter ones."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from comfy.context_windows import ContextSchedules, IndexListCallbacks, IndexListContextWindow
from comfy.patcher_extension import add_callback_with_key, copy_nested_dicts
from torch import Tensor

from ...harmony_core.config import HarmonyConfig
from ...harmony_core.geometry import as_fraction, clip_fps, num_audio_latents
from .av_latent import Shapes, pack, unpack

HANDLER = "context_handler"  # where ComfyUI keeps a model's context windows, in its options
TIME_AXIS = 2
UNBROKEN = (ContextSchedules.STATIC_STANDARD, ContextSchedules.UNIFORM_STANDARD, ContextSchedules.BATCHED)


def check_windows(model: Any, options: dict[str, Any]) -> None:
    """Raises ValueError, before anything is sampled, for context windows that cannot work on this model."""
    handler = options.get(HANDLER)
    if handler is None:
        return
    if not hasattr(IndexListContextWindow, "get_window_for_modality"):
        raise ValueError(
            "This ComfyUI cannot cut video and sound into context windows together (newer ones can, from 0.26 on); "
            "update it, or take the context windows node out."
        )
    if not hasattr(model, "map_context_window_to_modalities"):
        raise ValueError(
            f"{type(model).__name__} does not say which sound belongs to which frames, so it has no context windows; "
            "take the context windows node out."
        )
    if handler.dim != TIME_AXIS:
        raise ValueError(
            f"The context windows cut dim {handler.dim}, but time is dim {TIME_AXIS} of video latents; set dim to "
            f"{TIME_AXIS}."
        )


def check_own_windows(handler: Any) -> None:
    """What Harmony models ask beyond that: each window is a clip, and every sound lies in one. Raises ValueError."""
    schedule = handler.context_schedule.name
    if schedule not in UNBROKEN or handler.context_stride != 1:
        raise ValueError(
            f"Context windows of schedule {schedule} and stride {handler.context_stride} have gaps or end where they "
            f"began, which a clip with sound cannot; choose {' or '.join(UNBROKEN)}, with stride 1."
        )
    overlaps = schedule == ContextSchedules.STATIC_STANDARD and handler.context_overlap > 0
    if not handler.causal_window_fix and not overlaps:
        raise ValueError(
            f"Context windows of schedule {schedule} with an overlap of {handler.context_overlap} leave out the sound "
            f"between them; turn causal_window_fix on, or choose {ContextSchedules.STATIC_STANDARD} and an overlap of "
            "1 or more."
        )


def audio_of_window(
    frames: list[int], num_latent_frames: int, num_audio: int, config: HarmonyConfig, with_frame_before: bool
) -> list[int]:
    """The audio latents of a window of video latents, so many as a clip of the window's length has.

    A window's first latent is to the model what latent 0 is, one frame, though it stands for `temporal_stride`. So
    the sound begins with the last of these: all that follow then have their true times.

    Args:
        frames: consecutive video latents of a clip of `num_latent_frames` and `num_audio`.
        with_frame_before: whether ComfyUI puts the latent before the window in front of it (causal_window_fix).
    """
    first = frames[0] - (with_frame_before and frames[0] > 0)
    count = frames[-1] + 1 - first
    fps = clip_fps(num_latent_frames, num_audio, config)
    start = round(config.temporal_stride * first / fps * as_fraction(config.audio_latent_rate))
    if frames[-1] + 1 == num_latent_frames:
        return list(range(start, num_audio))
    return list(range(start, min(start + num_audio_latents(count, fps, config), num_audio)))


def cut_packed(packed: Tensor, shapes: Shapes, window: Any, num_frames: int, device: Any) -> Tensor:
    """What a window sees of a packed latent that a guider added to a conditioning: as ComfyUI cuts the latent itself.

    Args:
        shapes: of the whole clip's streams; frames beyond `num_frames` are guides, of which a window takes its own.
    """
    video, audio = unpack(packed, shapes)
    part = window.get_tensor(video[:, :, :num_frames], device, dim=TIME_AXIS)
    guides = video[:, :, num_frames:][:, :, window.guide_frames_indices].to(part)
    sound = window.get_window_for_modality(1).get_tensor(audio, device, dim=TIME_AXIS)
    return pack(torch.cat((part, guides), dim=TIME_AXIS), sound)


def with_callback(options: dict[str, Any], key: str, callback: Any) -> None:
    """Let `callback` cut conditionings in the context windows of these model options; other models keep theirs."""
    if options.get(HANDLER) is None:
        return
    handler = copy(options[HANDLER])
    handler.callbacks = copy_nested_dicts(handler.callbacks)
    add_callback_with_key(IndexListCallbacks.RESIZE_COND_ITEM, key, callback, handler.callbacks)
    options[HANDLER] = handler
