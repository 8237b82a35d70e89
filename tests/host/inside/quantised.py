"""A toy file of every format in which the core at hand computes, made by core itself, through our loader and core's.

    python quantised.py COMFYUI_TREE

A prediction equals that of the weights which core itself unpacks. Some formats' kernels round the inputs as well, so
there the loaded model's weights are unpacked in place for that, and as they are the prediction must be close.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from refusals import message_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tools.comfyui.pack import load_pack

TREE, FOLDER = sys.argv[1], Path.cwd()
load_pack(TREE)

import comfy.samplers  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor  # noqa: E402
from harmony_pack.harmony_core.checkpoints.bundle import embedded_checkpoints  # noqa: E402
from harmony_pack.harmony_core.checkpoints.files import load_transformer  # noqa: E402
from harmony_pack.harmony_core.checkpoints.layout import map_keys  # noqa: E402
from harmony_pack.harmony_core.checkpoints.ovi import OVI  # noqa: E402
from harmony_pack.harmony_core.config import HarmonyConfig, SpeechConfig  # noqa: E402
from harmony_pack.harmony_core.model import HarmonyTransformer  # noqa: E402
from harmony_pack.harmony_core.presets import preset  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.loaders import HarmonyCheckpointLoader, HarmonyModelLoader  # noqa: E402

import nodes as core_nodes  # noqa: E402

SIZES = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 2}
HARMONY = preset("harmony-5b").with_(**SIZES, speech=SpeechConfig(dim=32, num_blocks=1))
OVI_CONFIG = preset("ovi-11b").with_(**SIZES, audio_ffn_conv_dim=64)
SMOOTHED = {"pre_quant_scale": True}  # a factor for every input of a layer
CONVROT = {"convrot": True, "convrot_groupsize": 256}
# (format, what a layer's settings add, core's own arguments of the quantisation)
FORMATS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("float8_e4m3fn", {}, {"scale": "recalculate"}),
    ("float8_e5m2", {}, {"scale": "recalculate"}),
    ("nvfp4", {}, {}),
    ("nvfp4", SMOOTHED, {}),
    ("mxfp8", {}, {}),
    ("int8_tensorwise", {}, {}),
    ("int8_tensorwise", CONVROT, {"per_channel": True, **CONVROT}),
    ("convrot_w4a4", {"convrot_groupsize": 256}, {"convrot_groupsize": 256}),
    ("asym_w4a8_int8", {"group_size": 16, "convrot_groupsize": 256}, {}),
]
VIDEO, AUDIO = (1, 48, 3, 4, 4), (1, 20, 12)
Weights = dict[str, torch.Tensor]


def as_tensor(settings: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps(settings).encode()), dtype=torch.uint8)


def random_weights(config: HarmonyConfig) -> Weights:
    generator = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in HarmonyTransformer(config, device="meta").state_dict().items()}
    return {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}


def quantised(weights: Weights, form: str, extra: dict, options: dict) -> tuple[Weights, Weights]:
    """(file, the same unpacked by core): linear layers of the blocks and of the text embedding in a format."""
    file, plain = {}, {}
    for key, value in weights.items():
        layer = key.removesuffix(".weight")
        linear = value.ndim == 2 and ("blocks." in key or "text_embedding." in key)
        if not linear or value.shape[1] % 256:  # the widest group that a format rotates
            file[key] = plain[key] = value
            continue
        packed = QuantizedTensor.from_float(value, QUANT_ALGOS[form]["comfy_tensor_layout"], **options)
        file |= {name: each.contiguous() for name, each in packed.state_dict(key).items()}
        settings = {} if extra == SMOOTHED else extra
        file[f"{layer}.comfy_quant"] = as_tensor({"format": form, **settings})
        plain[key] = packed.dequantize().reshape(value.shape)
        if extra == SMOOTHED:
            smoothing = torch.rand(value.shape[1], generator=torch.Generator().manual_seed(value.numel())) + 0.5
            file[f"{layer}.pre_quant_scale"] = smoothing
            plain[key] = plain[key] * smoothing
    return file, plain


def renamed(weights: Weights) -> Weights:
    """Under Ovi's names."""
    theirs, _ = map_keys(tuple((ours, theirs) for theirs, ours in OVI), weights)
    names = {ours: name for name, ours in theirs.items()}
    return {
        names.get(key)
        or names[f"{key.rpartition('.')[0]}.weight"].removesuffix("weight") + key.rpartition(".")[2]: value
        for key, value in weights.items()
    }


def unpack(patcher: Any) -> None:
    """Every weight as core itself unpacks it, in place."""
    for module in patcher.model.diffusion_model.modules():
        if isinstance(getattr(module, "weight", None), QuantizedTensor):
            module.weight = torch.nn.Parameter(module.weight.dequantize(), requires_grad=False)


def load(name: str) -> Any:
    return HarmonyModelLoader.execute(name, "none", "default").result[0]


def sampled(patcher: Any) -> list[torch.Tensor]:
    """One step from the same noise: what the model predicts of the clip. [video, audio]."""
    generator = torch.Generator().manual_seed(1)
    video, audio, context = (torch.randn(shape, generator=generator) for shape in (VIDEO, AUDIO, (1, 512, 4096)))
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds([[context, {}]], [[context, {}]])
    guider.set_cfg(1.0)
    noise, euler = nest(video, audio), comfy.samplers.sampler_object("euler")
    return list(guider.sample(noise, noise * 0.0, euler, torch.tensor([1.0, 0.0]), seed=1).unbind())


def far(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """The largest difference, of the largest value where that is above 1."""
    return max(
        float((one - other).abs().max()) / max(1.0, float(other.abs().max()))
        for one, other in zip(found, wanted, strict=True)
    )


def check_format(weights: Weights, form: str, extra: dict, options: dict, stored: dict[str, str] | None) -> None:
    """`stored`: the metadata of our own layout; None for Ovi's, whose shapes tell the config."""
    names = renamed if stored is None else dict
    title = "_".join(["ovi" if stored is None else "harmony", form, *extra])
    file, plain = quantised(weights, form, extra, options)
    assert len(file) > len(weights)
    save_file(names(plain), FOLDER / "plain.safetensors", stored)
    save_file(names(file), FOLDER / f"{title}.safetensors", stored)
    wanted = sampled(load("plain.safetensors"))
    patcher = load(f"{title}.safetensors")
    kept = [each for each in patcher.model.state_dict() if each.endswith(".comfy_quant")]
    assert len(kept) == sum(key.endswith(".comfy_quant") for key in file), len(kept)
    found, error = sampled(patcher), 0.0
    rounds = not QUANT_ALGOS[form].get("quantize_input", True)
    if rounds:
        error = far(found, wanted)
        assert 0 < error < 0.2, f"{title}: off by {error} with rounded inputs"
        unpack(patcher)
        found = sampled(patcher)
    assert far(found, wanted) < 1e-3, f"{title}: off by {far(found, wanted)}"
    if stored is not None:
        save_file(file, FOLDER / f"{title}.safetensors")  # by its shapes alone
        core = core_nodes.UNETLoader().load_unet(f"{title}.safetensors", "default")[0]
        assert far(sampled(core), wanted) <= max(error + 1e-6, 1e-3), f"{title}, by core's loader"
    if form not in ("float8_e4m3fn", "float8_e5m2"):
        message = message_of(load_transformer, FOLDER / f"{title}.safetensors")
        for words in (f"{title}.safetensors holds", f"as {form}, which", "Harmony Model Loader"):
            assert words in message, message
    print("same", title, f"{far(found, wanted):.1e}, with rounded inputs {error:.1e}")


def check_metadata(weights: Weights) -> None:
    """A file that tells the format of its layers in its metadata."""
    file, plain = quantised(weights, *FORMATS[0])
    layers = {
        key.removesuffix(".comfy_quant"): bytes(file[key].tolist()) for key in file if key.endswith("comfy_quant")
    }
    settings = {"layers": {layer: json.loads(text) for layer, text in layers.items()}}
    bare = {key: value for key, value in file.items() if not key.endswith("comfy_quant")}
    save_file(plain, FOLDER / "plain.safetensors")
    save_file(bare, FOLDER / "meta.safetensors", {"_quantization_metadata": json.dumps(settings)})
    error = far(sampled(load("meta.safetensors")), sampled(load("plain.safetensors")))
    assert error < 1e-3, error


def check_bundle() -> None:
    """A bundle whose transformer alone is quantised."""
    path = embedded_checkpoints()["harmony-tiny"]
    weights, prefix = load_file(path), "model.diffusion_model."
    inner = {key.removeprefix(prefix): weights.pop(key) for key in list(weights) if key.startswith(prefix + "blocks.")}
    layer = QuantizedTensor.from_float(inner["blocks.0.ffn.0.weight"].float(), "TensorCoreNVFP4Layout")
    inner |= layer.state_dict("blocks.0.ffn.0.weight") | {"blocks.0.ffn.0.comfy_quant": as_tensor({"format": "nvfp4"})}
    with safe_open(path, "pt") as file:
        save_file(
            weights | {prefix + key: value for key, value in inner.items()}, FOLDER / "b.safetensors", file.metadata()
        )
    patcher, *_ = HarmonyCheckpointLoader.execute("b.safetensors").result
    found = patcher.model.diffusion_model.blocks[0].ffn[0].weight
    assert torch.equal(found.dequantize().float(), layer.dequantize()), found


def check_refusals(weights: Weights) -> None:
    unknown = [form for form, *_ in FORMATS if form not in QUANT_ALGOS] + ["made_up_w2"]
    for form in unknown:
        file = {**weights, "blocks.0.ffn.0.comfy_quant": as_tensor({"format": form})}
        save_file(file, FOLDER / "new.safetensors")
        message = message_of(load, "new.safetensors")
        assert f"new.safetensors holds blocks.0.ffn.0 as {form}, which this ComfyUI does not know" in message, message
        assert re.search("float8_e4m3fn.*update ComfyUI", message), message
    smoothed, _ = quantised(weights, "nvfp4", SMOOTHED, {})
    if "pre_quant_scale" not in QUANT_ALGOS["nvfp4"]["parameters"]:
        save_file(smoothed, FOLDER / "smooth.safetensors")
        assert "as nvfp4 with pre_quant_scale, which" in message_of(load, "smooth.safetensors")
        FORMATS.remove(("nvfp4", SMOOTHED, {}))
    deep = torch.frombuffer(bytearray(b"[" * 9000), dtype=torch.uint8)
    save_file({**weights, "blocks.0.ffn.0.comfy_quant": deep}, FOLDER / "deep.safetensors")
    for loader in (load, HarmonyCheckpointLoader.execute):
        message = message_of(loader, "deep.safetensors")
        assert "deep.safetensors: blocks.0.ffn.0.comfy_quant is no JSON" in message, message


def main() -> None:
    register_model()
    for kind in ("diffusion_models", "checkpoints"):
        folder_paths.add_model_folder_path(kind, str(FOLDER))
    harmony, ovi = random_weights(HARMONY), random_weights(OVI_CONFIG)
    check_refusals(harmony)
    check_metadata(harmony)
    check_bundle()
    known = [each for each in FORMATS if each[0] in QUANT_ALGOS]
    assert len(known) >= 4, list(QUANT_ALGOS)
    settings = {"config": json.dumps({"transformer": HARMONY.to_dict()})}
    for form in known:
        check_format(harmony, *form, settings)
        check_format(ovi, *form, None)
    print("ok")


if __name__ == "__main__":
    with torch.no_grad():
        main()
