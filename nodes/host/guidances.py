"""Which guidances a model takes, and which of them do something in a run."""

from __future__ import annotations

from typing import Any

from ...harmony_core.diffusion.guidance import (
    Guidance,
    GuidancePlan,
    Isolated,
    ModalityAwareCFG,
    ReferenceCFG,
    SkipLayer,
    SyncCFG,
)
from ...harmony_core.pipelines.plan import negative_cfg
from .av_models import AVModel
from .model import HarmonyModel


def own_negative(model: Any, video_scale: float, audio_scale: float) -> tuple[Guidance, ...]:
    """UniAVGen's guidance with the layers and the range of steps that the checkpoint says.

    Raises:
        ValueError: a scale other than 1.0 for another model.
    """
    if (video_scale, audio_scale) == (1.0, 1.0):
        return ()
    if not (isinstance(model, HarmonyModel) and model.harmony.starts_from_picture):
        raise ValueError(
            f"Negative scales of {video_scale:g} and {audio_scale:g} are UniAVGen's guidance, which this model lacks; "
            "set both to 1.0. Its text scales guide away from the negative."
        )
    return negative_cfg(model.harmony, video_scale, audio_scale)


def check_guidances(model: Any, kind: AVModel, guidances: tuple[Guidance, ...]) -> None:
    """Raises ValueError for what this model cannot do."""
    appended = isinstance(model, HarmonyModel) and model.harmony.references == "appended"
    layers = len(getattr(model.diffusion_model, kind.blocks))
    for guidance in guidances:
        on = (guidance.video_scale, guidance.audio_scale) != (1.0, 1.0)
        if isinstance(guidance, ReferenceCFG) and not appended:
            raise ValueError("This model has no guidance by references; set both reference scales to 1.0.")
        if isinstance(guidance, ModalityAwareCFG):
            continue  # of the checkpoint's own settings
        if isinstance(guidance, Isolated) and kind.isolated is None:
            raise ValueError(
                f"{kind.title} is one network for both streams and cannot be made deaf to one; set isolation_scale "
                "to 1.0."
            )
        if isinstance(guidance, SyncCFG) and on and kind.needs and not hasattr(model, kind.needs):
            raise ValueError(
                f"In this ComfyUI, {kind.title} takes every latent for noise, so silence and a still picture cannot "
                "be shown to it. Update ComfyUI, or set both sync scales to 1.0."
            )
        if on and guidance.start == guidance.stop:
            raise ValueError(
                f"sync_start and sync_stop are both {guidance.stop:g}, which leaves no step to guide; widen them, or "
                "set the scales to 1.0."
            )
        if isinstance(guidance, SkipLayer):
            unknown = sorted(set(guidance.layers) - set(range(layers)))
            if unknown:
                raise ValueError(f"There is no layer {unknown[0]} to skip: this model has layers 0 to {layers - 1}.")


def idle(guidances: tuple[Guidance, ...], plan: GuidancePlan) -> list[str]:
    """Which guidances are on but have no step in this run."""
    steps = range(plan.num_steps)
    return [
        f"{type(each).__name__} from {each.start:g} to {each.stop:g} of {plan.num_steps} steps is not one step, so it "
        "changes nothing; widen sync_start and sync_stop."
        for each in guidances
        if not isinstance(each, ModalityAwareCFG)  # in two ranges, of which one may be empty
        and each.passes(plan.generates_video, plan.generates_audio)
        and not any(each.active(step, plan.num_steps) for step in steps)
    ]
