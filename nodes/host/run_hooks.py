"""What every run of a Harmony model needs around ComfyUI's sampling loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...harmony_core.model.memory import OFF, choose_placement, mute_audio_bytes, static_video_bytes
from ...harmony_core.model.roles import AUDIO_GIVEN, VIDEO_GIVEN
from .av_latent import Shapes, pack, unpack
from .foreign import (
    HOOKS,
    check_conditioning,
    check_guidance_nodes,
    check_latent,
    check_soft_mask,
    is_by_stream,
    unread_conditioning,
    unread_patches,
)
from .model import CACHES, DriverCaches, HarmonyModel, check_given, masks_of
from .notes import warn
from .windows import HANDLER, check_own_windows, check_windows

logger = logging.getLogger(__name__)

WRAPPER_KEY = "harmony"


def prepare_runs(patcher: ModelPatcher) -> ModelPatcher:
    """The same model whose runs know their latent shapes, keep given latents exactly and drivers' features once.

    Adds nothing twice.
    """
    if isinstance(patcher.model, HarmonyModel) and not patcher.get_wrappers(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY):
        patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, _around_run)
        patcher.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, WRAPPER_KEY, _with_driver_cache)
    return patcher


def _around_run(
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Tell the model its latent shapes before the run; afterwards put back what was given (uni_pc drifts by 3e-3)."""
    guider = executor.class_obj
    model, options = guider.model_patcher.model, guider.model_options
    shapes = kwargs.get("latent_shapes") or args[-1]
    check_latent(model.harmony, shapes)
    check_given(model.harmony, masks_of(denoise_mask, shapes, noise.device))
    check_guidance_nodes(options)
    check_soft_mask(options, denoise_mask)
    for name, conditioning in guider.conds.items():
        check_conditioning(name, conditioning)
    say([*unread_patches(options), *unread_conditioning(guider.conds)])
    _check_windows(model, options, guider.conds)
    if options.get("sampler_cfg_function") is not None:
        options["sampler_cfg_function"] = PerStream(options["sampler_cfg_function"], shapes)
    for name in HOOKS:
        options[name] = [PerStream(each, shapes) if is_by_stream(each) else each for each in options.get(name, ())]
    model.latent_shapes = shapes
    if noise.shape != latent_image.shape and not noise.any():  # older cores' empty noise is of the first stream alone
        noise = torch.zeros_like(latent_image)
    out = executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    if denoise_mask is None:
        return out
    # ComfyUI has blended where a mask is soft; a second time would let too much of the old through
    return torch.where(denoise_mask.to(out) > 0, out, latent_image.to(out))


def say(lines: Iterable[str]) -> None:
    """Lines under the node that is sampling, and in the log."""
    node = get_executing_context()
    warn(node and node.node_id, lines)


@dataclass(frozen=True)
class PerStream:
    """A guidance function of ComfyUI's on each stream by itself, as one film: its statistics are a stream's.

    The function gets [B,C,T,h,w], the sound with as many dimensions, or a list of such, and gives the same.

    Attributes:
        shapes: of the packed streams.
        scales: one for each stream; None = what ComfyUI says.
    """

    function: Callable[[dict[str, Any]], Any]
    shapes: Shapes
    scales: tuple[float, float] | None = None

    def __call__(self, args: dict[str, Any]) -> Any:
        parts = [
            {name: self._part(value, index, args["input"].shape) for name, value in args.items()} for index in (0, 1)
        ]
        for part, scale in zip(parts, self.scales or (), strict=bool(self.scales)):
            part["cond_scale"] = scale
        outs = [self.function(part) for part in parts]
        return [pack(*each) for each in zip(*outs, strict=True)] if isinstance(outs[0], list) else pack(*outs)

    def _part(self, value: Any, index: int, packed: torch.Size) -> Any:
        """A stream of what is packed, or of a list of such; all of everything else."""
        if isinstance(value, list):
            return [self._part(each, index, packed) for each in value]
        if not torch.is_tensor(value) or value.shape != packed:
            return value
        stream = unpack(value, self.shapes)[index]
        return stream.reshape(*stream.shape[:3], *(1,) * (5 - stream.ndim), *stream.shape[3:])


def _check_windows(model: HarmonyModel, options: dict[str, Any], conds: dict[str, list[dict[str, Any]]]) -> None:
    """Context windows are looked at before anything is sampled."""
    check_windows(model, options)
    if options.get(HANDLER) is None:
        return
    if model.harmony.starts_from_picture:
        raise ValueError(
            "This model makes clips of one length, so it has no context windows; take the context windows node out."
        )
    check_own_windows(options[HANDLER])
    if any(cond.get("harmony_transcript", "").strip() for kind in conds.values() for cond in kind):
        logger.warning(
            "Harmony: every context window says all of the transcript; for a text that is said once, take the "
            "context windows node out."
        )


def _with_driver_cache(executor: Any, guider: Any, sigmas: Tensor, extra: dict[str, Any], *args: Any, **kw: Any) -> Any:
    """A cache of the drivers' keys and values, for this run only. The weights are loaded by now."""
    options = extra["model_options"].setdefault("transformer_options", {})
    caches = _driver_caches(guider, extra["model_options"])
    if caches is not None:
        options[CACHES] = caches
    try:
        return executor(guider, sigmas, extra, *args, **kw)
    finally:
        options.pop(CACHES, None)


def _driver_caches(guider: Any, options: dict[str, Any]) -> DriverCaches | None:
    """The caches where they fit; None when the run has no drivers, or their features may change between its steps."""
    model, conds = guider.inner_model, [cond for kind in guider.conds.values() for cond in kind]
    needed = sum(_driver_bytes(model, cond) for cond in conds)
    if not needed:
        return None
    why_off = _changing(options, conds)
    if why_off:
        logger.info("Harmony: driver cache off: %s", why_off)
        return None
    free_device = guider.model_patcher.get_free_memory(guider.model_patcher.load_device)
    free_host = comfy.model_management.get_free_memory(torch.device("cpu"))
    assert not isinstance(free_host, tuple)  # that is for callers who also ask for torch's own part
    placement = choose_placement(needed, free_device, free_host)
    free = f"free: device {_megabytes(free_device)}, host {_megabytes(free_host)}"
    logger.info("Harmony: driver cache %s: %s (%s)", placement, _megabytes(needed), free)
    return None if placement == OFF else DriverCaches(placement)


def _changing(options: dict[str, Any], conds: list[dict[str, Any]]) -> str:
    """What may make a driver's features differ from step to step; empty if nothing does."""
    if options.get(HANDLER):
        return "the run has context windows"
    return "the conditioning has hooks" if any(cond.get("hooks") for cond in conds) else ""


def _driver_bytes(model: HarmonyModel, cond: dict[str, Any]) -> int:
    """What a cache would keep of one conditioning's driver; 0 if it has none, or one that listens."""
    config, (row,) = model.harmony, cond["model_conds"]["rows"].cond
    if row.driver is None or row.role not in (AUDIO_GIVEN, VIDEO_GIVEN) or not config.driver_isolation:
        return 0
    video, audio = model.latent_shapes
    element_size = model.get_dtype_inference().itemsize
    if row.role == AUDIO_GIVEN:
        return mute_audio_bytes(config, audio[2], audio[0], element_size)
    grid = config.grid(video)
    with_reference = cond.get("harmony_reference_audio") is not None
    return static_video_bytes(config, grid, video[0], element_size, with_reference)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MB"


class ShiftedSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """Flow matching with a shift of its own."""


def with_shift(patcher: ModelPatcher, shift: float) -> ModelPatcher:
    """A copy of the model whose schedule has this shift; 0 keeps the model's own."""
    patcher = patcher.clone()
    if not shift:
        return patcher
    sampling = ShiftedSampling(patcher.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=sampling.multiplier)
    patcher.add_object_patch("model_sampling", sampling)
    return patcher
