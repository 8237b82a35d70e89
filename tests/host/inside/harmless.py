"""Nothing that the pack registers changes what ComfyUI makes of another model's file.

python harmless.py COMFYUI_TREE
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys

from log_lines import Lines
from refusals import error_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy.model_base  # noqa: E402
import comfy.model_detection  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from harmony_pack.nodes import HarmonyExtension  # noqa: E402
from harmony_pack.nodes.host import autoencoders, guider, latent_format, model, passes, registration, run_hooks  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402

PREFIX = "model.diffusion_model."
# A file that core tells by its keys alone, from the first to the last line of its detection.
SD15 = {
    "input_blocks.0.0.weight": (320, 4, 3, 3),
    "input_blocks.1.0.in_layers.0.weight": (320,),
    "input_blocks.1.0.out_layers.3.weight": (320, 320, 3, 3),
    "input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    "out.2.weight": (4, 320, 3, 3),
}
WAN = {
    "head.modulation": (1, 2, 256),
    "head.head.weight": (64, 256),
    "patch_embedding.weight": (256, 16, 1, 2, 2),
    "blocks.0.ffn.0.weight": (512, 256),
    "text_embedding.0.weight": (256, 4096),
}


def weights(shapes: dict[str, tuple[int, ...]], prefix: str = PREFIX) -> dict[str, torch.Tensor]:
    return {prefix + key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def toy_of(entry: type) -> tuple[dict, dict]:
    """What detection would have found in a file of this entry, and the keys it asks for."""
    keys = {key.format(PREFIX): torch.empty(1) for key in getattr(entry, "required_keys", {})}
    return dict(entry.unet_config), keys | weights({"anything.weight": (1,)})


def recognised(config: dict, keys: dict) -> str:
    """Core's answer. Sizes that the answer's constructor asks for are made up."""
    arguments = inspect.signature(comfy.model_detection.model_config_from_unet_config).parameters
    prefix = {"unet_key_prefix": PREFIX} if "unet_key_prefix" in arguments else {}
    while True:
        try:
            return type(comfy.model_detection.model_config_from_unet_config(config, keys, **prefix)).__name__
        except KeyError as missing:
            config = {**config, missing.args[0]: 64}


def answers() -> dict[str, str]:
    """What core recognises in a toy of every entry, and in whole files."""
    found = {}
    for entry in comfy.supported_models.models:
        if entry.__name__ != registration.HarmonyModelConfig.__name__:
            found[entry.__name__] = recognised(*toy_of(entry))
    for name, shapes in (("SD1.5 file", SD15), ("Wan file", WAN)):
        found[name] = type(comfy.model_detection.model_config_from_unet(weights(shapes), PREFIX)).__name__
    return found


def check_detection() -> None:
    before, order = answers(), list(comfy.supported_models.models)
    assert before["Wan file"].startswith("WAN21"), before["Wan file"]
    assert len(set(before.values())) > 40, before
    asyncio.run(HarmonyExtension().on_load())
    asyncio.run(HarmonyExtension().on_load())
    assert answers() == before
    models = comfy.supported_models.models
    assert [entry for entry in models if entry.__name__ != "HarmonyModelConfig"] == order
    assert len(models) == len(order) + 1
    place = [entry.__name__ for entry in models].index("HarmonyModelConfig")
    assert place == next(i for i, entry in enumerate(order) if entry.unet_config.get("image_model") == "wan2.1")

    ours = weights(WAN | {"audio.head.modulation": (1, 2, 256)})
    assert type(comfy.model_detection.model_config_from_unet(ours, PREFIX)) is registration.HarmonyModelConfig
    # another part of a file, under another prefix, says nothing of the transformer
    strange = weights(WAN) | weights({"audio.head.modulation": (1, 2, 256)}, "other.")
    if "unet_key_prefix" in inspect.signature(comfy.supported_models.SD15.matches).parameters:
        assert type(comfy.model_detection.model_config_from_unet(strange, PREFIX)).__name__ == before["Wan file"]


def check_faults() -> None:
    """A fault of ours costs our files alone."""
    before = answers()
    recognises = registration.HarmonyModelConfig.recognises

    def broken(*_, **__):
        raise RuntimeError("broken")

    registration.HarmonyModelConfig.recognises = broken
    logging.disable(logging.CRITICAL)
    assert answers() == before
    logging.disable(logging.NOTSET)
    registration.HarmonyModelConfig.recognises = recognises
    for nothing in (None, {}):
        assert registration.HarmonyModelConfig.matches({"image_model": "wan2.1"}, nothing) is False
    assert registration.HarmonyModelConfig.matches(None, None) is False

    models = comfy.supported_models.models
    comfy.supported_models.models = without = tuple(m for m in models if m.__name__ != "HarmonyModelConfig")
    log = Lines()
    logging.getLogger("harmony_pack").addHandler(log)
    asyncio.run(HarmonyExtension().on_load())
    assert comfy.supported_models.models == without
    assert log.lines == [
        "Harmony: ComfyUI's own loaders will not know Harmony files: "
        "TypeError: 'tuple' object does not support item assignment"
    ], log.lines
    comfy.supported_models.models = models


def overridden(kind: type) -> list[tuple[str, object]]:
    """Methods of core's that a class of ours replaces."""
    core = [base for base in kind.__mro__[1:] if base.__module__.split(".")[0] == "comfy"]
    return [
        (name, getattr(kind, name))
        for name, value in vars(kind).items()
        if (inspect.isfunction(value) or isinstance(value, classmethod)) and any(hasattr(base, name) for base in core)
    ]


OURS = (
    registration.HarmonyModelConfig,
    model.HarmonyModel,
    model.CONDRows,
    guider.SyncCFGGuider,
    autoencoders.BundleVAE,
    autoencoders.BundleVideoVAE,
    autoencoders.BundleAudioVAE,
    latent_format.TinyLatent,
    latent_format.Wan22Latent,
)
# called by core without being an override
CALLED = (
    model.ComfyTransformer.forward,
    autoencoders.VideoStage.encode,
    autoencoders.VideoStage.decode,
    autoencoders.AudioStage.encode,
    autoencoders.AudioStage.decode,
    run_hooks._around_run,
    run_hooks._with_driver_cache,
    passes.prepare_pass,
)
BUILT_BY_US = ("__init__",)  # our own code calls these constructors; core calls HarmonyModelConfig's


def check_signatures() -> None:
    """What core calls takes arguments that a later core may add."""
    found = [(f"{kind.__name__}.{name}", method) for kind in OURS for name, method in overridden(kind)]
    assert len(found) > 20, found
    checked = [item for item in found if not item[0].endswith(BUILT_BY_US) or "ModelConfig" in item[0]]
    for name, method in [*checked, *((function.__qualname__, function) for function in CALLED)]:
        parameters = inspect.signature(method).parameters.values()
        assert any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters), f"{name} takes no keyword"

    config = registration.HarmonyModelConfig({"image_model": "wan2.1", "dim": 64}, later=1)
    assert config.matches({"image_model": "wan2.1"}, {"audio.head.modulation": 1}, later=1) is True
    assert config.process_unet_state_dict({}, later=1) == {} == config.process_vae_state_dict({}, later=1)
    assert config.clip_target(state_dict={}, later=1) is None
    # core's loader would put the path of another class in front of the reason
    error = error_of(config.get_model, {"audio.head.modulation": torch.empty(1, 2, 64)})
    assert type(error) is ValueError
    assert "This Harmony file" in str(error), error
    patcher, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    harmony = patcher.model
    latent = torch.zeros(1, 4, 2, 4, 4)
    assert harmony.scale_latent_inpaint(x=1, sigma=2, noise=3, latent_image=latent, later=1) is latent
    assert torch.equal(harmony.process_latent_in(latent, later=1), harmony.process_latent_out(latent, later=1))
    assert harmony.memory_required([1, 1, 4096], cond_shapes={}, later=1) > 0
    times = harmony.process_timestep(torch.ones(1), torch.ones(1, 1, 2, 4, 4), torch.ones(1, 1, 5), x=1, later=1)
    assert [tuple(time.shape) for time in times] == [(1, 2), (1, 5)]
    assert audio_vae.vae_encode_crop_pixels(torch.ones(1, 8, 2), later=1).shape == (1, 8, 1)
    stage = clip.cond_stage_model
    tokens = clip.tokenizer.tokenize_with_weights("a red ball", later=1)
    assert stage.encode_token_weights(tokens, later=1)[0].ndim == 3
    stage.set_clip_options({}, later=1)
    stage.reset_clip_options(later=1)
    assert vae.first_stage_model.encode(torch.zeros(1, 3, 5, 64, 64), later=1).shape[2] == 2


if __name__ == "__main__":
    check_detection()
    check_faults()
    check_signatures()
    print("ok")
