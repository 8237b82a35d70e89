"""ComfyUI's own classes of MiniMax H3 at toy size, for versions that have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ldm.minimax.audio_vae
import comfy.ldm.minimax.vae
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch

from .core_models import again, random_patcher, wrap_vae

TEXT_DIM = 32
H3 = {
    "image_model": "minimax_h3",
    "hidden_size": 64,
    "num_layers": 2,
    "token_refiner_num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 96,
    "ffn_hidden_size": 64,
    "text_dim": TEXT_DIM,
    "timestep_input_dim": 16,
    "time_embed_hidden_size": 32,
    "time_embed_dim": 16,
    "rope_inv_freq_len": 16,
}


def h3() -> comfy.model_patcher.ModelPatcher:
    patcher = random_patcher(comfy.supported_models.MiniMaxH3(dict(H3)))
    with torch.no_grad():
        patcher.model.diffusion_model.rope.inv_freq.copy_(torch.linspace(1, 0.01, H3["rope_inv_freq_len"]))
    patcher.cached_patcher_init = (again(h3), ({},))
    return patcher


def h3_vae() -> comfy.sd.VAE:
    stage = comfy.ldm.minimax.vae.MiniMaxH3VideoVAE(ch=32)
    stage.decoder = comfy.ldm.minimax.vae.ViT3DDecoder(num_layers=1, heads=1, dim_head=64)
    known_by = {
        "decoder.transformer_blocks.0.scale1": (2048,),
        "encoder.down.5.block.0.conv1.weight": (1024, 512, 3, 3, 3),
    }
    return wrap_vae(known_by, _plain(stage))


def h3_audio_vae() -> comfy.sd.VAE:
    stage = comfy.ldm.minimax.audio_vae.MiniMaxH3AudioVAE(encoder_dim=4, latent_dim=64, decoder_dim=256)
    return wrap_vae({"pre_block.attn.zero_k_bias": (2048,)}, _plain(stage))


def _plain(stage: torch.nn.Module) -> torch.nn.Module:
    """In float32, with the statistics and constants that mean nothing."""
    stage = stage.float()
    with torch.no_grad():
        for name, buffer in stage.named_buffers():
            if name == "latents_std":
                buffer.fill_(1)
            elif name == "latents_mean" or "zero_k_bias" in name or "mask_token" in name:
                buffer.zero_()
    return stage


class H3Text:
    """In place of the text encoder, whose sizes core does not let anybody choose: noise that follows the prompt."""

    def tokenize(self, text: str, **_: Any) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list[Any]:
        generator = torch.Generator().manual_seed(len(text))
        return [[torch.randn(1, 6, TEXT_DIM, generator=generator), {}]]


def h3_text() -> H3Text:
    return H3Text()


def write_h3(path: Path) -> None:
    from safetensors.torch import save_file

    weights = h3().model.diffusion_model.state_dict()
    save_file({key: value.contiguous().clone() for key, value in weights.items()}, path)
