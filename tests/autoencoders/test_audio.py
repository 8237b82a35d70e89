"""MMAudio's 16 kHz autoencoder and vocoder: recorded outputs, diffusers live, files as published."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmony_core.autoencoders.audio import MMAudioVAE, fold_convolutions, fold_weight_norm, folded
from harmony_core.autoencoders.vocoder import DEFAULT_CONFIG, Vocoder
from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.parts import load_audio_vae

FIXTURES = Path(os.environ.get("HARMONY_FIXTURES", Path(__file__).parents[1] / "fixtures"))
OWN_FIXTURES = Path(__file__).parents[1] / "fixtures"
MMAUDIO = FIXTURES / "mmaudio"
INPUTS, OUTPUTS = load_file(MMAUDIO / "inputs.safetensors"), load_file(MMAUDIO / "outputs.safetensors")
VAE_FILES = ("vae_weights_raw_unnormalised", "vae_weights_folded")
VOCODER_FILES = ("vocoder_weights_weightnorm", "vocoder_weights_folded")


def load(vae: str = VAE_FILES[0], vocoder: str = VOCODER_FILES[0], dtype: torch.dtype = torch.float32) -> MMAudioVAE:
    return load_audio_vae([MMAUDIO / f"{vae}.safetensors", MMAUDIO / f"{vocoder}.safetensors"], dtype)


@pytest.fixture(scope="module")
def model() -> MMAudioVAE:
    return load()


def close(found: Tensor, expected: Tensor) -> bool:
    """To 1e-5 of the largest value."""
    return bool((found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max())))


def heard_alike(found: Tensor, expected: Tensor) -> bool:
    """Spectra to 1e-5 of the largest. Their logarithms differ more where there is next to nothing: processors' Fourier
    transforms round differently there."""
    return close(10**found, 10**expected) and bool((found - expected).abs().max() < 5e-3)


def test_mel(model: MMAudioVAE) -> None:
    buffers = load_file(MMAUDIO / "mel_buffers.safetensors")
    assert (model.mel_converter.mel_basis - buffers["mel_basis"]).abs().max() < 1e-7
    assert torch.equal(model.mel_converter.hann_window, buffers["hann_window"])
    assert heard_alike(model.mel(INPUTS["wav"]), OUTPUTS["mel"])


@pytest.mark.parametrize("file", VAE_FILES)
def test_recorded_latents_and_mels(file: str) -> None:
    model = load(vae=file)
    mean, logvar = model.vae.posterior(OUTPUTS["mel"])
    assert close(mean, OUTPUTS["latent_mean"])
    assert close(logvar, OUTPUTS["latent_logvar"])
    assert (model.encode(INPUTS["wav"]) - OUTPUTS["latent_mean"]).abs().max() < 1e-3  # as the mel
    assert close(model.vae.decode(INPUTS["z"]), OUTPUTS["dec_mel_from_z"])
    assert close(model.vae.decode(OUTPUTS["latent_mean"]), OUTPUTS["dec_mel_from_mean"])


@pytest.mark.parametrize("file", VOCODER_FILES)
def test_recorded_waveform(file: str) -> None:
    """The recording's input is the first frames of the analysed mel.

    2.4e-5 at most, in float64 too and with diffusers' class alike, so it is the recording's own rounding.
    """
    model = load(vocoder=file)
    expected = OUTPUTS["vocoder_wav"][:, 0]
    frames = expected.shape[1] // 256
    assert (model.vocoder(OUTPUTS["mel"][..., :frames]) - expected).abs().max() < 5e-5


def test_the_vocoder_is_diffusers_in_float64(model: MMAudioVAE) -> None:
    """diffusers' class ends without bias and with a clamp, so its last convolution's output is what is compared."""
    diffusers = pytest.importorskip("diffusers")
    if not hasattr(diffusers, "MMAudioVocoder"):
        pytest.skip("this diffusers has no MMAudioVocoder")
    config = model.config["vocoder"]
    theirs = diffusers.MMAudioVocoder(
        num_mels=config["num_mels"],
        upsample_initial_channel=config["upsample_initial_channel"],
        upsample_rates=tuple(config["upsample_rates"]),
        upsample_kernel_sizes=tuple(config["upsample_kernel_sizes"]),
    ).double()
    ours = Vocoder(**config).double()
    weights = load_file(MMAUDIO / "vocoder_weights_folded.safetensors")
    ours.load_state_dict(weights)
    theirs.load_state_dict({key: value for key, value in weights.items() if key != "conv_post.bias"})
    before_clamp = []
    theirs.conv_post.register_forward_hook(lambda _module, _inputs, output: before_clamp.append(output))
    mel = OUTPUTS["mel"][:1, :, :8].double()
    with torch.no_grad():
        theirs(mel)
        expected = torch.tanh(before_clamp[0] + ours.conv_post.bias)[:, 0]
        assert (ours(mel) - expected).abs().max() < 1e-12


def test_bfloat16() -> None:
    half = load(dtype=torch.bfloat16)
    expected = OUTPUTS["latent_mean"]
    error = (half.encode(INPUTS["wav"]).float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.03
    assert half.mel_converter.mel_basis.dtype == torch.float32


def test_lengths_and_interface(model: MMAudioVAE) -> None:
    waveform = 0.1 * torch.randn(2, 512 * 5, generator=torch.Generator().manual_seed(0))
    latents = model.encode(waveform)
    assert latents.shape == (2, model.latent_channels, 5)
    sound = model.decode(latents)
    assert sound.shape == waveform.shape
    assert sound.abs().max() <= 1
    with pytest.raises(ValueError, match="2600 samples, but a multiple of 512 is needed; cut or pad it to 2560"):
        model.encode(torch.zeros(1, 2600))


def test_silence_is_a_mel_of_minus_five(model: MMAudioVAE) -> None:
    silence = torch.zeros(1, 512 * 8)
    constant = torch.full((1, 80, 16), -5.0)
    assert (model.mel(silence) - constant).abs().max() < 1e-6
    expected, _ = model.vae.posterior(constant)
    assert close(model.encode(silence), expected)
    assert expected.abs().max() > 0.01


def test_folding_is_told_from_the_weights() -> None:
    raw, done = (load_file(MMAUDIO / f"{name}.safetensors") for name in VAE_FILES)
    assert not folded(raw)
    assert folded(done)
    folding = fold_convolutions(raw)
    assert all((folding[key] - done[key]).abs().max() < 1e-6 for key in done)


def test_both_spellings_of_weight_norm() -> None:
    tensors, done = (load_file(MMAUDIO / f"{name}.safetensors") for name in VOCODER_FILES)
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in tensors.items()
    }
    new = {
        key.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value
        for key, value in tensors.items()
    }
    assert set(old) != set(new)
    for spelling in (old, new):
        found = fold_weight_norm(spelling)
        assert set(found) == set(done)
        assert all((found[key] - done[key]).abs().max() < 1e-6 for key in done)


@pytest.mark.parametrize(
    ("listing", "rename"),
    [
        ("keys_comfy_mmaudio_16k_real", ""),
        ("keys_vae16k_real", "vae."),
        ("keys_bigvgan16k_real_folded", "vocoder."),
    ],
)
def test_keys_of_the_real_files(listing: str, rename: str) -> None:
    recorded = json.loads((OWN_FIXTURES / "mmaudio" / f"{listing}.json").read_text())
    expected = {rename + key: tuple(shape) for key, shape in recorded.items()}
    with torch.device("meta"):
        own = {key: tuple(value.shape) for key, value in MMAudioVAE().state_dict().items()}
    assert {key: shape for key, shape in own.items() if key.startswith(rename)} == expected


def test_the_real_vocoder_folds_from_weight_norm() -> None:
    recorded = json.loads((OWN_FIXTURES / "mmaudio" / "keys_bigvgan16k_real_with_weightnorm.json").read_text())
    assert len(recorded) == 784
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in recorded.items()}
        found = fold_weight_norm(tensors)
    folded_list = json.loads((OWN_FIXTURES / "mmaudio" / "keys_bigvgan16k_real_folded.json").read_text())
    assert {key: list(value.shape) for key, value in found.items()} == folded_list


def test_diffusers_live(model: MMAudioVAE) -> None:
    """diffusers' class is the 44 kHz one: its mel takes the natural logarithm, so the autoencoder alone is compared."""
    diffusers = pytest.importorskip("diffusers")
    if not hasattr(diffusers, "MMAudioVAE"):
        pytest.skip("this diffusers has no MMAudioVAE")
    theirs = diffusers.MMAudioVAE(
        mel_bins=80,
        latent_channels=model.latent_channels,
        hidden_channels=model.config["width"],
        sample_rate=16000,
        n_fft=1024,
        hop_length=256,
    ).eval()
    theirs.vae.load_state_dict(load_file(MMAUDIO / "vae_weights_folded.safetensors"))
    waveform = 0.3 * torch.randn(1, 512 * 6, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        natural = theirs.mel_converter(waveform)
        assert (natural / torch.log(torch.tensor(10.0)) - model.mel(waveform)).abs().max() < 1e-5
        mel = model.mel(waveform)
        mean, _ = model.vae.posterior(mel)
        assert close(mean, theirs.vae.encode(mel)[:, : model.latent_channels])
        assert close(model.vae.decode(mean), theirs.vae.decode(mean))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    vae = MMAUDIO / f"{VAE_FILES[1]}.safetensors"
    with pytest.raises(CheckpointError, match=r"1 missing, first vocoder\.\*\. Give both files"):
        load_audio_vae(vae)
    tensors = load_file(vae)
    odd = tmp_path / "odd.safetensors"
    save_file({**tensors, "unet.conv.weight": torch.zeros(1)}, odd)
    with pytest.raises(CheckpointError, match=r"1 unexpected, first unet\.conv\.weight"):
        load_audio_vae([odd, MMAUDIO / f"{VOCODER_FILES[1]}.safetensors"])
    del tensors["decoder.mid.attn_1.qkv.weight"]
    save_file(tensors, odd)
    with pytest.raises(CheckpointError, match=r"1 missing, first vae\.decoder\.mid\.attn_1\.qkv\.weight"):
        load_audio_vae([odd, MMAUDIO / f"{VOCODER_FILES[1]}.safetensors"])


def test_the_default_vocoder_makes_256_samples_a_frame() -> None:
    product = 1
    for rate in DEFAULT_CONFIG["upsample_rates"]:
        product *= rate
    assert product == 256
