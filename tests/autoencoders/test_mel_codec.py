"""UniAVGen's sound: recorded mels and a recorded waveform of its vocoder."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from harmony_core.autoencoders.mel_codec import MEL_MEAN, MEL_STD, MelCodec, vocoder_scale
from harmony_core.checkpoints.errors import CheckpointError
from harmony_core.checkpoints.parts import load_audio_vae
from tests.checkpoints.uniavgen_cases import FIXTURES, TOLERANCES

MELS = load_file(FIXTURES / "mel.safetensors")
WEIGHTS = FIXTURES / "vocoder_weights.safetensors"


def toy_codec() -> MelCodec:
    codec = load_audio_vae(WEIGHTS)
    assert isinstance(codec, MelCodec)
    return codec


@pytest.mark.parametrize("name", sorted({key.split(".")[0] for key in MELS if key.endswith(".waveform")}))
def test_recorded_mels(name: str) -> None:
    codec = toy_codec()
    for dtype, tolerance in ((torch.float32, "mel_fp32_abs"), (torch.float64, "mel_fp64_abs")):
        codec.mel_converter.to(dtype)
        codec.mel_converter.hann_window = torch.hann_window(1024, dtype=dtype)
        mel = codec.mel(MELS[f"{name}.waveform"][None])[0].T
        assert float((mel - MELS[f"{name}.mel"]).abs().max()) < TOLERANCES[tolerance]
        normalised = (mel - MEL_MEAN) / MEL_STD
        assert float((normalised - MELS[f"{name}.normalised"]).abs().max()) < TOLERANCES[tolerance]


def test_silence_is_a_constant() -> None:
    silence = toy_codec().encode(torch.zeros(1, 2400))
    torch.testing.assert_close(silence, torch.full((1, 80, 10), -2.9417125), rtol=0, atol=1e-5)


@torch.no_grad()
def test_recorded_vocoder() -> None:
    recorded, codec = load_file(FIXTURES / "vocoder.safetensors"), toy_codec()
    mel = recorded["mel"].T[None]
    processed = vocoder_scale(mel)[0].T
    assert float((processed - recorded["processed"]).abs().max()) < TOLERANCES["vocoder_fp32_abs"]
    waveform = codec.decode((mel - MEL_MEAN) / MEL_STD)[0]
    assert float((waveform - recorded["waveform"]).abs().max()) < TOLERANCES["vocoder_fp32_abs"]


def test_real_vocoder_keys() -> None:
    shapes = json.loads((FIXTURES / "keys_vocoder_real.json").read_text())
    shapes = {key: tuple(shape[0] if isinstance(shape[0], list) else shape) for key, shape in shapes.items()}
    with torch.device("meta"):
        own = MelCodec().vocoder.state_dict()
    assert {key: tuple(value.shape) for key, value in own.items() if not key.endswith("filter")} == shapes


def test_strict_about_the_vocoder(tmp_path) -> None:
    save_file({**load_file(WEIGHTS), "extra": torch.zeros(1)}, tmp_path / "vocoder.safetensors")
    with pytest.raises(CheckpointError, match="extra"):
        load_audio_vae(tmp_path / "vocoder.safetensors")
