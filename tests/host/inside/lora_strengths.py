"""LoRA, partial loading and compilation of the built-in model, against the plain one.

python lora_strengths.py COMFYUI_TREE FOLDER
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from refusals import message_of

from tools.comfyui.pack import load_pack

TREE, FOLDER = sys.argv[1], Path(sys.argv[2])
load_pack(TREE)

import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_api.torch_helpers import set_torch_compile_wrapper  # noqa: E402
from harmony_pack.harmony_core.model.roles import JOINT  # noqa: E402
from harmony_pack.nodes.host.model import Row  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402
from harmony_pack.nodes.lora import HarmonyLora  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import nodes as core_nodes  # noqa: E402

RANK, CPU = 2, torch.device("cpu")
WAN_SIZES = {"model_type": "t2v", "dim": 128, "ffn_dim": 128, "num_heads": 1, "num_layers": 1}
WAN_SIZES |= {"in_dim": 48, "out_dim": 48}
VIDEO_KEYS = {
    "blocks.0.self_attn.q.weight",
    "blocks.1.cross_attn.k.weight",
    "blocks.2.ffn.0.weight",
    "interactions.0.a2v.q.weight",
}
AUDIO_KEYS = {
    "audio.blocks.0.self_attn.q.weight",
    "interactions.0.v2a.k.weight",
    "interactions.0.style.v.weight",
    "speech.proj.weight",
}
PEFT = ("lora_A.weight", "lora_B.weight")
# One video layer as four programs name it, and the ends of its keys
WAN_NAMES = {
    "comfyui": ("diffusion_model.blocks.0.self_attn.q", PEFT),
    "kohya": ("lora_unet_blocks_0_self_attn_q", ("lora_down.weight", "lora_up.weight")),
    "diffusers": ("transformer.blocks.0.attn1.to_q", PEFT),
    "ovi": ("video_model.blocks.0.self_attn.q", PEFT),
}


def write_loras(weights: dict[str, torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)

    def pair(key: str, layer: str, ends: tuple[str, str] = PEFT) -> dict[str, torch.Tensor]:
        rows, columns = weights[key].shape
        shapes = (RANK, columns), (rows, RANK)
        return {
            f"{layer}.{end}": torch.randn(shape, generator=generator) for end, shape in zip(ends, shapes, strict=True)
        }

    both = {}
    for key in sorted(VIDEO_KEYS | AUDIO_KEYS):
        both |= pair(key, "diffusion_model." + key.removesuffix(".weight"))
    save_file(both, FOLDER / "both.safetensors")
    for name, keys in WAN_NAMES.items():
        save_file(pair("blocks.0.self_attn.q.weight", *keys), FOLDER / f"{name}.safetensors")
    save_file({"unet.down.lora_A.weight": torch.zeros(1, 1)}, FOLDER / "other.safetensors")


def lora(patcher, name: str, video: float, audio: float):
    return HarmonyLora.execute(patcher, f"{name}.safetensors", video, audio).result[0]


def weights_of(patcher) -> dict[str, torch.Tensor]:
    """What the model computes with while this patcher is loaded."""
    patcher.patch_model(device_to=CPU)
    found = {key: value.clone() for key, value in patcher.model.diffusion_model.state_dict().items()}
    patcher.unpatch_model(device_to=CPU)
    return found


def changed(patcher, base: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, value in weights_of(patcher).items() if not torch.equal(value, base[key])}


def velocities(model) -> list[torch.Tensor]:
    """One forward pass on fixed random inputs."""
    generator = torch.Generator().manual_seed(1)
    config = model.harmony
    video = torch.randn(1, config.video_channels, 3, 4, 4, generator=generator)
    audio = torch.randn(1, config.audio_channels, 6, generator=generator)
    context = torch.randn(1, config.text_len, config.text_dim, generator=generator)
    return model.diffusion_model(
        [video, audio],
        (torch.full((1, 3), 0.7), torch.full((1, 6), 0.7)),
        transformer_options={},
        context=context,
        audio_context=context,
        video_mask=torch.ones(1, 1, 3, 4, 4),
        audio_mask=torch.ones(1, 1, 6),
        rows=(Row(JOINT, None),),
    )


def outputs(patcher, lowvram_model_memory: int = 0) -> list[torch.Tensor]:
    model = patcher.patch_model(device_to=CPU, lowvram_model_memory=lowvram_model_memory)
    found = velocities(model)
    patcher.unpatch_model(device_to=CPU)
    return found


def assert_same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def assert_differ(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert not torch.allclose(one, other, atol=1e-2)


def refused(patcher, name: str) -> str:
    return message_of(lora, patcher, name, 1.0, 1.0)


def main() -> None:
    register_model()
    folder_paths.add_model_folder_path("loras", str(FOLDER))
    patcher = load_checkpoint("harmony-tiny (built in)")[0]
    base = weights_of(patcher)
    write_loras(base)

    assert changed(lora(patcher, "both", 0.0, 0.0), base) == set()
    assert changed(lora(patcher, "both", 1.0, 0.0), base) == VIDEO_KEYS
    assert changed(lora(patcher, "both", 0.0, 1.0), base) == AUDIO_KEYS
    assert changed(patcher, base) == set(), "the model that went in was changed"
    for name in WAN_NAMES:
        assert changed(lora(patcher, name, 1.0, 1.0), base) == {"blocks.0.self_attn.q.weight"}, name

    plain, ours = outputs(patcher), outputs(lora(patcher, "both", 0.5, 0.5))
    assert_differ(ours, plain)
    assert_same(outputs(lora(patcher, "both", 0.0, 0.0)), plain)
    core = core_nodes.LoraLoaderModelOnly()
    assert_same(outputs(core.load_lora_model_only(patcher, "both.safetensors", 0.5)[0]), ours)
    for name in ("comfyui", "kohya"):
        assert changed(core.load_lora_model_only(patcher, f"{name}.safetensors", 1.0)[0], base), name

    wanted = load_file(FOLDER / "wanted.safetensors")  # what --lora makes of a file that harmony train wrote
    for way in (lora(patcher, "trained", 1.0, 1.0), core.load_lora_model_only(patcher, "trained.safetensors", 1.0)[0]):
        found = weights_of(way)
        assert {key for key in found if not torch.equal(found[key], base[key])} == set(wanted)
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4)

    assert_same(outputs(patcher, lowvram_model_memory=1), plain)
    assert_same(outputs(lora(patcher, "both", 0.5, 0.5), lowvram_model_memory=1), ours)

    message = refused(patcher, "other")
    assert "No key of other.safetensors fits this model" in message, message
    (FOLDER / "old.pt").write_bytes(pickle.dumps({"w": print}))
    (FOLDER / "cut.safetensors").write_bytes((FOLDER / "both.safetensors").read_bytes()[:-100])
    save_file({"diffusion_model.blocks.0.ffn.0.lora_A.weight": torch.zeros(())}, FOLDER / "flat.safetensors")
    for file, words in (
        ("old.pt", "old.pt is a pickle"),
        ("cut.safetensors", "cut.safetensors cannot be read as safetensors"),
        ("flat.safetensors", "lora_A.weight has shape [], but must be a matrix"),
    ):
        message = message_of(HarmonyLora.execute, patcher, file, 1.0, 1.0)
        assert words in message, message
        assert "weights_only" not in message, message
    config = comfy.supported_models.WAN22_T2V(WAN_SIZES)
    config.set_inference_dtype(torch.float32, None)
    wan = comfy.model_patcher.ModelPatcher(config.get_model({}, ""), CPU, CPU)
    message = refused(wan, "both")
    assert "this is WAN22; use LoraLoaderModelOnly" in message, message

    compiled = patcher.clone(disable_dynamic=True)
    set_torch_compile_wrapper(model=compiled, backend="eager")
    assert_same(outputs(compiled), plain)
    print("ok")


if __name__ == "__main__":
    with torch.no_grad():
        main()
