"""What other models' nodes put beside a latent of video and sound: refused before sampling, or said to do nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import comfy.model_sampling
from torch import Tensor

from ...harmony_core.config import HarmonyConfig
from .av_latent import Shapes

# conditionings that core applies to the latent as if it were one picture
REFUSED = {
    "area": "is for a part of the picture (ConditioningSetArea)",
    "mask": "is for a part of the picture (ConditioningSetMask)",
    "control": "has a ControlNet, which is for another model",
    "gligen": "has GLIGEN boxes, which are for another model",
}
# core's guidance nodes, by what their functions are called: those that read a picture or a layer that is not there
NOT_FOR_CLIPS = {"SelfAttentionGuidance", "RenormCFG", "VideoLinearCFGGuidance", "VideoTriangleCFGGuidance", "FreSca"}
NO_LAYERS = {"PerturbedAttentionGuidance", "SkipLayerGuidanceDiT", "SkipLayerGuidanceDiTSimple", "SkipLayerGuidanceSD3"}
BY_STREAM = {"CFGNorm", "CFGZeroStar", "Mahiro", "TCFG"}  # those whose statistics are a picture's, and keep no state
HOOKS = "sampler_pre_cfg_function", "sampler_post_cfg_function"
ONE_HOOK = "sampler_cfg_function", "sampler_calc_cond_batch_function"
# what Harmony models do not read, and what does the same for them
UNREAD = {
    "concat_latent_image": "a start picture of another model; use Harmony First Frame",
    "reference_latents": "reference latents; use Harmony Reference Image where the model has them",
    "clip_vision_output": "a CLIP vision output",
    "unclip_conditioning": "an unCLIP picture",
    "vace_frames": "VACE frames",
    "audio_embed": "another model's sound; use Harmony Given Audio",
    "ref_audio": "another model's voice; use Harmony Reference Audio",
    "keyframe_idxs": "LTX-2 guide frames; use Harmony Given Video",
    "minimax_keyframes": "MiniMax H3 guide frames; use Harmony Given Video",
    "frame_rate": "LTX-2's frame rate; set fps in Harmony Clip",
    "guidance": "Flux guidance; set the scales of Harmony SyncCFG",
}

# what Harmony's own nodes put into a conditioning, which other models do not read
HARMONY_ONLY = {
    "harmony_reference_audio": "a reference voice",
    "harmony_reference_image": "reference pictures",
    "harmony_audio_caption": "a caption of the sound",
    "harmony_transcript": "a transcript",
}


def check_conditioning(name: str, extras: Iterable[dict[str, Any]]) -> None:
    """Raises ValueError for a conditioning that only a picture can have.

    Args:
        name: the input it came from.
        extras: what its entries say beside their text.
    """
    for extra in extras:
        for key, what in REFUSED.items():
            if extra.get(key) is not None:
                raise ValueError(
                    f"The {name} conditioning {what}, but a clip of video and sound is sampled as a whole; take that "
                    "node out."
                )


def unread_conditioning(conds: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What of a run's conditionings Harmony models do not read, a line each."""
    return [f"{line}." for line in unread_by("This model", conds, UNREAD)]


def unread_by(model: str, conds: dict[str, list[dict[str, Any]]], unread: dict[str, str] = HARMONY_ONLY) -> list[str]:
    """What of some inputs' conditionings a model does not read, a line each; words that are empty are none.

    Args:
        unread: keys, and what they stand for.
    """
    return [
        f"{name} has {what}. {model} does not read it, so it changes nothing"
        for name, kind in conds.items()
        for key, what in unread.items()
        if any(key in cond and not (isinstance(cond[key], str) and not cond[key].strip()) for cond in kind)
    ]


def _guidance_nodes(options: dict[str, Any]) -> set[str]:
    """The classes in which a model's guidance functions were made."""
    functions = [function for name in HOOKS for function in options.get(name, ())]
    functions += [options[name] for name in ONE_HOOK if options.get(name) is not None]
    return {_made_by(function) for function in functions}


def _made_by(function: Any) -> str:
    return getattr(function, "__qualname__", "").split(".")[0]


def is_by_stream(function: Any) -> bool:
    """Whether a guidance function of core's is for video and sound one by one."""
    return _made_by(function) in BY_STREAM


def check_soft_mask(options: dict[str, Any], mask: Tensor | None) -> None:
    """Raises ValueError for Differential Diffusion on a mask with values between 0 and 1.

    It takes a latent for clean or for noise, whichever it is at a step, but Harmony models are told the mask's value.
    """
    if options.get("denoise_mask_function") is not None and mask is not None and bool(((mask > 0) & (mask < 1)).any()):
        raise ValueError(
            "Differential Diffusion changes a soft mask from step to step, but Harmony models are told of one mask a "
            "run; take that node out (soft masks work without it)."
        )


def check_guidance_nodes(options: dict[str, Any]) -> None:
    """Raises ValueError for another node's guidance that cannot work on a clip of video and sound."""
    found = sorted(_guidance_nodes(options) & NOT_FOR_CLIPS)
    if found:
        raise ValueError(
            f"{found[0]} guides pictures of other models and cannot guide a clip of video and sound; take that node "
            "out, and set the scales of Harmony SyncCFG."
        )


def unread_patches(options: dict[str, Any]) -> list[str]:
    """What other nodes put into a model's layers, which are for one architecture each; none is for Harmony models."""
    transformer_options = options.get("transformer_options", {})
    unread = [name for name in ("patches", "patches_replace", "rope_options") if transformer_options.get(name)]
    unread += sorted(_guidance_nodes(options) & NO_LAYERS)
    if not unread:
        return []
    return [
        f"another node set {' and '.join(unread)}, which Harmony models do not read: it changes nothing, whatever it "
        "costs. To skip layers, use skip_layer_scale of Harmony SyncCFG."
    ]


def check_latent(config: HarmonyConfig, shapes: Shapes | None) -> Shapes:
    """The shapes of a latent's parts. Raises ValueError unless they are those that a Harmony model makes.

    Args:
        shapes: of the parts, [B,C,...] each.
    """
    if shapes is None or len(shapes) != 2:
        raise ValueError(
            "This model makes video and sound together, but the latent holds only one of them; "
            "make it with HarmonyClip (or join both with core's LTXVConcatAVLatent)."
        )
    have = [(shape[1], len(shape)) for shape in shapes]
    want = [(config.video_channels, 5), (config.audio_channels, 3)]
    if have != want:
        raise ValueError(
            f"The latent is another model's: its video and sound have {have[0][0]} and {have[1][0]} channels in "
            f"{have[0][1]} and {have[1][1]} dimensions, but this model makes {want[0][0]} and {want[1][0]} in 5 and 3; "
            "make it with HarmonyClip and this model's autoencoders."
        )
    sizes = [(size, patch) for size, patch in zip(shapes[0][3:], config.patch_size[1:], strict=True) if size % patch]
    if sizes:
        raise ValueError(
            f"The latent is {shapes[0][4]}x{shapes[0][3]}, but this model needs multiples of {sizes[0][1]} both ways; "
            "make it with HarmonyClip."
        )
    return shapes


def check_sampling(sampling: Any) -> None:
    """Raises ValueError for a noise schedule that is not flow matching's."""
    if not isinstance(sampling, comfy.model_sampling.CONST):
        raise ValueError(
            "Another node (ModelSamplingDiscrete, ContinuousEDM or StableCascade) gave this model the noise of models "
            "that are not flow matching; take it out. The shift is set with ModelSamplingSD3 or in Harmony Sampler."
        )


def check_text(name: str, width: int, config: HarmonyConfig) -> None:
    """Raises ValueError for text features of another encoder; `width` is their length."""
    if width != config.text_dim:
        raise ValueError(
            f"The {name} text has features of {width} numbers, but this model reads {config.text_dim}: they are of "
            "another model's text encoder. Connect this model's (Harmony Checkpoint Loader has it; Harmony 5B and Ovi "
            "take umT5-xxl)."
        )
