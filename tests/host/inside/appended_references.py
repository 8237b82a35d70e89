"""Reference pictures and voices of a toy DreamID-Omni, with its guidance: ComfyUI's clip is the command line's.

python appended_references.py COMFYUI_TREE FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from refusals import message_of

from tools.comfyui.pack import load_pack

TREE, FOLDER = sys.argv[1], Path(sys.argv[2])
load_pack(TREE)

import comfy.samplers  # noqa: E402
import folder_paths  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from harmony_pack.harmony_core.checkpoints import load_bundle  # noqa: E402
from harmony_pack.harmony_core.config import HarmonyConfig  # noqa: E402
from harmony_pack.harmony_core.diffusion.flow import sigmas  # noqa: E402
from harmony_pack.harmony_core.diffusion.latents import draw_noise  # noqa: E402
from harmony_pack.harmony_core.media import AudioClip  # noqa: E402
from harmony_pack.harmony_core.model import HarmonyTransformer  # noqa: E402
from harmony_pack.harmony_core.pipelines import GenerateRequest, HarmonyPipeline  # noqa: E402
from harmony_pack.harmony_core.presets import preset  # noqa: E402
from harmony_pack.nodes.guidance import HarmonySyncCFG  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest, split_latent  # noqa: E402
from harmony_pack.nodes.host.layout import empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import HarmonyModelLoader, load_checkpoint  # noqa: E402
from harmony_pack.nodes.reference import give_reference, give_reference_images  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

SECONDS, VOICE_SECONDS, STEPS, SEED = 0.64, 0.4, 2, 3
WORDS = "a red ball bounces on wood", "a ball hits wood"
# The built-in autoencoders and text encoder around a DreamID-Omni of their sizes.
CONFIG = preset("dreamid-omni").with_(
    **{
        "dim": 128,
        "ffn_dim": 160,
        "num_heads": 1,
        "num_layers": 2,
        "audio_ffn_conv_dim": 64,
        "prompt_format": "separate",
    },
    **{
        name: getattr(preset("harmony-tiny"), name)
        for name in (
            *("freq_dim", "text_dim", "text_len", "video_channels", "audio_channels", "audio_latent_rate"),
            *("spatial_stride", "fps", "seconds", "height", "width"),
        )
    },
    num_audio_latents=(),
)
SCALES = {
    name: getattr(CONFIG, name)
    for name in ("video_text_scale", "audio_text_scale", "video_reference_scale", "audio_reference_scale")
}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), np.uint8)
VOICE = AudioClip(np.sin(np.arange(16000) * 0.05).astype(np.float32)[None] * 0.3, 16000)


def random_transformer(config: HarmonyConfig) -> HarmonyTransformer:
    generator = torch.Generator().manual_seed(0)
    model = HarmonyTransformer(config)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def load(name: str, config: HarmonyConfig) -> Any:
    """The random model as MODEL."""
    tensors = random_transformer(config).state_dict()
    save_file(tensors, FOLDER / name, {"config": json.dumps({"transformer": config.to_dict()})})
    return HarmonyModelLoader.execute(name, "none", "default").result[0]


def assert_refused(words: str, call: Callable) -> None:
    message = message_of(call)
    assert re.search(words, message), message


def main() -> None:
    register_model()
    folder_paths.add_model_folder_path("diffusion_models", str(FOLDER))
    _, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    latent, anchors, _ = empty_clip(vae, audio_vae, SECONDS, 0, 0, 0)
    empty = split_latent(latent)
    pictures = torch.from_numpy(IMAGES).float() / 255
    sound = {"waveform": torch.from_numpy(VOICE.samples)[None], "sample_rate": VOICE.sample_rate}

    def referenced(conditioning: Any) -> Any:
        for picture in pictures:  # one node after another
            conditioning, notes = give_reference_images(conditioning, vae, latent, picture[None])
            assert notes == ("reference image: 80x48 -> 64x64, whole",), notes
        return give_reference(conditioning, audio_vae, sound, VOICE_SECONDS)[0]

    plain, without_text = (encode_captions(clip, *words, "", "separate") for words in (WORDS, ("", "")))
    positive, negative = referenced(plain), referenced(without_text)
    together, _ = give_reference_images(plain, vae, latent, pictures)
    assert torch.equal(together[0][1]["harmony_reference_image"], positive[0][1]["harmony_reference_image"])

    def run(model: Any, conds: tuple[Any, Any], scales: dict[str, float], latent: Any = empty) -> list[torch.Tensor]:
        guider = HarmonySyncCFG.execute(model, conds[0], anchors, 1.0, 1.0, conds[1], **scales).result[0]
        noise = draw_noise(*(part.shape for part in latent), SEED)
        euler = comfy.samplers.sampler_object("euler")
        return guider.sample(nest(*noise), nest(*latent), euler, sigmas(STEPS, CONFIG.shift), seed=SEED).unbind()

    model, rows = load("dreamid.safetensors", CONFIG), []
    model.model.diffusion_model.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0][0])))
    ours = run(model, (positive, negative), SCALES)
    assert rows == [4] * STEPS, rows

    bundle = replace(load_bundle("harmony-tiny"), config=CONFIG, transformer=random_transformer(CONFIG))
    request = GenerateRequest(
        **{"prompt": WORDS[0], "audio_prompt": WORDS[1], "negative_prompt": "", "negative_audio_prompt": ""},
        **{"seconds": SECONDS, "seed": SEED, "steps": STEPS},
        reference_images=tuple(IMAGES),
        reference_audio=VOICE,
        reference_seconds=VOICE_SECONDS,
    )
    made = HarmonyPipeline(bundle)(request)
    assert made.passes_per_step == 4
    for found, expected in zip(ours, (made.latents_video, made.latents_audio), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)

    off = SCALES | {"video_reference_scale": 1.0, "audio_reference_scale": 1.0}
    rows.clear()
    unguided = run(model, (positive, negative), off)
    assert rows == [2] * STEPS, rows
    for found, expected in zip(ours, unguided, strict=True):
        assert (found - expected).abs().max() > 1e-2

    voice_only = give_reference(plain, audio_vae, sound, VOICE_SECONDS)[0]
    assert_refused("needs a reference; add HarmonyReferenceImage", lambda: run(model, (voice_only, negative), SCALES))
    assert_refused("needs a reference; add HarmonyReferenceAudio", lambda: run(model, (together, negative), SCALES))
    assert_refused("8x8 latents, but the clip is 6x8", lambda: model_sees(model, together, (8, 6)))
    ovi = load("ovi.safetensors", CONFIG.with_(references="prepended"))
    assert_refused("not trained with reference images", lambda: run(ovi, (together, without_text), off))
    assert_refused("no guidance by references", lambda: run(ovi, (positive, negative), SCALES))
    print("ok")


def model_sees(model: Any, conditioning: Any, size: tuple[int, int]) -> None:
    """One step of a clip whose latents have this size."""
    video, audio = torch.zeros(1, CONFIG.video_channels, 3, *size), torch.zeros(1, CONFIG.audio_channels, 18)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning, conditioning)
    guider.set_cfg(1.0)
    clip = nest(video, audio)
    guider.sample(clip, clip, comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.0]), seed=SEED)


if __name__ == "__main__":
    with torch.no_grad():
        main()
