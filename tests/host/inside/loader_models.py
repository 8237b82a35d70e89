"""Every published layout, toy-size with random weights, through our loader and core's, against harmony_core.

python loader_models.py COMFYUI_TREE FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from refusals import message_of

from tools.comfyui.pack import load_pack

TREE, FOLDER = sys.argv[1], Path(sys.argv[2])
load_pack(TREE)

import comfy.samplers  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from harmony_pack.harmony_core.checkpoints.convert import convert  # noqa: E402
from harmony_pack.harmony_core.checkpoints.files import load_transformer  # noqa: E402
from harmony_pack.harmony_core.checkpoints.layout import map_keys  # noqa: E402
from harmony_pack.harmony_core.checkpoints.ovi import OVI, OVI_SPLIT  # noqa: E402
from harmony_pack.harmony_core.checkpoints.wan import DIFFUSERS  # noqa: E402
from harmony_pack.harmony_core.config import HarmonyConfig, SpeechConfig  # noqa: E402
from harmony_pack.harmony_core.diffusion.flow import sigmas  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import SyncCFG, TextCFG  # noqa: E402
from harmony_pack.harmony_core.model import HarmonyTransformer  # noqa: E402
from harmony_pack.harmony_core.model.inputs import AudioInput, VideoInput  # noqa: E402
from harmony_pack.harmony_core.presets import preset  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest  # noqa: E402
from harmony_pack.nodes.host.guider import SyncCFGGuider  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.loaders import HarmonyCheckpointLoader, HarmonyModelLoader  # noqa: E402
from harmony_pack.nodes.sampler import check_shift  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import nodes as core_nodes  # noqa: E402

STEPS, CORE_WAN_SHIFT = 3, 8.0
SIZES = {"dim": 128, "ffn_dim": 160, "num_heads": 1, "num_layers": 2}
WAN = preset("wan2.2-ti2v-5b").with_(**SIZES)
OVI_CONFIG = preset("ovi-11b").with_(**SIZES, audio_ffn_conv_dim=64)
HARMONY = preset("harmony-5b").with_(**SIZES, speech=SpeechConfig(dim=32, num_blocks=1))
DREAMID = OVI_CONFIG.with_(references="appended")
VIDEO, AUDIO = (1, 48, 3, 4, 4), (1, 20, 12)
IMAGES, VOICE = (1, 48, 2, 4, 4), (1, 20, 5)
FP8 = torch.float8_e4m3fn


def random_weights(config: HarmonyConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in HarmonyTransformer(config, device="meta").state_dict().items()}
    return {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}


def renamed(weights: dict[str, torch.Tensor], rules: tuple) -> dict[str, torch.Tensor]:
    """Weights of ours under the names of another layout."""
    inverse = tuple((ours, theirs) for theirs, ours in rules)
    names, strange = map_keys(inverse, weights)
    assert not strange, strange
    return {theirs: weights[ours] for theirs, ours in names.items()}


def scaled_fp8(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Linear weights of blocks in fp8 with a scale each, in the style of the published quantised Ovi files."""
    out = {"scaled_fp8": torch.empty(0, dtype=FP8)}
    for key, value in weights.items():
        if value.ndim == 2 and "blocks." in key:
            scale = value.abs().max() / 448
            out |= {key: (value / scale).to(FP8), key.removesuffix("weight") + "scale_weight": scale}
        else:
            out[key] = value
    return out


def write_files() -> None:
    """One file for every layout."""
    wan, ovi, harmony = (random_weights(config) for config in (WAN, OVI_CONFIG, HARMONY))
    text = json.dumps({"transformer": HARMONY.to_dict()})
    save_file(harmony, FOLDER / "harmony.safetensors", {"config": text})
    stored = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    save_file({**harmony, "harmony_config": stored}, FOLDER / "harmony_tensor.safetensors")
    save_file(harmony, FOLDER / "harmony_shapes.safetensors")
    save_file(wan, FOLDER / "wan.safetensors")
    diffusers = renamed(wan, DIFFUSERS)
    save_file(diffusers, FOLDER / "wan_diffusers.safetensors")
    for part in (0, 1):
        shard = {key: diffusers[key] for key in sorted(diffusers)[part::2]}
        save_file(shard, FOLDER / f"wan_shards-0000{part + 1}-of-00002.safetensors")
    save_file(ovi, FOLDER / "dreamid.safetensors", {"config": json.dumps({"transformer": DREAMID.to_dict()})})
    one = renamed(ovi, OVI)
    save_file(one, FOLDER / "ovi.safetensors")
    save_file(scaled_fp8(one), FOLDER / "ovi_fp8.safetensors")
    two = renamed(ovi, OVI_SPLIT)
    for name, audio in (("ovi_video", False), ("ovi_audio", True)):
        half = {key: value for key, value in two.items() if key.startswith("audio_model.") == audio}
        save_file(half, FOLDER / f"{name}.safetensors")
    convert(FOLDER / "ovi.safetensors", FOLDER / "ovi_converted.safetensors", "ovi")


def random_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator) for shape in (VIDEO, AUDIO, (1, 512, 4096)))


def expected(
    paths: list[Path],
    shift: float | None = None,
    image: torch.Tensor | None = None,
    voice: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """harmony_core's own Euler run from the same noise: [video] or [video, audio]."""
    config, model = load_transformer(paths)
    video, audio, context = random_inputs()
    levels = sigmas(STEPS, shift or config.shift)
    for sigma, following in pairwise(levels):
        times = sigma.expand(1, VIDEO[2]), sigma.expand(1, AUDIO[2])
        picture = VideoInput(video, times[0], context, image)
        if config.audio:
            velocity = model(picture, AudioInput(audio, times[1], context, None, voice))
            audio = audio + (following - sigma) * velocity[1]
        else:
            velocity = model(picture)
        video = video + (following - sigma) * velocity[0]
    return [video, audio] if config.audio else [video]


def sampled(patcher, **extra: torch.Tensor) -> list[torch.Tensor]:
    """Core's Euler run of a MODEL, video normalised as the transformer sees it; `extra` is in the conditioning."""
    video, audio, context = random_inputs()
    joint = hasattr(patcher.model, "harmony")
    noise = nest(video, audio) if joint else video
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds([[context, extra]], [[context, extra]])
    guider.set_cfg(1.0)
    levels = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", STEPS)
    euler = comfy.samplers.sampler_object("euler")
    out = guider.sample(noise, noise * 0.0, euler, levels, seed=1)
    streams = list(out.unbind()) if joint else [out]
    return [patcher.model.latent_format.process_in(streams[0]), *streams[1:]]


def check(name: str, patcher, wanted: list[torch.Tensor], tolerance: float = 1e-4, **extra: torch.Tensor) -> None:
    found = sampled(patcher, **extra)
    assert len(found) == len(wanted), name
    for stream, other in zip(found, wanted, strict=True):
        error = float((stream - other).abs().max())
        assert error < tolerance * max(1.0, float(other.abs().max())), f"{name}: off by {error}"
    print("same", name)


def load(model_name: str, audio_name: str = "none", weight_dtype: str = "default"):
    return HarmonyModelLoader.execute(model_name, audio_name, weight_dtype).result[0]


def core_load(name: str):
    return core_nodes.UNETLoader().load_unet(name, "default")[0]


def assert_refused(words: str, call: Callable, *arguments: Any) -> None:
    message = message_of(call, *arguments)
    assert re.search(words, message), f"{arguments} raised {message}"


def check_refusals() -> None:
    """A file that is no model ends in a sentence that names it, in both loaders."""
    (FOLDER / "cut.safetensors").write_bytes((FOLDER / "harmony.safetensors").read_bytes()[:100_000])
    (FOLDER / "old.pth").write_bytes(b"not even a pickle")
    save_file({"unet.conv.weight": torch.zeros(1)}, FOLDER / "flux.safetensors")
    save_file({"head.bias": torch.zeros(1)}, FOLDER / "lonely-00001-of-00002.safetensors")
    pickled = r"old\.pth is a pickle.*`harmony convert old\.pth -o old\.safetensors`"
    assert_refused(pickled, load, "old.pth")
    assert_refused(r"cut\.safetensors cannot be read as safetensors", load, "cut.safetensors")
    assert_refused(r"flux\.safetensors has no layout.*unexpected, first unet\.conv", load, "flux.safetensors")
    assert_refused(r"\(give both\)", load, "ovi_video.safetensors")
    assert_refused(r"is in both harmony\.safetensors and wan\.sa", load, "harmony.safetensors", "wan.safetensors")
    assert_refused(r"lonely-00002-of-00002\.safetensors", load, "lonely-00001-of-00002.safetensors")
    bundle = HarmonyCheckpointLoader.execute
    assert_refused(pickled, bundle, "old.pth")
    assert_refused(r"cut\.safetensors cannot be read as safetensors", bundle, "cut.safetensors")
    assert_refused(r"flux\.safetensors is not a Harmony checkpoint", bundle, "flux.safetensors")
    assert_refused(r"harmony\.safetensors is a transformer alone", bundle, "harmony.safetensors")


def main() -> None:
    register_model()
    for kind in ("diffusion_models", "checkpoints"):
        folder_paths.add_model_folder_path(kind, str(FOLDER))
    write_files()
    check_refusals()
    file = {path.stem: path for path in FOLDER.glob("*.safetensors")}

    wanted = expected([file["harmony"]])
    for name in ("harmony", "harmony_tensor", "harmony_shapes"):
        check(name, load(f"{name}.safetensors"), wanted)
        check(f"{name}, core", core_load(f"{name}.safetensors"), wanted)

    wanted = expected([file["wan"]])
    for name in ("wan", "wan_diffusers", "wan_shards-00002-of-00002"):
        patcher = load(f"{name}.safetensors")
        assert type(patcher.model).__name__ == "WAN22", type(patcher.model)
        check(name, patcher, wanted)
    only_video = "video and sound .*, not WAN22; use core's"
    off = {"video_scale": 1.0, "audio_scale": 1.0}
    assert_refused(only_video, SyncCFGGuider, patcher, SyncCFG(**off), TextCFG(**off), (None, None))
    assert_refused("not WAN22", check_shift, patcher, 5.0)
    check("wan, core", core_load("wan.safetensors"), expected([file["wan"]], CORE_WAN_SHIFT))

    wanted = expected([file["ovi"]])
    check("ovi", load("ovi.safetensors"), wanted)
    check("ovi, split", load("ovi_video.safetensors", "ovi_audio.safetensors"), wanted)
    check("ovi, converted", load("ovi_converted.safetensors"), wanted)
    check("ovi, converted, core", core_load("ovi_converted.safetensors"), wanted)
    quantised = load("ovi_fp8.safetensors")
    kept = quantised.model.state_dict()["diffusion_model.blocks.0.ffn.0.weight"]
    assert kept.dtype == FP8, kept.dtype
    check("ovi, scaled fp8", quantised, expected([file["ovi_fp8"]]), tolerance=2e-3)
    model = load("ovi.safetensors").model
    assert not model.harmony.driver_isolation

    images, voice = (torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in (IMAGES, VOICE))
    wanted_with = expected([file["dreamid"]], image=images, voice=voice)
    unknown_voice = r"not trained with a reference voice.*leave HarmonyReferenceAudio out"
    ovi = load("ovi.safetensors")
    assert_refused(unknown_voice, lambda: sampled(ovi, harmony_reference_audio=voice))
    patcher = load("dreamid.safetensors")
    raw = patcher.model.latent_format.process_out(images)
    check("dreamid", patcher, wanted_with, harmony_reference_image=raw, harmony_reference_audio=voice)

    for weight_dtype, dtype in (("fp8_e4m3fn", FP8), ("fp8_e4m3fn_fast", FP8), ("fp8_e5m2", torch.float8_e5m2)):
        patcher = load("harmony.safetensors", weight_dtype=weight_dtype)
        assert patcher.model.diffusion_model.blocks[0].ffn[0].weight.dtype == dtype
        assert all(stream.isfinite().all() for stream in sampled(patcher))
    # what hooks and TorchCompileModel ask for
    check("a second time", load("ovi_video.safetensors", "ovi_audio.safetensors").clone(disable_dynamic=True), wanted)
    print("ok")


if __name__ == "__main__":
    with torch.no_grad():
        main()
