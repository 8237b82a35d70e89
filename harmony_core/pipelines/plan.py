"""Which guidances a request gets."""

from __future__ import annotations

from ..config import HarmonyConfig
from ..diffusion.guidance import GuidancePlan, ReferenceCFG, SyncCFG, TextCFG
from ..diffusion.latents import AVLatents
from .request import GenerateRequest


def guidance_plan(request: GenerateRequest, config: HarmonyConfig, steps: int, masks: AVLatents) -> GuidancePlan:
    """The scales asked for, else the checkpoint's. There is nothing to guide away from a reference that is not there.

    Args:
        masks: 1 = generate; a stream whose mask is 0 everywhere is not guided.
    """

    def scale(name: str) -> float:
        asked = getattr(request, name)
        return getattr(config, name) if asked is None else asked

    guidances = (
        SyncCFG(video_scale=scale("video_sync_scale"), audio_scale=scale("audio_sync_scale")),
        TextCFG(video_scale=scale("video_text_scale"), audio_scale=scale("audio_text_scale")),
        ReferenceCFG(
            video_scale=scale("video_reference_scale") if request.reference_images else 1.0,
            audio_scale=scale("audio_reference_scale") if request.reference_audio is not None else 1.0,
        ),
    )
    generates_audio = masks.audio is not None and bool(masks.audio.any())
    return GuidancePlan(guidances, steps, bool(masks.video.any()), generates_audio)
