"""SyncCFG as a ComfyUI GUIDER (paper 3.4). Also guides ComfyUI's native LTX-2 models.

One batch holds the joint prediction and the sync negatives: a negative differs from it in which clean latents stand in
for one stream (the anchor), so an APPLY_MODEL wrapper puts them in, and its mask says that they carry no noise. A pass
in which the model itself differs is a batch of its own with other transformer options.
"""

from __future__ import annotations

import uuid
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...harmony_core.diffusion.guidance import (
    ISOLATED,
    JOINT,
    MUTE_AUDIO,
    NEGATIVE_TEXT,
    PASSES,
    SKIP_LAYER,
    STATIC_VIDEO,
    Guidance,
    GuidancePlan,
    ReferenceCFG,
    SkipLayer,
    SyncCFG,
    TextCFG,
)
from ...harmony_core.diffusion.latents import AVLatents
from ...harmony_core.model import roles
from .model import HarmonyModel
from .sampling import prepare_runs
from .streams import Shapes, pack, unpack

ANCHOR, WHERE, PASS = "harmony_anchor", "harmony_where", "harmony_pass"
WRAPPER_KEY = "harmony_guider"
# What the model is told of a pass, beside what its anchors and mask say.
REFERENCES = {"video": "reference_image", "audio": "reference_audio"}
TOLD = {ISOLATED: {"harmony_role": roles.ISOLATED}} | {
    name: {"harmony_without": REFERENCES[change.without]} for name, change in PASSES.items() if change.without
}


class SyncCFGGuider(comfy.samplers.CFGGuider):
    """Text CFG through ComfyUI's own functions, then the other guidances on top.

    Args:
        anchors: clean (video, audio) latents: a static video and the sound of silence.
        extra: more guidances, of kind `ReferenceCFG`, `Isolated` or `SkipLayer`.

    Raises:
        ValueError: a model without sound, a layer to skip that it does not have, or `extra` that it cannot do.
    """

    def __init__(
        self,
        patcher: ModelPatcher,
        sync: SyncCFG,
        text: TextCFG,
        anchors: tuple[Tensor, Tensor],
        extra: tuple[Guidance, ...] = (),
    ) -> None:
        self.skipped = _skipped_layers(_blocks(patcher), extra)
        _check_references(patcher, extra)
        patcher = prepare_runs(patcher.clone())
        patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, WRAPPER_KEY, _prepare_pass)
        super().__init__(patcher)
        self.text, self.anchors, self.others = text, anchors, (sync, *extra)

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
        self.plan = GuidancePlan((*self.others, self.text), self.num_steps, generates_video, generates_audio)
        self.other_plan = GuidancePlan(self.others, self.num_steps, generates_video, generates_audio)

    def _add_conds(self, masks: list[Tensor], device: Any) -> None:
        """`positive` and `negative` with nothing put in, and a copy of `positive` for every other pass."""
        zeros = [torch.zeros_like(mask[:1]) for mask in masks]
        ones = [torch.ones_like(mask[:1]) for mask in masks]
        static, mute = (anchor[:1].to(device, torch.float32) for anchor in self.anchors)
        clean = self.inner_model.process_latent_in(pack(static, mute))
        unchanged = pack(*zeros), pack(*masks)
        put_in = {  # where the anchor stands in, and the mask of the pass
            MUTE_AUDIO: (pack(zeros[0], ones[1]), pack(masks[0], torch.zeros_like(masks[1]))),
            STATIC_VIDEO: (pack(ones[0], zeros[1]), pack(torch.zeros_like(masks[0]), masks[1])),
        }
        conds = {name: self.conds[name] for name in ("positive", "negative") if name in self.conds}
        for name in self._pass_names() - {JOINT, NEGATIVE_TEXT}:
            told = TOLD.get(name, {})
            conds[name] = [{**cond, "uuid": uuid.uuid4(), **told} for cond in self.conds["positive"]]
        conds = {
            name: [_with_anchor(cond, clean, *put_in.get(name, unchanged)) for cond in kind]
            for name, kind in conds.items()
        }
        # LTX-2 takes the batch's largest noise level for all
        alone = set(conds) if isinstance(self.inner_model, comfy.model_base.LTXAV) else {SKIP_LAYER}
        self.conds = {
            name: [_alone(cond, name, self._pass_options(name)) for cond in kind] if name in alone else kind
            for name, kind in conds.items()
        }

    def _pass_names(self) -> set[str]:
        """Every pass that some step of this run needs."""
        return {name for step in range(self.num_steps) for name in self.plan.passes(step)}

    def _pass_options(self, name: str) -> dict[str, Any]:
        """The transformer options in which a pass that runs alone differs from the others."""
        if name == ISOLATED:
            return {"a2v_cross_attn": False, "v2a_cross_attn": False}
        if name == SKIP_LAYER:
            skip = {("double_block", layer): _unchanged for layer in self.skipped}
            # a skipped layer leaves nothing to keep
            return {
                "harmony_skip_layers": self.skipped,
                "harmony_driver_cache": None,
                "patches_replace": {"dit": skip},
            }
        return {}

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
        others = sorted(names - {JOINT, NEGATIVE_TEXT})
        conds = [positive, negative, *(self.conds[name] for name in others)]
        joint, without_text, *rest = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)

        outs = zip([JOINT, *others], [joint, *rest], strict=True)
        predictions = {name: AVLatents(*unpack(out, self.shapes)) for name, out in outs}
        guided = self.other_plan.combine(step, predictions)
        base = self._text_guided([positive, negative], [joint, without_text], x, timestep, options)
        return base + pack(*guided) - joint

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


def _alone(cond: dict[str, Any], name: str, options: dict[str, Any]) -> dict[str, Any]:
    """A conditioning that ComfyUI will not batch with others, and whose pass has transformer options of its own."""
    return {**cond, "model_conds": {**cond["model_conds"], PASS: comfy.conds.CONDConstant((name, options))}}


def _prepare_pass(
    executor: Any,
    x: Tensor,
    t: Tensor,
    c_concat: Tensor | None,
    c_crossattn: Tensor | None,
    control: Any,
    transformer_options: dict[str, Any],
    **kwargs: Any,
) -> Tensor:
    """Replace what the anchor stands in for; set the options of a pass that runs alone."""
    _, options = kwargs.pop(PASS, (None, {}))
    anchor, where = kwargs.pop(ANCHOR, None), kwargs.pop(WHERE, None)
    if anchor is not None:
        x = torch.lerp(x, anchor.to(x), where.to(x))
    transformer_options = comfy.patcher_extension.merge_nested_dicts(transformer_options, options)
    return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def _unchanged(args: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    """A block replacement of ComfyUI that passes its input on."""
    return args


def _check_references(patcher: ModelPatcher, guidances: tuple[Guidance, ...]) -> None:
    model = patcher.model
    appended = isinstance(model, HarmonyModel) and model.harmony.references == "appended"
    if not appended and any(isinstance(guidance, ReferenceCFG) for guidance in guidances):
        raise ValueError("This model has no guidance by references; set both reference scales to 1.0.")


def _blocks(patcher: ModelPatcher) -> Any:
    """The model's layers. Raises ValueError for a model that does not make video and sound together."""
    if isinstance(patcher.model, HarmonyModel):
        return patcher.model.diffusion_model.blocks
    if isinstance(patcher.model, comfy.model_base.LTXAV):
        return patcher.model.diffusion_model.transformer_blocks
    raise ValueError(
        f"SyncCFG guides models of video and sound (Harmony, Ovi, LTX-2), not {type(patcher.model).__name__}; "
        "use core's CFGGuider or KSampler."
    )


def _skipped_layers(blocks: Any, guidances: tuple[Guidance, ...]) -> frozenset[int]:
    layers = frozenset(layer for guidance in guidances if isinstance(guidance, SkipLayer) for layer in guidance.layers)
    unknown = sorted(layers - set(range(len(blocks))))
    if unknown:
        raise ValueError(f"There is no layer {unknown[0]} to skip: this model has layers 0 to {len(blocks) - 1}.")
    return layers
