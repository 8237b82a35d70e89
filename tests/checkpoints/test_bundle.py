"""Bundle files: round trip, self-description, and an error for every way a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harmony_core.checkpoints import CheckpointError, describe, load_bundle, resolve, save_bundle, weight_files, write
from harmony_core.checkpoints.bundle import CONFIG_KEY, TRANSFORMER, load_companions
from harmony_core.checkpoints.files import open_model
from harmony_core.checkpoints.identify import identify
from harmony_core.outputs import OutputError


def test_round_trip(random_checkpoint: Path, tmp_path: Path):
    first = load_bundle(random_checkpoint)
    save_bundle(tmp_path / "again.safetensors", first, torch.float32)
    again = load_bundle(tmp_path / "again.safetensors")
    assert again.config == first.config
    assert again.model_card == {"name": "random"}
    for part in ("transformer", "video_vae", "audio_vae", "text_encoder"):
        for one, other in zip(
            getattr(first, part).state_dict().values(), getattr(again, part).state_dict().values(), strict=True
        ):
            assert torch.equal(one, other)


def test_the_config_survives_a_tool_that_drops_metadata(random_checkpoint: Path, tmp_path: Path):
    save_file(load_file(random_checkpoint), tmp_path / "bare.safetensors")
    with safe_open(tmp_path / "bare.safetensors", framework="pt") as file:
        assert file.metadata() is None
    assert load_bundle(tmp_path / "bare.safetensors").config == load_bundle(random_checkpoint).config


def test_metadata_and_tensor_hold_the_same_settings(random_checkpoint: Path):
    with safe_open(random_checkpoint, framework="pt") as file:
        stored = bytes(file.get_tensor(TRANSFORMER + CONFIG_KEY).tolist()).decode()
        assert json.loads(stored) == json.loads(file.metadata()["config"])


def test_companions_are_a_bundle_without_its_transformer(random_checkpoint: Path, monkeypatch):
    bundle = load_bundle(random_checkpoint)
    monkeypatch.delattr("harmony_core.checkpoints.bundle.HarmonyTransformer")  # it must not be built
    config, *parts = load_companions(random_checkpoint)
    assert config == bundle.config
    for part, whole in zip(parts, (bundle.video_vae, bundle.audio_vae, bundle.text_encoder), strict=True):
        assert not part.training
        assert all(torch.equal(value, whole.state_dict()[key]) for key, value in part.state_dict().items())


@pytest.mark.parametrize("use", [load_bundle, load_companions, describe, identify, open_model])
def test_a_bundle_is_opened_once(random_checkpoint: Path, monkeypatch, use):
    """Header, settings, transformer and every part through one handle."""
    opened = []

    def counted(path: Path, **options: str) -> safe_open:
        opened.append(Path(path))
        return safe_open(path, **options)

    monkeypatch.setattr(weight_files, "safe_open", counted)
    use(random_checkpoint)
    assert opened == [random_checkpoint]


def test_describe(random_checkpoint: Path):
    facts = describe(random_checkpoint)
    bundle = load_bundle(random_checkpoint)
    assert facts["layout"] == "harmony bundle"
    assert facts["parts"]["transformer"]["parameters"] == sum(p.numel() for p in bundle.transformer.parameters())
    assert facts["config"]["dim"] == bundle.config.dim


def test_a_failed_write_leaves_the_bundle_before(random_checkpoint: Path, tmp_path: Path, monkeypatch):
    path = tmp_path / "bundle.safetensors"
    path.write_bytes(random_checkpoint.read_bytes())

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(write, "_write", fail)
    with pytest.raises(OutputError, match="disk full"):
        save_bundle(path, load_bundle(random_checkpoint), torch.float16)
    assert path.read_bytes() == random_checkpoint.read_bytes()


def broken(random_checkpoint: Path, tmp_path: Path, change) -> Path:
    tensors = load_file(random_checkpoint)
    change(tensors)
    save_file(tensors, tmp_path / "broken.safetensors")
    return tmp_path / "broken.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(TRANSFORMER + "head.head.weight"), r"1 missing, first head\.head\.weight"),
        (lambda t: t.update({TRANSFORMER + "blocks.9.x": torch.zeros(1)}), r"1 unexpected, first blocks\.9\.x"),
        (lambda t: t.update({"clip.x": torch.zeros(1)}), r"1 unknown tensors, the first: clip\.x"),
        (lambda t: t.update({"vae.latent_mean": torch.zeros(2)}), r"of another shape, first latent_mean"),
        (lambda t: t.pop(TRANSFORMER + CONFIG_KEY), "not a Harmony checkpoint"),
    ],
)
def test_keys_that_do_not_fit_are_named(random_checkpoint: Path, tmp_path: Path, change, words: str):
    with pytest.raises(CheckpointError, match=words):
        load_bundle(broken(random_checkpoint, tmp_path, change))


def test_wrong_files(random_checkpoint: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"no checkpoint file .*nowhere.*one of"):
        resolve(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.safetensors cannot be read"):
        describe(tmp_path / "text.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(random_checkpoint.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors cannot be read"):
        load_bundle(tmp_path / "cut.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"x")
    with pytest.raises(
        CheckpointError, match=r"old\.ckpt is a pickle.*`harmony convert old\.ckpt -o old\.safetensors`"
    ):
        load_bundle(tmp_path / "old.ckpt")


@pytest.mark.parametrize("settings", [3, {"colour": 1}, {"channels": "many"}])
@pytest.mark.parametrize("part", ["vae", "audio_vae", "text_encoder"])
def test_settings_of_parts_that_cannot_be(random_checkpoint: Path, tmp_path: Path, part: str, settings: object):
    path = tmp_path / "odd.safetensors"
    tensors = load_file(random_checkpoint)
    stored = json.loads(bytes(tensors.pop("model.diffusion_model.harmony_config").tolist()))
    save_file(tensors, path, metadata={"config": json.dumps(stored | {part: settings})})
    with pytest.raises(CheckpointError, match=r"odd\.safetensors holds settings that this version cannot read"):
        load_bundle(path)
