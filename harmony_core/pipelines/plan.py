"""Which guidances a request gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config import HarmonyConfig
from ..diffusion.guidance import (
    PASSES,
    STATIC_VIDEO,
    Guidance,
    GuidancePlan,
    ModalityAwareCFG,
    ReferenceCFG,
    SyncCFG,
    TextCFG,
)
from ..diffusion.latents import AVLatents
from ..request import GenerateRequest


def guidance_plan(
    request: GenerateRequest,
    config: HarmonyConfig,
    steps: int,
    masks: AVLatents,
    guidances: Sequence[Guidance] | None = None,
) -> GuidancePlan:
    """The scales asked for, else the checkpoint's. There is nothing to guide away from a reference that is not there.

    Args:
        masks: 1 = generate; a stream whose mask is 0 everywhere is not guided.
        guidances: in place of those that the scales ask for.
    """
    if guidances is None:
        guidances = _asked_guidances(request, config)
    generates_audio = masks.audio is not None and bool(masks.audio.any())
    return GuidancePlan(tuple(guidances), steps, bool(masks.video.any()), generates_audio)


def _asked_guidances(request: GenerateRequest, config: HarmonyConfig) -> tuple[Guidance, ...]:
    def scale(name: str) -> float:
        asked = getattr(request, name)
        return getattr(config, name) if asked is None else asked

    return (
        SyncCFG(video_scale=scale("video_sync_scale"), audio_scale=scale("audio_sync_scale")),
        TextCFG(video_scale=scale("video_text_scale"), audio_scale=scale("audio_text_scale")),
        ReferenceCFG(
            video_scale=scale("video_reference_scale") if request.reference_images else 1.0,
            audio_scale=scale("audio_reference_scale") if request.reference_audio is not None else 1.0,
        ),
        *negative_cfg(config, scale("video_negative_scale"), scale("audio_negative_scale")),
    )


def negative_cfg(config: HarmonyConfig, video_scale: float, audio_scale: float) -> tuple[ModalityAwareCFG, ...]:
    """UniAVGen's guidance: both streams deaf in the first share of the steps, then not."""
    share, layers = config.negative_isolated_share, config.negative_skip_layers
    late = ModalityAwareCFG(
        layers=layers, isolated=False, start=share, video_scale=video_scale, audio_scale=audio_scale
    )
    return replace(late, isolated=True, start=0.0, stop=share), late


def unused_settings(request: GenerateRequest, passes: set[str]) -> tuple[str, ...]:
    """Settings that were asked for and change nothing, in words: no pass of the run reads them."""
    notes = []
    if request.static_video != "auto" and STATIC_VIDEO not in passes:
        notes.append(f"static_video {request.static_video!r} is not used: no sound is made, or audio_sync_scale is 1.")
    if not any(PASSES[name].negative_text for name in passes):
        for name in ("negative_prompt", "negative_audio_prompt"):
            if getattr(request, name) is not None:
                notes.append(f"{name} is not used: both text scales are 1.")
    absent = {
        "reference_seconds": request.reference_audio is None,
        "video_reference_scale": not request.reference_images,
    }
    absent["audio_reference_scale"] = request.reference_audio is None
    for name, nothing in absent.items():
        if nothing and getattr(request, name) not in (None, 1):
            notes.append(f"{name} is not used: there is no reference.")
    return tuple(notes)
