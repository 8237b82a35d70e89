"""SyncCFG as a ComfyUI GUIDER (paper 3.4), for every model of `av_models`.

One batch holds the joint prediction and the sync negatives: a negative differs from it in which clean latents stand in
for one stream (the anchor), so an APPLY_MODEL wrapper puts them in, and its mask says that they carry no noise. A pass
that cannot share a batch, or in which the model itself differs, runs alone with transformer options of its own.
The joint and the text pass are core's own, to the bit.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...harmony_core.diffusion.guidance import (
    JOINT,
    PASSES,
    Guidance,
    GuidancePlan,
    SkipLayer,
    SyncCFG,
    TextCFG,
)
from ...harmony_core.diffusion.latents import AVLatents
from .av_latent import Shapes, pack, refuse_anchors, split_anchors, unpack
from .av_models import av_model
from .foreign import HOOKS, check_conditioning, check_guidance_nodes, unread_by
from .guidances import check_guidances, idle
from .model import HarmonyModel
from .passes import ANCHOR, WHERE, pass_options, prepare_pass, runs_alone, told, with_additions, with_clean
from .run_hooks import PerStream, prepare_runs, say
from .text_encoder import without_words
from .windows import check_windows, cut_packed, with_callback

WRAPPER_KEY = "harmony_guider"
STREAMS = "video", "audio"
TEXT_NEGATIVE = "text negative"  # beside the names of PASSES: its prediction stays core's


class TextScales(float):
    """A guider's `cfg` with a scale for each stream: a plain number to whatever of core's reads it or puts another."""

    video: float
    audio: float

    def __new__(cls, video: float, audio: float) -> TextScales:
        self = super().__new__(cls, max(video, audio))
        self.video, self.audio = video, audio
        return self


class SyncCFGGuider(comfy.samplers.CFGGuider):
    """Text CFG through ComfyUI's own functions, then the other guidances on top.

    Args:
        anchors: clean (video, audio) latents: a static video and the sound of silence.
        extra: more guidances, of kind `ReferenceCFG`, `Isolated`, `SkipLayer` or `ModalityAwareCFG`.

    Raises:
        ValueError: a model without sound, or one that cannot do what is asked.
    """

    def __init__(
        self,
        patcher: ModelPatcher,
        sync: SyncCFG,
        text: TextCFG,
        anchors: tuple[Tensor, Tensor],
        extra: tuple[Guidance, ...] = (),
    ) -> None:
        self.kind = av_model(patcher.model)
        check_guidances(patcher.model, self.kind, (sync, *extra))
        check_windows(patcher.model, patcher.model_options)
        check_guidance_nodes(patcher.model_options)
        patcher = prepare_runs(patcher.clone())
        patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, WRAPPER_KEY, prepare_pass)
        with_callback(patcher.model_options, WRAPPER_KEY, self._cut_to_window)
        super().__init__(patcher)
        self.anchors, self.others = anchors, (sync, *extra)
        self.skipped = frozenset(layer for each in extra if isinstance(each, SkipLayer) for layer in each.layers)
        self.cfg = TextScales(text.video_scale, text.audio_scale)

    def sample(self, noise: Any, latent_image: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises ValueError for anchors in place of the latent."""
        refuse_anchors(latent_image)
        return super().sample(noise, latent_image, *args, **kwargs)

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
        self.shapes, self.sigmas, self.noise = self._checked_shapes(latent_shapes), sigmas, noise
        masks = unpack(torch.ones_like(noise[:1]) if denoise_mask is None else denoise_mask.to(device), self.shapes)
        self.generates = tuple(bool((mask > 0).any()) for mask in masks)
        self.plan = GuidancePlan(self.others, len(sigmas) - 1, *self.generates)
        say(idle(self.others, self.plan))
        self.inner_model.latent_shapes = latent_shapes  # core does this in newer versions, later than we need it
        self._add_conds(masks, device)
        try:
            out = super().inner_sample(
                noise, latent_image, device, sampler, sigmas, denoise_mask, *args, latent_shapes=latent_shapes, **kwargs
            )
        finally:  # ComfyUI keeps guiders between runs; these are on the device
            del self.sigmas, self.noise, self.clean
        _check_finite(dict(zip(STREAMS, unpack(out, self.shapes), strict=True)))
        return out

    def _checked_shapes(self, shapes: Shapes | None) -> Shapes:
        have = [tuple(anchor.shape[1:]) for anchor in self.anchors]
        want = [tuple(shape[1:]) for shape in shapes or ()]
        if shapes is None or have != want:
            raise ValueError(
                f"The anchors have shapes {have} (video, audio) and the latent {want}; take both from the same "
                "HarmonyClip, or make the anchors of this latent with Harmony Anchors."
            )
        return shapes

    def _add_conds(self, masks: list[Tensor], device: Any) -> None:
        """A copy of the texts for every pass of the run but the text negative's, which stays core's."""
        anchors = [anchor[:1].to(device, torch.float32) for anchor in self.anchors]
        self.clean = self.inner_model.process_latent_in(pack(*anchors))
        nowhere = pack(*(torch.zeros_like(anchor) for anchor in anchors))
        conds = {name: self.conds[name] for name in ("positive", "negative") if name in self.conds}
        conds = {
            name: [with_additions(cond, self.clean, None if self.kind.alone else nowhere, None) for cond in kind]
            for name, kind in conds.items()
        }
        for name in sorted(self._pass_names()):
            change, where = PASSES[name], None if self.kind.alone else nowhere
            changed = told(change, self.inner_model)
            if change.anchor is not None:
                stands_in = [stream == change.anchor for stream in STREAMS]
                where = pack(*(torch.full_like(x, float(put)) for x, put in zip(anchors, stands_in, strict=True)))
                # tokens that a guide leaves out have a mask below 0, in every pass
                seen = (mask.clamp(max=0) if put else mask for mask, put in zip(masks, stands_in, strict=True))
                changed["denoise_mask"] = pack(*seen)
            options = pass_options(change, self.kind, self.inner_model, self.skipped)
            conds[name] = [
                with_additions({**cond, "uuid": uuid.uuid4(), **changed}, self.clean, where, options)
                for cond in self.conds["negative" if change.negative_text else "positive"]
            ]
        self.conds = conds

    def _pass_names(self) -> set[str]:
        """Every pass that some step of this run needs, beside the joint one and the text negative."""
        return {name for step in range(self.plan.num_steps) for name in self.plan.passes(step)} - {JOINT}

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, *_: Any, **__: Any
    ) -> Tensor:
        """The guided clean latent, packed."""
        options = model_options or {}
        step = self._step(timestep)
        scales = self._text_scales()
        with_negative = scales != (1.0, 1.0) or options.get("disable_cfg1_optimization", False)
        texts = [self.conds["positive"], self.conds.get("negative") if with_negative else None]
        others = [name for name in self.plan.passes(step) if name != JOINT]
        *outs, predictions = self._predict(texts, others, x, timestep, options)
        guided = self.plan.combine(step, predictions)
        others_delta = pack(guided.video, guided.sound) - outs[0]  # exactly 0 where there is no other
        return self._text_guided(texts, outs, scales, x, timestep, options) + others_delta

    def _text_scales(self) -> tuple[float, float]:
        """Video's and audio's; another number in `cfg` (core's CFGOverride) is for both. A given stream has none.

        Raises:
            ValueError: such a number, but no negative.
        """
        both = (self.cfg.video, self.cfg.audio) if isinstance(self.cfg, TextScales) else (float(self.cfg),) * 2
        video, audio = (scale if made else 1.0 for scale, made in zip(both, self.generates, strict=True))
        if (video, audio) != (1.0, 1.0) and "negative" not in self.conds:
            raise ValueError(
                f"A text scale of {max(video, audio):g} needs a negative; connect one to Harmony SyncCFG, or take the "
                "node that sets this scale (CFG Override) out."
            )
        return video, audio

    def _predict(
        self, texts: list[Any], others: list[str], x: Tensor, timestep: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor, dict[str, AVLatents]]:
        """The joint and the text negative's prediction, packed, and those of all passes but the latter by name.

        ComfyUI turns a batch around, and caches of steps (EasyCache) go by its first row and by the first batch: these
        are the texts', not those of a stream that stands still.
        """
        passes: dict[str, Any] = {}
        if others:
            clean = self.inner_model.scale_latent_inpaint(
                x=x, sigma=timestep, noise=self.noise, latent_image=self.clean.to(x)
            )
            passes = {name: [with_clean(cond, clean) for cond in self.conds[name]] for name in others}
        pair = dict(zip((JOINT, TEXT_NEGATIVE), texts, strict=True))
        pair_function = options.get("sampler_calc_cond_batch_function")  # core's SkipLayerGuidanceDiTSimple
        outs: dict[str, Tensor] = {}
        if pair_function:
            args = {"conds": texts, "input": x, "sigma": timestep, "model": self.inner_model, "model_options": options}
            outs = dict(zip(pair, pair_function(args), strict=True))
        else:
            beside = {name: conds for name, conds in passes.items() if not runs_alone(conds)}
            passes = beside | pair | passes
        if passes:
            made = comfy.samplers.calc_cond_batch(self.inner_model, [*passes.values()], x, timestep, options)
            outs |= zip(passes, made, strict=True)
        without_text = outs.pop(TEXT_NEGATIVE)
        return outs[JOINT], without_text, {name: AVLatents(*unpack(out, self.shapes)) for name, out in outs.items()}

    def _text_guided(
        self,
        texts: list[Any],
        outs: list[Tensor],
        scales: tuple[float, float],
        x: Tensor,
        timestep: Tensor,
        options: dict[str, Any],
    ) -> Tensor:
        """ComfyUI's text CFG with its hooks, each called once, whether or not both streams have one scale."""
        positive, negative = texts
        options = options | {name: [_with_scales(each, scales) for each in options.get(name, ())] for name in HOOKS}
        for hook in options["sampler_pre_cfg_function"]:
            outs = hook(
                {
                    "conds": texts,
                    "conds_out": outs,
                    "cond_scale": max(scales),
                    "timestep": timestep,
                    "input": x,
                    "sigma": timestep,
                    "model": self.inner_model,
                    "model_options": options,
                }
            )
        one_scale = options.get("sampler_cfg_function")
        if one_scale is not None or scales[0] != scales[1]:
            if isinstance(one_scale, PerStream):  # of a Harmony model's run hooks
                one_scale = one_scale.function
            guided = PerStream(one_scale or _plain_cfg, self.shapes, scales)
            options = {**options, "sampler_cfg_function": guided}
        joint, without_text = outs[0], outs[1]
        return comfy.samplers.cfg_function(
            self.inner_model, joint, without_text, max(scales), x, timestep, options, cond=positive, uncond=negative
        )

    def _step(self, timestep: Tensor) -> int:
        """Which step of the schedule this noise level belongs to (solvers may ask between steps)."""
        return max(0, min(self.plan.num_steps - 1, int((self.sigmas >= timestep.max() - 1e-6).sum()) - 1))

    def _cut_to_window(
        self, cond_key: str, cond_value: Any, window: Any, x_in: Tensor, device: Any, *_: Any, **__: Any
    ) -> Any:
        """The part of an anchor that a context window sees; None for everything else."""
        if cond_key not in (ANCHOR, WHERE):
            return None
        return cond_value._copy_with(cut_packed(cond_value.cond, self.shapes, window, x_in.shape[2], device))


def make_guider(
    model: Any,
    positive: Any,
    negative: Any,
    anchors: dict[str, Any],
    sync: SyncCFG,
    text: TextCFG,
    extra: tuple[Guidance, ...] = (),
) -> tuple[SyncCFGGuider, list[str]]:
    """The guider, and what a person should know about it.

    Without `negative`, what needs one pushes away from `positive` without its words, where it tells what that is.

    Raises:
        ValueError: it does not; the anchors are none; a conditioning that only a picture can have; or as SyncCFGGuider
            does.
    """
    notes = []
    for each in (text, *extra):
        away_from_text = any(PASSES[name].negative_text for name in each.passes(True, True))
        if negative is None and away_from_text:
            negative = without_words(positive)
            if negative is None:
                kind = "Text" if each is text else "Negative"
                raise ValueError(
                    f"{kind} scales of {each.video_scale:g} and {each.audio_scale:g} need a negative; connect one (an "
                    "empty Harmony Text Encode will do) or set both to 1.0."
                )
            notes.append("no negative: an empty prompt stands in for it")
    given = {"positive": positive} | ({} if negative is None else {"negative": negative})
    extras = {name: [extra for _, extra in conditioning] for name, conditioning in given.items()}
    for name, each in extras.items():
        check_conditioning(name, each)
    guider = SyncCFGGuider(model, sync, text, split_anchors(anchors), extra)
    if not isinstance(model.model, HarmonyModel):
        notes += unread_by(guider.kind.title, extras)
    guider.inner_set_conds(given)
    return guider, notes


def _check_finite(streams: dict[str, Tensor]) -> None:
    """Raises ValueError for a result that is not made of numbers, before anybody decodes it."""
    for name, latents in streams.items():
        wrong = int((~latents.isfinite()).sum())
        if wrong:
            raise ValueError(
                f"Of the {name} latents, {wrong} of {latents.numel()} values are not numbers: a scale is too high, or "
                "the weights are broken or need another dtype."
            )


def _with_scales(hook: Any, scales: tuple[float, float]) -> Any:
    return replace(hook, scales=scales) if isinstance(hook, PerStream) else hook


def _plain_cfg(args: dict[str, Any]) -> Tensor:
    """ComfyUI's CFG in the form of its `sampler_cfg_function`: of x minus predictions, as is the result."""
    return args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"]
