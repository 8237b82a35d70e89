"""Wan2.2's video autoencoder: keys of the published file, latent statistics, and diffusers' own results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harmony_core.autoencoders.video import LATENT_MEAN, LATENT_STD, WAN22_CONFIG, WanVideoVAE
from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.layout import map_keys
from harmony_core.checkpoints.parts import load_video_vae
from harmony_core.checkpoints.wan import VAE

pytest.importorskip("diffusers")

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOY = {"base_dim": 8, "decoder_base_dim": 8}


def original_key(key: str) -> str:
    """A key of diffusers' class under the name that Wan's own modules give it, from their structure."""
    side, *rest = key.split(".")
    if side in ("quant_conv", "post_quant_conv"):
        return ".".join([{"quant_conv": "conv1", "post_quant_conv": "conv2"}[side], *rest])
    inner = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
    inner["conv_shortcut"] = "shortcut"
    stage = "downsamples" if side == "encoder" else "upsamples"
    resampler_index = 2 if side == "encoder" else 3  # after the level's residual blocks
    head, leaf = rest[0], rest[-1]
    if head in ("down_blocks", "up_blocks"):
        level = f"{side}.{stage}.{rest[1]}.{stage}"
        if rest[2] == "resnets":
            return f"{level}.{rest[3]}.{inner[rest[4]]}.{leaf}"
        return ".".join([level, str(resampler_index), *rest[3:]])
    if head == "mid_block":
        if rest[1] == "resnets":
            return f"{side}.middle.{2 * int(rest[2])}.{inner[rest[3]]}.{leaf}"
        return ".".join([side, "middle.1", *rest[3:]])
    return f"{side}." + {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2"}[head] + f".{leaf}"


@pytest.fixture(scope="module")
def toy() -> WanVideoVAE:
    torch.manual_seed(0)
    return WanVideoVAE(TOY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def video() -> Tensor:
    return torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_latent_statistics_are_the_recorded_ones() -> None:
    recorded = json.loads((FIXTURES / "wan22" / "latent_norm.json").read_text())
    assert list(LATENT_MEAN) == recorded["mean"]
    assert list(LATENT_STD) == recorded["std"]


def test_every_key_of_the_published_size_maps() -> None:
    own = {key: tuple(value.shape) for key, value in WanVideoVAE(device="meta").vae.state_dict().items()}
    assert len(own) == 196
    assert sum(torch.Size(shape).numel() for shape in own.values()) == 704_688_668
    sources, strange = map_keys(VAE, [original_key(key) for key in own])
    assert not strange
    assert sources == {key: original_key(key) for key in own}


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_files_load_and_agree_with_diffusers(toy: WanVideoVAE, video: Tensor, tmp_path: Path, layout: str) -> None:
    rename = original_key if layout == "original" else str
    path = tmp_path / "wan2.2_vae.safetensors"
    save_file({rename(key): value.contiguous() for key, value in toy.vae.state_dict().items()}, path)
    loaded = load_video_vae(path)
    assert loaded.config == {**WAN22_CONFIG, **TOY}
    latents = loaded.encode(video)
    assert latents.shape == (1, 48, 2, 2, 3)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (LATENT_MEAN, LATENT_STD))
    raw = toy.vae.encode(video).latent_dist.mode()
    assert torch.allclose(latents * std + mean, raw, atol=1e-6)
    decoded = loaded.decode(latents)
    assert decoded.shape == video.shape
    assert torch.allclose(decoded, toy.vae.decode(raw).sample, atol=1e-5)
    assert decoded.abs().max() <= 1


def test_the_first_latent_holds_the_first_frame_alone(toy: WanVideoVAE, video: Tensor) -> None:
    assert torch.allclose(toy.encode(video)[:, :, :1], toy.encode(video[:, :, :1]), atol=1e-5)


def test_wrong_sizes_are_refused(toy: WanVideoVAE, video: Tensor) -> None:
    with pytest.raises(ValueError, match=r"has 4 frames, but 4n\+1 are needed; cut or pad it to 5"):
        toy.encode(video[:, :, :4])
    with pytest.raises(ValueError, match="48x24, but both must be multiples of 16"):
        toy.encode(video[..., :24, :])


def test_other_files_are_named(toy: WanVideoVAE, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    save_file({"first_stage.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"none of: the Wan2\.2 VAE .* first keys: first_stage\.conv\.weight"):
        load_video_vae(path)
    tensors = {original_key(key): value.contiguous() for key, value in toy.vae.state_dict().items()}
    del tensors["decoder.head.0.gamma"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"1 missing, first decoder\.norm_out\.gamma"):
        load_video_vae(path)
