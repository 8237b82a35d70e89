"""Core's multi-GPU path (passes of a step on copies of the model, in threads) gives what one device gives.

There is one CPU: its two names, "cpu" and "cpu:0", are two devices to core's table of copies.

python several_devices.py COMFYUI_TREE
"""

from __future__ import annotations

import sys
from typing import Any

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import Isolated  # noqa: E402
from harmony_pack.harmony_core.model.driver_cache import DriverCache  # noqa: E402
from harmony_pack.nodes.host.av_latent import split_anchors, split_latent  # noqa: E402
from harmony_pack.nodes.host.layout import empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402
from toys import (  # noqa: E402
    H3_AUDIO,
    H3_VIDEO,
    HAS_H3,
    core_guider,
    core_models,
    differ,
    h3_models,
    h3_text,
    ltx_text,
    our_guider,
    pair,
    run,
    same,
    scales,
    zeros,
)

SIGMAS = (1.0, 0.6, 0.3, 0.0)
OTHER = torch.device("cpu", 0)


def on_two(patcher: ModelPatcher) -> ModelPatcher:
    """The model with a copy for another device, as core's MultiGPU CFG Split makes it."""
    patcher = patcher.clone()
    copy = patcher.deepclone_multigpu(new_load_device=OTHER)
    copy.is_multigpu_base_clone = True
    patcher.set_additional_models("multigpu", [copy])
    return patcher


def check_harmony() -> None:
    register_model()
    patcher, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    positive = encode_captions(clip, "a red ball bounces on wood", "a ball hits wood", "", "separate")
    negative = encode_captions(clip, "", "", "", "separate")
    latent, anchors, _ = empty_clip(vae, audio_vae, 0.64, 0, 0, 0)
    empty, stills = split_latent(latent), split_anchors(anchors)
    masks = [torch.ones(1, 1, *part.shape[2:]) for part in empty]
    several = on_two(patcher)
    caches, init = [], DriverCache.__init__

    def counted(self, placement):
        caches.append(self)
        init(self, placement)

    def ours(model: ModelPatcher, **options: Any) -> Any:
        return our_guider(model, stills, positive, negative, text=(3, 2), **options)

    plain = run(ours(patcher), empty, sigmas=SIGMAS)
    DriverCache.__init__ = counted
    for options in ({"sync": (3, 2)}, {"sync": (3, 2), "extra": (scales(Isolated, 1.5, 1.5),)}):
        one = run(ours(patcher, **options), empty, sigmas=SIGMAS)
        differ(one, plain, by=1e-2)
        caches.clear()
        same(run(ours(several, **options), empty, sigmas=SIGMAS), one)
        assert len(caches) == 2, caches  # a device, a cache
    DriverCache.__init__ = init
    for given in (0, 1):
        driven = [mask * float(index != given) for index, mask in enumerate(masks)]
        for guider in (ours, lambda model: core_guider(model, positive, negative, 3.0)):
            one = run(guider(patcher), stills, driven, SIGMAS)
            same(run(guider(several), stills, driven, SIGMAS), one)
    # core's Select Model Device: the copy alone
    copy = patcher.clone().deepclone_multigpu(new_load_device=OTHER)
    same(run(ours(copy, sync=(3, 2)), empty, sigmas=SIGMAS), run(ours(patcher, sync=(3, 2)), empty, sigmas=SIGMAS))
    for part in (clip, vae, audio_vae):
        again = part.patcher.clone().deepclone_multigpu(new_load_device=OTHER)
        own = part.patcher.model.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in again.model.state_dict().items())
        assert again.model is not part.patcher.model


def check_native() -> None:
    ltx = core_models.ltxav()
    guiders = [(ltx, ltx_text(3), ltx_text(4), zeros(), pair(2), (3, 3))]
    if HAS_H3:
        shapes = H3_VIDEO, H3_AUDIO
        guiders.append((h3_models.h3(), h3_text(3), None, zeros(*shapes), pair(2, *shapes), (1, 1)))
    for patcher, positive, negative, empty, stills, text in guiders:
        one, two = (
            run(our_guider(each, stills, positive, negative, (3, 2), text), empty, sigmas=(0.9, 0.5, 0.0))
            for each in (patcher, on_two(patcher))
        )
        same(two, one)


if __name__ == "__main__":
    with torch.no_grad():
        if hasattr(ModelPatcher, "deepclone_multigpu"):
            check_harmony()
            check_native()
            print("ok")
        else:
            print("ok: this core uses one GPU")
