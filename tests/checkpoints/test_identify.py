"""`harmony info`: what a file is, and how much memory it needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.identify import identify

FIXTURES = Path(__file__).parents[1] / "fixtures"


def bare(parts: dict[str, Path], name: str, folder: Path) -> Path:
    """A file without our config, as others publish theirs."""
    path = folder / f"{name}.safetensors"
    save_file(load_file(parts[name]), path)
    return path


@pytest.mark.parametrize(
    ("name", "layout", "use"),
    [
        ("video_vae", "the Wan2.2 VAE in diffusers' layout", "--video-vae FILE"),
        ("audio_vae", "MMAudio's autoencoder", "--audio-vae FILE --audio-vae VOCODER"),
        ("vocoder", "MMAudio's vocoder (BigVGAN)", "--audio-vae AUTOENCODER"),
        ("text_encoder", "umT5 in Hugging Face's and ComfyUI's layout", "--text-encoder FILE"),
        ("wan", "Wan2.2-TI2V-5B in its original (ComfyUI's) layout", "video without sound"),
    ],
)
def test_published_files(parts: dict[str, Path], tmp_path: Path, name: str, layout: str, use: str) -> None:
    path = bare(parts, name, tmp_path)
    facts = identify(path)
    assert facts["layout"] == layout
    assert use in facts["for"]
    assert facts["parts"]["weights"]["parameters"] == sum(each.numel() for each in load_file(path).values())
    assert facts["parts"]["weights"]["dtypes"]["F32"] > 0
    assert facts["config"].get("num_layers") == (2 if name == "wan" else None)


def test_ovi_whole_and_in_halves(tmp_path: Path) -> None:
    whole = load_file(FIXTURES / "ovi" / "weights.safetensors")
    weights = {key.replace("modulation.modulation", "modulation"): value for key, value in whole.items()}
    audio = {key: value for key, value in weights.items() if key.startswith("audio_model.")}
    video = {key.removeprefix("video_model."): value for key, value in weights.items() if key not in audio}
    for name, tensors in (("audio", audio), ("video", video)):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        facts = identify(tmp_path / f"{name}.safetensors")
        assert facts["layout"] == f"{name} half of a split Ovi"
        assert "--audio-model" in facts["for"]


def test_our_own_files(parts: dict[str, Path], random_checkpoint: Path) -> None:
    assert identify(random_checkpoint)["for"] == "harmony generate --model FILE"
    assert "--audio-vae" in identify(parts["harmony"])["for"]


def test_lora_and_what_is_unknown(tmp_path: Path) -> None:
    tensors = {"blocks.0.ffn.0.lora_A.weight": torch.zeros(4, 32), "blocks.0.ffn.0.lora_B.weight": torch.zeros(64, 4)}
    save_file(tensors, tmp_path / "lora.safetensors")
    facts = identify(tmp_path / "lora.safetensors")
    assert (facts["layout"], facts["config"]) == ("LoRA", {"rank": [4]})
    save_file({**tensors, "blocks.0.ffn.0.alpha": torch.tensor(4.0)}, tmp_path / "lora.safetensors")
    assert identify(tmp_path / "lora.safetensors")["layout"] == "LoRA"
    save_file({"unet.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors has no layout that is known here.*unet\.weight"):
        identify(tmp_path / "other.safetensors")


@pytest.mark.parametrize("config", ['{"transformer": {"num_layers": 48}}', "3", "not JSON"])
def test_what_others_write_as_config_is_theirs(parts: dict[str, Path], tmp_path: Path, config: str) -> None:
    save_file(load_file(parts["wan"]), tmp_path / "theirs.safetensors", metadata={"config": config})
    assert identify(tmp_path / "theirs.safetensors")["layout"].startswith("Wan2.2")


def as_tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def test_a_tensor_named_like_our_settings_is_theirs(parts: dict[str, Path], tmp_path: Path) -> None:
    for strange in (torch.rand(3), torch.zeros(2, 2), as_tensor(b"\xff\xfe")):
        save_file({**load_file(parts["wan"]), "harmony_config": strange}, tmp_path / "theirs.safetensors")
        assert identify(tmp_path / "theirs.safetensors")["layout"].startswith("Wan2.2")


SIZES = {"dim": 48, "ffn_dim": 64, "num_heads": 4, "num_layers": 1, "seconds": "2", "height": 64, "width": 64}


def test_settings_that_leave_out_defaults_are_ours(tmp_path: Path) -> None:
    path, text = tmp_path / "ours.safetensors", json.dumps({"transformer": SIZES})
    tensors = {"blocks.0.weight": torch.zeros(2)}
    save_file(tensors, path, metadata={"config": text})
    assert "--audio-vae" in identify(path)["for"]
    save_file({**tensors, "harmony_config": as_tensor(text.encode())}, path, metadata={"config": "a tool's own"})
    assert identify(path)["layout"] == "harmony transformer"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": json.dumps({"transformer": SIZES | {"colour": 1}})}, "that this version cannot read.*colour"),
        ({"config": json.dumps({"transformer": SIZES}), "model_card": "{"}, "its model_card is no JSON"),
        ({"config": json.dumps({"transformer": SIZES}), "model_card": "[1]"}, r"its model_card is \[1\]"),
    ],
)
def test_settings_of_ours_that_cannot_be_read(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "ours.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=rf"ours\.safetensors.*{message}"):
        identify(tmp_path / "ours.safetensors")


@pytest.mark.parametrize(("content", "message"), [(b"{", "is no JSON"), (b"[1]", "as .1., which"), (b"{}", "as {}")])
def test_a_quantisation_that_says_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    save_file({"a.weight": torch.zeros(2), "a.comfy_quant": as_tensor(content)}, tmp_path / "q.safetensors")
    with pytest.raises(CheckpointError, match=rf"q\.safetensors.*{message}"):
        identify(tmp_path / "q.safetensors")


def test_a_file_without_tensors_is_nothing_known(tmp_path: Path) -> None:
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.safetensors has no layout that is known here"):
        identify(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is no JSON"),
        ("[]", "it has no weight_map"),
        ('{"weight_map": [1]}', "it has no weight_map"),
        ('{"weight_map": {"a": 3}}', "it has no weight_map"),
        ('{"weight_map": {}}', "it has no weight_map"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"a\.json is no index of safetensors shards: {message}"):
        identify(tmp_path / "a.json")


def test_the_command(harmony, parts: dict[str, Path], tmp_path: Path) -> None:
    code, printed, err = harmony("info", bare(parts, "wan", tmp_path))
    assert code == 0, err
    assert "for: harmony generate --model FILE --video-vae" in printed
    code, printed, err = harmony("info", "ovi-11b", "--memory")
    assert code == 0, err
    assert "11,660,753,108" in printed
    code, _, err = harmony("info", parts["vocoder"], "--memory")
    assert code == 2
    assert "--memory is about transformers" in err
    code, _, err = harmony("info", "harmony-tiny", "--memory")
    assert code == 2
    assert "models that use the Wan2.2 autoencoder and umT5" in err
    code, printed, _ = harmony("info", parts["audio_vae"], "--json")
    assert json.loads(printed)["layout"] == "MMAudio's autoencoder"
