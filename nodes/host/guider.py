"""SyncCFG as a ComfyUI GUIDER (paper 3.4). Also guides ComfyUI's native LTX-2 models.

One batch holds the joint prediction and every negative: a negative differs from it in which clean latents stand in for
one stream (the anchor), so an APPLY_MODEL wrapper puts them in, and its mask says that they carry no noise.
"""

from __future__ import annotations

import uuid
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...harmony_core.diffusion.guidance import (
    JOINT,
    MUTE_AUDIO,
    NEGATIVE_TEXT,
    STATIC_VIDEO,
    GuidancePlan,
    SyncCFG,
    TextCFG,
)
from ...harmony_core.diffusion.latents import AVLatents
from ...harmony_core.model.driver_cache import DriverCache
from .model import HarmonyModel
from .sampling import prepare_runs
from .streams import Shapes, pack, unpack

ANCHOR, WHERE, PASS = "harmony_anchor", "harmony_where", "harmony_pass"


class SyncCFGGuider(comfy.samplers.CFGGuider):
    """Text CFG through ComfyUI's own functions, then the sync guidance on top.

    Args:
        anchors: clean (video, audio) latents: a static video and the sound of silence.
    """

    def __init__(self, patcher: ModelPatcher, sync: SyncCFG, text: TextCFG, anchors: tuple[Tensor, Tensor]) -> None:
        patcher = prepare_runs(patcher.clone())
        patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, ANCHOR, _put_anchor)
        super().__init__(patcher)
        self.sync, self.text, self.anchors = sync, text, anchors

    def inner_sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        device: Any,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None,
        *args: Any,
        latent_shapes: Shapes | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Add the negatives' conditionings, now that shapes, device and mask are known."""
        shapes = self._checked_shapes(latent_shapes)
        self.shapes, self.sigmas = shapes, sigmas
        masks = unpack(torch.ones_like(noise) if denoise_mask is None else denoise_mask, shapes)
        self._make_plans(*(bool(mask.any()) for mask in masks))
        self._add_conds([mask.to(device) for mask in masks], device)
        options = self.model_options.setdefault("transformer_options", {})
        if self._may_cache_drivers():
            options["harmony_driver_cache"] = DriverCache()
        return super().inner_sample(
            noise, latent_image, device, sampler, sigmas, denoise_mask, *args, latent_shapes=latent_shapes, **kwargs
        )

    def _checked_shapes(self, shapes: Shapes | None) -> Shapes:
        have = [tuple(anchor.shape[1:]) for anchor in self.anchors]
        want = [tuple(shape[1:]) for shape in shapes or ()]
        if have != want:
            raise ValueError(
                f"The anchors have shapes {have} (video, audio) and the latent {want}; "
                "take both from the same HarmonyClip."
            )
        return shapes

    def _make_plans(self, generates_video: bool, generates_audio: bool) -> None:
        self.num_steps = len(self.sigmas) - 1
        self.plan = GuidancePlan((self.sync, self.text), self.num_steps, generates_video, generates_audio)
        self.sync_plan = GuidancePlan((self.sync,), self.num_steps, generates_video, generates_audio)

    def _add_conds(self, masks: list[Tensor], device: Any) -> None:
        """`positive` and `negative` with nothing put in; `mute_audio` and `static_video` with an anchor each."""
        zeros = [torch.zeros_like(mask[:1]) for mask in masks]
        ones = [torch.ones_like(mask[:1]) for mask in masks]
        static, mute = (anchor.to(device, torch.float32) for anchor in self.anchors)
        static, mute = static[:1], mute[:1]
        clean = self.inner_model.process_latent_in(pack(static, mute))
        nowhere, user_mask = pack(*zeros), pack(*masks)
        kinds = {
            MUTE_AUDIO: (pack(zeros[0], ones[1]), pack(masks[0], torch.zeros_like(masks[1]))),
            STATIC_VIDEO: (pack(ones[0], zeros[1]), pack(torch.zeros_like(masks[0]), masks[1])),
        }
        positive = self.conds["positive"]
        conds = {
            name: [_with_anchor({**cond, "uuid": uuid.uuid4()}, clean, where, mask) for cond in positive]
            for name, (where, mask) in kinds.items()
            if name in self._pass_names()
        }
        for name in ("positive", "negative"):
            if name in self.conds:
                conds[name] = [_with_anchor(cond, clean, nowhere, user_mask) for cond in self.conds[name]]
        if isinstance(self.inner_model, comfy.model_base.LTXAV):  # it takes the batch's largest noise level for all
            conds = {name: [_alone(cond, name) for cond in kind] for name, kind in conds.items()}
        self.conds = conds

    def _pass_names(self) -> set[str]:
        """Every pass that some step of this run needs."""
        return {name for step in range(self.num_steps) for name in self.plan.passes(step)}

    def _may_cache_drivers(self) -> bool:
        """A driver's features are the same at every step only if nothing reaches into the model meanwhile."""
        if not isinstance(self.inner_model, HarmonyModel) or not self.inner_model.harmony.driver_isolation:
            return False
        options = self.model_options
        patched = {"patches", "patches_replace"} & set(options.get("transformer_options", {}))
        hooked = any("hooks" in cond for kind in self.conds.values() for cond in kind)
        return not (patched or hooked or options.get("context_handler"))

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, *_: Any
    ) -> Tensor:
        """The guided clean latent, packed."""
        options = model_options or {}
        step = self._step(timestep)
        names = set(self.plan.passes(step))
        if "negative" in self.conds and options.get("disable_cfg1_optimization"):
            names.add(NEGATIVE_TEXT)
        positive = self.conds["positive"]
        negative = self.conds["negative"] if NEGATIVE_TEXT in names else None
        anchored = [name for name in (MUTE_AUDIO, STATIC_VIDEO) if name in names]
        conds = [positive, negative, *(self.conds[name] for name in anchored)]
        joint, without_text, *rest = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)

        outs = zip([JOINT, *anchored], [joint, *rest], strict=True)
        predictions = {name: AVLatents(*unpack(out, self.shapes)) for name, out in outs}
        synced = self.sync_plan.combine(step, predictions)
        base = self._text_guided([positive, negative], [joint, without_text], x, timestep, options)
        return base + pack(*synced) - joint

    def _text_guided(
        self, conds: list[Any], outs: list[Tensor], x: Tensor, timestep: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """ComfyUI's text CFG with its hooks: once when both scales are equal, else once per stream."""
        positive, negative = conds
        scales = self.text.video_scale, self.text.audio_scale
        for hook in options.get("sampler_pre_cfg_function", []):
            outs = hook(
                {
                    "conds": conds,
                    "conds_out": outs,
                    "cond_scale": scales[0],
                    "timestep": timestep,
                    "input": x,
                    "sigma": timestep,
                    "model": self.inner_model,
                    "model_options": options,
                }
            )
        joint, without_text = outs[0], outs[1]
        guided = {
            scale: comfy.samplers.cfg_function(
                self.inner_model, joint, without_text, scale, x, timestep, options, cond=positive, uncond=negative
            )
            for scale in dict.fromkeys(scales)
        }
        if len(guided) == 1:
            return guided[scales[0]]
        return pack(*(unpack(guided[scale], self.shapes)[index] for index, scale in enumerate(scales)))

    def _step(self, timestep: Tensor) -> int:
        """Which step of the schedule this noise level belongs to (solvers may ask between steps)."""
        return max(0, min(self.num_steps - 1, int((self.sigmas >= timestep.max() - 1e-6).sum()) - 1))


def _with_anchor(cond: dict[str, Any], clean: Tensor, where: Tensor, mask: Tensor) -> dict[str, Any]:
    """A conditioning whose pass sees `clean` where `where` is 1, under a mask of its own."""
    anchor = {ANCHOR: comfy.conds.CONDRegular(clean), WHERE: comfy.conds.CONDRegular(where)}
    return {**cond, "denoise_mask": mask, "model_conds": {**cond["model_conds"], **anchor}}


def _alone(cond: dict[str, Any], name: str) -> dict[str, Any]:
    """A conditioning that ComfyUI will not batch with others."""
    return {**cond, "model_conds": {**cond["model_conds"], PASS: comfy.conds.CONDConstant(name)}}


def _put_anchor(executor: Any, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Replace what the anchor stands in for."""
    kwargs.pop(PASS, None)
    anchor, where = kwargs.pop(ANCHOR, None), kwargs.pop(WHERE, None)
    if anchor is not None:
        x = torch.lerp(x, anchor.to(x), where.to(x))
    return executor(x, t, *args, **kwargs)
