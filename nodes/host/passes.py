"""What a pass of the guider is to ComfyUI: additions to a conditioning, and the wrapper that acts on them."""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.patcher_extension
import torch
from torch import Tensor

from ...harmony_core.diffusion.guidance import PassChange
from ...harmony_core.model import roles
from .av_models import AVModel
from .model import CACHES, HarmonyModel
from .text_encoder import NOTHING_SAID

ANCHOR, WHERE, OPTIONS = "harmony_anchor", "harmony_where", "harmony_options"
REFERENCES = {"video": "reference_image", "audio": "reference_audio"}


def told(change: PassChange, model: Any) -> dict[str, Any]:
    """What Harmony models are told of a pass, beside what its anchors and mask say."""
    changed: dict[str, Any] = {"harmony_role": roles.ISOLATED} if change.isolated else {}
    if change.anchor == "audio" and isinstance(model, HarmonyModel) and not model.harmony.mute_reads_transcript:
        changed |= NOTHING_SAID
    return changed | ({"harmony_without": REFERENCES[change.without]} if change.without else {})


def pass_options(change: PassChange, kind: AVModel, model: Any, skipped: frozenset[int]) -> dict[str, Any] | None:
    """The transformer options in which a pass differs from the others; None if it may share their batch.

    Args:
        skipped: the layers that a pass which skips some leaves out.
    """
    if change.skips_layers:
        skip = {("double_block", layer): _unchanged for layer in skipped}
        # a skipped interaction leaves nothing to keep
        hollow = {CACHES: None} if skipped & _interacting(model) else {}
        return {"harmony_skip_layers": skipped, **hollow, "patches_replace": {"dit": skip}}
    if not kind.alone:
        return None
    return kind.isolated if change.isolated else {}


def with_additions(
    cond: dict[str, Any], clean: Tensor, where: Tensor | None, options: dict[str, Any] | None
) -> dict[str, Any]:
    """A conditioning whose pass sees `clean` where `where` is 1, with transformer options of its own (then alone)."""
    added: dict[str, comfy.conds.CONDRegular] = {}
    if where is not None:
        added |= {ANCHOR: comfy.conds.CONDRegular(clean), WHERE: comfy.conds.CONDRegular(where)}
    if options is not None:
        added[OPTIONS] = comfy.conds.CONDConstant((cond["uuid"], options))
    return {**cond, "model_conds": {**cond["model_conds"], **added}}


def runs_alone(conds: list[dict[str, Any]]) -> bool:
    """Whether a pass has transformer options of its own, and so no batch with others."""
    return any(OPTIONS in cond["model_conds"] for cond in conds)


def with_clean(cond: dict[str, Any], clean: Tensor) -> dict[str, Any]:
    """A conditioning whose anchor is what the model takes for clean at this step."""
    if ANCHOR not in cond["model_conds"]:
        return cond
    return {**cond, "model_conds": {**cond["model_conds"], ANCHOR: comfy.conds.CONDRegular(clean)}}


def prepare_pass(
    executor: Any,
    x: Tensor,
    t: Tensor,
    c_concat: Tensor | None = None,
    c_crossattn: Tensor | None = None,
    control: Any = None,
    transformer_options: dict[str, Any] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Replace what the anchor stands in for; set the options of a pass that runs alone."""
    _, options = kwargs.pop(OPTIONS, (None, {}))
    anchor, where = kwargs.pop(ANCHOR, None), kwargs.pop(WHERE, None)
    if anchor is not None:
        x = torch.lerp(x, anchor.to(x), where.to(x))
    transformer_options = comfy.patcher_extension.merge_nested_dicts(transformer_options or {}, options)
    return executor(x, t, c_concat, c_crossattn, control, transformer_options, *args, **kwargs)


def _interacting(model: Any) -> frozenset[int]:
    """The layers of a Harmony model in which its streams meet."""
    return frozenset(model.harmony.layers_with_interaction if isinstance(model, HarmonyModel) else ())


def _unchanged(args: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
    """A block replacement of ComfyUI that passes its input on."""
    return args
