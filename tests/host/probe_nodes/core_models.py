"""ComfyUI's own classes of large models, at sizes that a CPU runs in a moment and with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import comfy.ldm.lightricks.vae.audio_vae
import comfy.ldm.lightricks.vae.causal_video_autoencoder
import comfy.ldm.mmaudio.vae.autoencoder
import comfy.ldm.mmaudio.vae.bigvgan
import comfy.ldm.mmaudio.vae.vae
import comfy.ldm.wan.vae2_2
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.lt
import comfy.text_encoders.wan
import comfy.utils
import torch
from comfy.supported_models_base import ClipTarget

LTX_WIDTH, LTX_HEADS = 64, 2
LTXAV = {
    "image_model": "ltxav",
    "num_layers": 2,
    "num_attention_heads": LTX_HEADS,
    "attention_head_dim": LTX_WIDTH // LTX_HEADS,
    "audio_num_attention_heads": LTX_HEADS,
    "audio_attention_head_dim": LTX_WIDTH // LTX_HEADS,
    "cross_attention_dim": LTX_WIDTH,
    "audio_cross_attention_dim": LTX_WIDTH,
    "caption_channels": LTX_WIDTH,
    "connector_attention_head_dim": LTX_WIDTH // LTX_HEADS,
    "connector_num_attention_heads": LTX_HEADS,
    "connector_num_layers": 1,
}
LTX_VIDEO = {
    "dims": 3,
    "latent_channels": 128,
    "encoder_blocks": [["compress_all", {}], ["compress_all", {}], ["compress_all", {}]],
    "decoder_blocks": [["compress_all", {"residual": True, "multiplier": 2}]] * 3 + [["res_x", {"num_layers": 1}]],
    "encoder_base_channels": 8,
    "decoder_base_channels": 8,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
}
LTX_AUDIO = {
    "model": {
        "params": {
            "sampling_rate": 16000,
            "ddconfig": {
                "double_z": True,
                "mel_bins": 64,
                "z_channels": 8,
                "resolution": 256,
                "downsample_time": False,
                "in_channels": 2,
                "out_ch": 2,
                "ch": 8,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "dropout": 0.0,
                "mid_block_add_attention": False,
                "norm_type": "pixel",
                "causality_axis": "height",
            },
        }
    }
}
LTX_VOCODER = {
    "upsample_initial_channel": 64,
    "upsample_rates": [6, 5, 2, 2, 2],
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
}
LTX_METADATA = {
    "config": json.dumps({"transformer": LTXAV, "vae": LTX_VIDEO, "audio_vae": LTX_AUDIO, "vocoder": LTX_VOCODER})
}
# LTX-2.3 and 2.5 by what their files' metadata turn on; a core that does not know a setting leaves it out
LTX_23 = {
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
    "connector_apply_gated_attention": True,
}
LTX_25 = LTX_23 | {
    "ff_bias": False,
    "audio_ff_bias": False,
    "use_prompt_adaln_single": False,
    "cross_attention_adaln": False,
    "use_keyframes_abs_pos_embedding": True,
}
BIGVGAN = {
    "resblock": "1",
    "num_mels": 80,
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
    "upsample_initial_channel": 128,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "activation": "snakebeta",
    "snake_logscale": True,
}
UMT5 = {"d_model": 4096, "d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 2}
GEMMA = {
    "hidden_size": LTX_WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
# bytes, the alphabet's pairs and the special tokens of T5 and Gemma
VOCABULARY = 300
SENTENCES = ("the storm is almost here", "a woman in a yellow raincoat speaks to the camera", "waves and wind")


def with_random_weights(module: torch.nn.Module) -> torch.nn.Module:
    """The module, whose layers neither blow up nor die out; its statistics are 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(noise * 0.05 + float(name.endswith("weight")))
        for name, buffer in module.named_buffers():
            if "of-means" in name:
                buffer.fill_(float("std" in name))
            elif "mel_basis" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator))
    return module.eval()


def wan22_vae() -> comfy.sd.VAE:
    known_by = {
        "decoder.middle.0.residual.0.gamma": (1024, 1, 1, 1),
        "decoder.upsamples.0.upsamples.0.residual.2.weight": (1024, 1024, 3, 3, 3),
    }
    stage = comfy.ldm.wan.vae2_2.WanVAE(
        dim=8, dec_dim=8, z_dim=48, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True]
    )
    return wrap_vae(known_by, stage)


def mmaudio_vae() -> comfy.sd.VAE:
    stage = comfy.ldm.mmaudio.vae.autoencoder.AudioAutoencoder(mode="16k")
    stage.vae = comfy.ldm.mmaudio.vae.vae.VAE(data_dim=80, embed_dim=20, hidden_dim=32)
    stage.vocoder = comfy.ldm.mmaudio.vae.bigvgan.BigVGANVocoder(BIGVGAN)
    return wrap_vae({"vocoder.activation_post.downsample.lowpass.filter": (1, 1, 12)}, stage)


def wrap_vae(known_by: dict[str, tuple[int, ...]], stage: torch.nn.Module) -> comfy.sd.VAE:
    """Core's VAE around a small network. Core tells the kind by these keys and builds full size only, so on meta."""
    with torch.device("meta"):
        vae = comfy.sd.VAE(sd={key: torch.empty(shape) for key, shape in known_by.items()}, dtype=torch.float32)
    vae.first_stage_model = with_random_weights(stage)
    vae.patcher = comfy.model_patcher.CoreModelPatcher(stage, vae.device, vae.patcher.offload_device)
    return vae


def tokenizer_model() -> torch.Tensor:
    """A sentencepiece model, as text encoder files hold it, with the special tokens of umT5 (and Gemma's)."""
    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
        num_threads=1,
    )
    return torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)


def umt5() -> comfy.sd.CLIP:
    return _clip(ClipTarget(comfy.text_encoders.wan.WanT5Tokenizer, comfy.text_encoders.wan.te()), "umt5xxl", UMT5)


class TinyGemma(comfy.text_encoders.lt.LTXAVTEModel):
    """LTX-2's text encoder with a projection of Gemma's own size; it is not shown pictures."""

    def __init__(self, device: torch.device, dtype: torch.dtype, model_options: dict) -> None:
        super().__init__(dtype, "meta", dtype, text_projection_type="none", model_options=model_options)
        self.gemma3_12b.transformer.vision_model = self.gemma3_12b.transformer.multi_modal_projector = None
        layers = GEMMA["num_hidden_layers"] + 1
        self.text_projection_type = "single_linear"
        self.text_embedding_projection = self.gemma3_12b.operations.Linear(
            LTX_WIDTH * layers, LTX_WIDTH, bias=False, dtype=dtype, device=device
        )
        self.to_empty(device=device)


def gemma() -> comfy.sd.CLIP:
    return _clip(ClipTarget(comfy.text_encoders.lt.LTXAVGemmaTokenizer, TinyGemma), "", GEMMA)


def _clip(target: ClipTarget, name: str, sizes: dict[str, int]) -> comfy.sd.CLIP:
    """Core's CLIP of a model that it knows by `name`, with other sizes than the published ones."""
    options = {f"{name}_model_config": {**sizes, "vocab_size": VOCABULARY}}
    clip = comfy.sd.CLIP(target, tokenizer_data={"spiece_model": tokenizer_model()}, model_options=options)
    with_random_weights(clip.cond_stage_model)
    return clip


def random_patcher(config: comfy.supported_models_base.BASE) -> comfy.model_patcher.ModelPatcher:
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    with_random_weights(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def ltxav(**settings: bool) -> comfy.model_patcher.ModelPatcher:
    patcher = random_patcher(comfy.supported_models.LTXAV(LTXAV | settings))
    patcher.cached_patcher_init = (again(ltxav), (settings,))
    return patcher


def again(make: Callable[..., Any]) -> Callable[..., Any]:
    """What core calls for another copy, on another device or without dynamic loading."""
    return lambda settings, **_: make(**settings)


def ltx2_weights() -> dict[str, torch.Tensor]:
    """What an LTX-2 checkpoint holds; its metadata are LTX_METADATA."""
    audio = comfy.ldm.lightricks.vae.audio_vae.AudioVAE(LTX_METADATA)
    audio.autoencoder, audio.vocoder = with_random_weights(audio.autoencoder), with_random_weights(audio.vocoder)
    video = comfy.ldm.lightricks.vae.causal_video_autoencoder.VideoVAE(config=LTX_VIDEO)
    parts = {
        "model.diffusion_model": ltxav().model.diffusion_model,
        "vae": with_random_weights(video),
        "audio_vae": audio.autoencoder,
        "vocoder": audio.vocoder,
    }
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def ltx2_vaes() -> tuple[comfy.sd.VAE, comfy.sd.VAE]:
    """Of video and of sound, as core's loaders make them of a checkpoint."""
    weights, replace = ltx2_weights(), comfy.utils.state_dict_prefix_replace
    video = replace(dict(weights), {"vae.": ""}, filter_keys=True)
    audio = replace(dict(weights), {"audio_vae.": "autoencoder.", "vocoder.": "vocoder."}, filter_keys=True)
    return comfy.sd.VAE(sd=video, metadata=LTX_METADATA), comfy.sd.VAE(sd=audio, metadata=LTX_METADATA)


def write_ltx2(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in ltx2_weights().items()}, path, LTX_METADATA)


def write_wan22_vae(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in wan22_vae().first_stage_model.state_dict().items()}, path)
