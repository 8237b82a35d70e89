"""Pickles to safetensors, MMAudio to ComfyUI's file, Ovi to Harmony's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harmony_core.autoencoders.mel_codec import MelCodec
from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.convert import convert
from harmony_core.checkpoints.files import load_transformer
from harmony_core.checkpoints.identify import identify
from harmony_core.checkpoints.layout import recognise
from harmony_core.checkpoints.parts import load_audio_vae
from harmony_core.checkpoints.write import SAFETENSORS_DTYPES, write_safetensors
from harmony_core.model import HarmonyTransformer
from harmony_core.model.initialize import initialize
from harmony_core.outputs import OutputError
from harmony_core.presets import preset

FIXTURES = Path(__file__).parents[1] / "fixtures"
MMAUDIO = FIXTURES / "mmaudio"


class Harmful:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def ovi_weights() -> dict[str, torch.Tensor]:
    """A toy Ovi of published head width, under Ovi's names."""
    config = preset("ovi-11b").with_(
        dim=128, ffn_dim=64, num_heads=1, num_layers=2, text_dim=16, freq_dim=32, audio_ffn_conv_dim=24
    )
    model = HarmonyTransformer(config)
    initialize(model, torch.Generator().manual_seed(5))
    recorded = json.loads((FIXTURES / "ovi" / "keys_real_ovi11b.json").read_text())
    sources = recognise(recorded, "real").sources
    return {sources[key]: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("legacy", [False, True])
def test_weights(tmp_path: Path, legacy: bool) -> None:
    shared = torch.rand(3, 4)
    tensors = {
        "a.weight": shared,
        "b.weight": shared,
        "c.weight": torch.rand(4, 3, dtype=torch.bfloat16).T,
        "steps": torch.tensor(7),
        "none": torch.empty(0, 3),
    }
    source, target = tmp_path / "x.pth", tmp_path / "out" / "x.safetensors"
    torch.save(tensors, source, _use_new_zipfile_serialization=not legacy)
    assert convert(source, target, "weights") == sorted(tensors)
    found = load_file(target)
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in tensors.items())
    convert(source, target, "weights", torch.float16)
    found = load_file(target)
    assert found["c.weight"].dtype == torch.float16
    assert found["steps"].dtype == torch.int64


def test_a_nested_state_dict_is_found(tmp_path: Path) -> None:
    torch.save({"generator": {"w": torch.ones(2)}}, tmp_path / "x.pt")
    assert convert(tmp_path / "x.pt", tmp_path / "x.safetensors", "weights") == ["w"]


def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(2), "trap": Harmful()}, tmp_path / "x.pth")
    refused = r"x\.pth cannot be read as weights alone, so it is refused: it names \S+, which is code\.$"
    with pytest.raises(CheckpointError, match=refused):
        convert(tmp_path / "x.pth", tmp_path / "x.safetensors", "weights")
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "x.safetensors").exists()


def test_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors; the first other entry is epoch"):
        convert(tmp_path / "x.pth", tmp_path / "x.safetensors", "weights")


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Unknown conversion 'flux'\. Conversions: weights, mmaudio, ovi"):
        convert(tmp_path / "x.pth", tmp_path / "x.safetensors", "flux")
    with pytest.raises(CheckpointError, match=r"x\.bin must end in \.safetensors"):
        convert(tmp_path / "x.pth", tmp_path / "x.bin", "weights")
    with pytest.raises(CheckpointError, match="is also the source"):
        convert(tmp_path / "x.safetensors", tmp_path / "x.safetensors", "weights")


def test_mmaudio_makes_comfyuis_file(tmp_path: Path) -> None:
    """From the pickles that MMAudio publishes: unfolded weights, and a vocoder with weight norm under `generator`."""
    vae, vocoder, target = tmp_path / "v1-16.pth", tmp_path / "best_netG.pt", tmp_path / "mmaudio.safetensors"
    torch.save(load_file(MMAUDIO / "vae_weights_raw_unnormalised.safetensors"), vae)
    torch.save({"generator": load_file(MMAUDIO / "vocoder_weights_weightnorm.safetensors")}, vocoder)
    keys = convert([vae, vocoder], target, "mmaudio")
    assert keys == sorted(json.loads((MMAUDIO / "keys_comfy_mmaudio_16k_real.json").read_text()))
    found, folded = load_file(target), load_file(MMAUDIO / "vae_weights_folded.safetensors")
    assert all((found["vae." + key] - value).abs().max() < 1e-6 for key, value in folded.items())
    buffers = load_file(MMAUDIO / "mel_buffers.safetensors")
    assert (found["mel_converter.mel_basis"] - buffers["mel_basis"]).abs().max() < 1e-7
    loaded = load_audio_vae(target)
    latents = loaded.encode(load_file(MMAUDIO / "inputs.safetensors")["wav"])
    assert (latents - load_file(MMAUDIO / "outputs.safetensors")["latent_mean"]).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["folder", "file", "pickles"])
def test_uniavgens_vocoder_becomes_one_file(tmp_path: Path, kind: str) -> None:
    tensors = load_file(FIXTURES / "uniavgen" / "vocoder_weights.safetensors")
    source, target = tmp_path / "code2wav_bigvgan_model", tmp_path / "vocoder.safetensors"
    source.mkdir()
    (source / "config.json").write_text("{}")
    if kind == "pickles":
        torch.save(tensors, source / "pytorch_model.bin")
    else:
        save_file(tensors, source / "model.safetensors")
    keys = convert(source / "model.safetensors" if kind == "file" else source, target, "uniavgen-vocoder")
    assert keys == sorted(tensors)
    assert isinstance(load_audio_vae(target), MelCodec)
    assert identify(target)["for"] == "--audio-vae FILE"
    assert "UniAVGen" in identify(target)["layout"]
    other = tmp_path / "other.safetensors"
    save_file({key: value for key, value in tensors.items() if key != "ups.0.0.bias"}, other)
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not fit .*1 missing, first ups\.0\.0\.bias"):
        convert(other, target, "uniavgen-vocoder")
    with pytest.raises(CheckpointError, match=r"vae_weights_folded\.safetensors is not Qwen2\.5-Omni's vocoder"):
        convert(MMAUDIO / "vae_weights_folded.safetensors", target, "uniavgen-vocoder")


def test_shards_become_one_file(tmp_path: Path) -> None:
    shards, index = tmp_path / "shards", {}
    shards.mkdir()
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file({f"{number}.weight": torch.full((2,), float(number))}, shards / name)
        index[f"{number}.weight"] = name
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for source in (shards, shards / "model.safetensors.index.json"):
        assert convert(source, tmp_path / "one.safetensors", "weights") == ["1.weight", "2.weight"]


@pytest.mark.parametrize("split", [False, True])
def test_ovi_becomes_a_harmony_file(tmp_path: Path, split: bool) -> None:
    tensors, target = ovi_weights(), tmp_path / "harmony_ovi.safetensors"
    sources = [tmp_path / "ovi.safetensors"]
    if split:
        tensors = {
            key.removeprefix("video_model.").replace("modulation.modulation", "modulation"): value
            for key, value in tensors.items()
        }
        sources.append(tmp_path / "ovi_audio.safetensors")
        save_file({key: value for key, value in tensors.items() if key.startswith("audio_model.")}, sources[1])
        tensors = {key: value for key, value in tensors.items() if not key.startswith("audio_model.")}
    save_file(tensors, sources[0])
    convert(sources, target, "ovi")
    config, model = load_transformer(sources)
    with safe_open(target, "pt") as file:
        assert json.loads(file.metadata()["config"])["transformer"] == json.loads(config.to_json())
    assert "audio.head.modulation" in load_file(target)
    found_config, found = load_transformer(target)
    assert found_config == config
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.state_dict().items())


def test_models_with_ovis_keys_are_told_by_the_kind(tmp_path: Path) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "converted.safetensors"
    save_file(ovi_weights(), source)
    for kind, name in (("ovi", "ovi-11b"), ("ovi-960", "ovi-11b-960"), ("dreamid-omni", "dreamid-omni")):
        convert(source, target, kind)
        config, _ = load_transformer(target)
        sizes = ("dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "freq_dim", "audio_ffn_conv_dim")
        assert config == preset(name).with_(**{size: getattr(config, size) for size in sizes})
    assert config.references == "appended"


def test_wan_is_not_ovi(tmp_path: Path) -> None:
    config = preset("wan2.2-ti2v-5b").with_(dim=128, ffn_dim=64, num_heads=1, num_layers=1, text_dim=16)
    model = HarmonyTransformer(config)
    initialize(model, torch.Generator().manual_seed(0))
    save_file(dict(model.state_dict()), tmp_path / "wan.safetensors")
    with pytest.raises(CheckpointError, match=r"wan\.safetensors is not Ovi"):
        convert(tmp_path / "wan.safetensors", tmp_path / "out.safetensors", "ovi")


def test_what_is_no_weight_file_is_an_error(tmp_path: Path) -> None:
    for text in ("just some text\n", ".264 is read as an empty pickle\n"):  # a KeyError, an IndexError
        (tmp_path / "text.pth").write_text(text)
        with pytest.raises(CheckpointError, match=r"text\.pth cannot be read as weights alone"):
            convert(tmp_path / "text.pth", tmp_path / "out.safetensors", "weights")
    for tensors, message in (
        ({"waves": torch.zeros(2, dtype=torch.complex64)}, "waves holds complex64 numbers"),
        ({"eye": torch.eye(3).to_sparse()}, "eye holds float32 numbers .sparse_coo"),
        ({0: torch.ones(2)}, r"other\.pth holds no tensors under names"),
    ):
        torch.save(tensors, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match=message):
            convert(tmp_path / "other.pth", tmp_path / "out.safetensors", "weights")
    save_file({"a": torch.ones(99)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors cannot be read as safetensors"):
        convert(tmp_path / "cut.safetensors", tmp_path / "out.safetensors", "weights")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("dtype", SAFETENSORS_DTYPES)
def test_every_kind_of_number_is_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([0, 1]).to(dtype)
    write_safetensors(tmp_path / "x.safetensors", {"x": values})
    found = load_file(tmp_path / "x.safetensors")["x"]
    assert found.dtype == dtype
    assert found.tolist() == values.tolist()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, {"a": torch.ones(2)})

    class Broken(torch.Tensor):
        def detach(self):
            raise OSError("disk full")

    with pytest.raises(OutputError, match="disk full"):
        write_safetensors(path, {"a": torch.zeros(2).as_subclass(Broken)})
    assert torch.equal(load_file(path)["a"], torch.ones(2))
