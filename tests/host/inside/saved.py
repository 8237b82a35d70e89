"""Merging, saving and loading again with core's own nodes gives the same model and parts.

python saved.py COMFYUI_TREE
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from refusals import message_of
from safetensors.torch import load_file

from tools.comfyui.pack import load_pack

TREE, FOLDER = sys.argv[1], Path.cwd()
load_pack(TREE)

import comfy.samplers  # noqa: E402
import comfy_extras.nodes_model_merging as merging  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from harmony_pack.harmony_core.checkpoints.bundle import load_bundle  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import HarmonyCheckpointLoader, HarmonyModelLoader  # noqa: E402

import nodes as core_nodes  # noqa: E402

BUILT_IN = "harmony-tiny (built in)"
KEY = "diffusion_model.blocks.0.ffn.0.weight"
Parts = tuple[Any, Any, Any, Any]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def made_by(patcher: Any, clip: Any) -> list[torch.Tensor]:
    """One step of a short clip. [video, audio]."""
    text = encode_captions(clip, "a red ball falls", "a knock on wood", "", "separate")
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(text, text)
    guider.set_cfg(1.0)
    noise, euler = nest(random(1, 24, 3, 8, 8), random(1, 20, 18)), comfy.samplers.sampler_object("euler")
    return list(guider.sample(noise, noise * 0.0, euler, torch.tensor([1.0, 0.0]), seed=1).unbind())


def same(found: list[torch.Tensor], wanted: list[torch.Tensor], what: str) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0, msg=lambda text: f"{what}: {text}")


def saved(node: Any, prefix: str, **inputs: Any) -> str:
    """The name of the file that a core node has written."""
    node.save(filename_prefix=prefix, **inputs)
    (found,) = FOLDER.glob(f"{prefix}_*.safetensors")
    return found.name


def merged(patcher: Any) -> Any:
    """A quarter of the built-in model, three quarters of one whose first block is another."""
    other = patcher.clone()
    other.add_patches({KEY: (random(*patcher.model.state_dict()[KEY].shape),)}, 0.1)
    return merging.ModelMergeSimple().merge(other, patcher, 0.75)[0]


def main() -> None:
    register_model()
    folder_paths.set_output_directory(str(FOLDER))
    for kind in ("diffusion_models", "checkpoints"):
        folder_paths.add_model_folder_path(kind, str(FOLDER))
    patcher, clip, vae, audio_vae = HarmonyCheckpointLoader.execute(BUILT_IN).result
    model = merged(patcher)
    wanted, original = made_by(model, clip), made_by(patcher, clip)
    assert (wanted[0] - original[0]).abs().max() > 1e-3

    whole = saved(merging.CheckpointSave(), "whole", model=model, clip=clip, vae=vae)
    again = HarmonyCheckpointLoader.execute(whole).result
    same(made_by(*again[:2]), wanted, "CheckpointSave")
    latents = random(1, 24, 3, 8, 8), random(1, 20, 18)
    for index, (part, latent) in enumerate(zip((vae, audio_vae), latents, strict=True)):
        same([again[2 + index].decode(latent)], [part.decode(latent)], f"autoencoder {index}")
    second = saved(merging.CheckpointSave(), "second", model=again[0], clip=again[1], vae=again[2])
    assert load_file(FOLDER / second).keys() == load_file(FOLDER / whole).keys()
    bundle = load_bundle(FOLDER / whole)
    assert not torch.equal(
        bundle.transformer.blocks[0].ffn[0].weight, load_bundle("harmony-tiny").transformer.blocks[0].ffn[0].weight
    )
    same(made_by(core_nodes.CheckpointLoaderSimple().load_checkpoint(whole)[0], clip), wanted, "core's loader")

    alone = saved(merging.ModelSave(), "alone", model=model)
    same(made_by(HarmonyModelLoader.execute(alone, "none", "default").result[0], clip), wanted, "ModelSave")
    message = message_of(HarmonyCheckpointLoader.execute, alone)
    assert f"{alone} is a transformer alone: it lacks vae, audio_vae, text_encoder" in message, message
    assert "Harmony Model Loader" in message, message

    for part, name in ((vae, "video"), (audio_vae, "audio")):
        file = load_file(FOLDER / saved(merging.VAESave(), name, vae=part))
        own = part.first_stage_model.model.state_dict()
        assert file.keys() == own.keys()
        assert all(torch.equal(file[key], own[key]) for key in file)
    file = saved(merging.CLIPSave(), "text", clip=clip)
    assert len(load_file(FOLDER / file)) == len(clip.cond_stage_model.state_dict())
    message = message_of(HarmonyCheckpointLoader.execute, file)
    assert f"{file} is not a Harmony checkpoint" in message, message
    assert "CheckpointSave" in message, message

    message = message_of(lambda: merging.CheckpointSave().save(patcher, clip, audio_vae, "wrong"))
    assert "This VAE is not of the model's checkpoint" in message, message
    assert not list(FOLDER.glob("wrong*")), "something was written"
    print("ok")


if __name__ == "__main__":
    with torch.no_grad():
        main()
