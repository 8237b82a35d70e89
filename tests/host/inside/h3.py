"""SyncCFG on ComfyUI's native MiniMax H3, tiny and with random weights; on a core without it there is nothing to ask.

python h3.py COMFYUI_TREE
"""

from __future__ import annotations

import sys
from typing import Any

from refusals import message_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy.model_base  # noqa: E402
import torch  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import Isolated, SkipLayer, SyncCFG  # noqa: E402
from harmony_pack.nodes.guidance import HarmonySyncCFG  # noqa: E402
from harmony_pack.nodes.host.av_latent import make_anchors, nest  # noqa: E402
from harmony_pack.nodes.sampler import HarmonySampler, check_shift  # noqa: E402
from toys import (  # noqa: E402
    H3_AUDIO,
    H3_VIDEO,
    HAS_H3,
    core_guider,
    counted_passes,
    differ,
    h3_models,
    h3_text,
    our_guider,
    pair,
    random,
    run,
    same,
    scales,
    zeros,
)

POSITIVE = h3_text(3)
SIGMAS = (0.9, 0.5, 0.0)
EMPTY, ANCHORS = zeros(H3_VIDEO, H3_AUDIO), pair(2, H3_VIDEO, H3_AUDIO)
NOTHING = torch.ones(1, 1, *H3_VIDEO[2:]), torch.ones(1, 1, *H3_AUDIO[2:])


def inputs_of_passes(patcher: Any) -> list[dict[str, Any]]:
    """A list that grows by what the network sees in every pass: both streams, and their masks' smallest values."""
    kind, seen = type(patcher.model.diffusion_model), []
    original = kind._forward

    def spy(self, x, timestep, context, transformer_options=None, *args, **kwargs):
        masks = {name: kwargs.get(name) for name in ("denoise_mask", "audio_denoise_mask")}
        lows = {name: 1.0 if mask is None else float(mask.min()) for name, mask in masks.items()}
        seen.append({"video": x[0].clone(), "audio": x[1].clone(), **lows})
        return original(self, x, timestep, context, transformer_options or {}, *args, **kwargs)

    kind._forward = spy
    return seen


def check_off(patcher: Any) -> None:
    """Scales of 1 are core, to the bit, also with something given."""
    sound = random(55, *H3_AUDIO)
    for latent, mask in ((EMPTY, None), ((EMPTY[0], sound), (NOTHING[0], torch.zeros_like(NOTHING[1])))):
        core = run(core_guider(patcher, POSITIVE), latent, mask, SIGMAS)
        ours = run(our_guider(patcher, ANCHORS, POSITIVE), latent, mask, SIGMAS)
        assert all(torch.equal(one, other) for one, other in zip(core, ours, strict=True))


def check_on(patcher: Any) -> None:
    """(t, t), (t, 0), (0, t), each alone; the anchor reaches the network as core would feed it for given media."""
    seen = inputs_of_passes(patcher)
    mute = NOTHING[0], torch.zeros_like(NOTHING[1])
    static = torch.zeros_like(NOTHING[0]), NOTHING[1]
    run(core_guider(patcher, POSITIVE), (EMPTY[0], ANCHORS[1]), mute, SIGMAS)
    run(core_guider(patcher, POSITIVE), (ANCHORS[0], EMPTY[1]), static, SIGMAS)
    given_audio, given_video = seen[0]["audio"], seen[2]["video"]
    seen.clear()
    with counted_passes(patcher) as sizes:
        guided = run(our_guider(patcher, ANCHORS, POSITIVE, sync=(3, 2)), EMPTY, sigmas=SIGMAS)
    assert sizes == [1] * 6, sizes
    first = {(each["denoise_mask"], each["audio_denoise_mask"]): each for each in seen[:3]}
    assert set(first) == {(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)}, set(first)
    same([first[1.0, 0.0]["audio"]], [given_audio], 1e-6)
    same([first[0.0, 1.0]["video"]], [given_video], 1e-6)
    same([first[1.0, 0.0]["audio"]], [ANCHORS[1]], 1e-5)  # neither 3.08 nor 1.60 times too loud
    assert all(bool(part.isfinite().all()) for part in guided)
    differ(guided, run(core_guider(patcher, POSITIVE), EMPTY, sigmas=SIGMAS))

    seen.clear()
    sound = random(55, *H3_AUDIO)
    driven = run(our_guider(patcher, ANCHORS, POSITIVE, sync=(3, 2)), (EMPTY[0], sound), mute, SIGMAS)
    assert len(seen) == 4, len(seen)  # no sound to guide
    torch.testing.assert_close(driven[1], sound, atol=1e-5, rtol=0)


def check_skipped_layer(patcher: Any) -> None:
    """Away from the model without a layer, made with core's own switch."""
    shallow = patcher.clone()
    shallow.set_model_patch_replace(lambda args, _: args, "dit", "double_block", 1)
    joint, skipped = (run(core_guider(each, POSITIVE), EMPTY, sigmas=(0.9, 0.0)) for each in (patcher, shallow))
    extra = (scales(SkipLayer, 2, 2, layers=(1,)),)
    guided = run(our_guider(patcher, ANCHORS, POSITIVE, extra=extra), EMPTY, sigmas=(0.9, 0.0))
    same(guided, [2 * one - other for one, other in zip(joint, skipped, strict=True)], 1e-4)
    differ(guided, joint, by=1e-4)


def check_refusals(patcher: Any) -> None:
    """What it cannot do is said before sampling; so is a core whose masks do not reach the network."""
    message = message_of(lambda: our_guider(patcher, ANCHORS, POSITIVE, extra=(scales(Isolated, 2, 2),)))
    assert "MiniMax H3 is one network for both streams" in message, message
    assert "H3 keeps its own schedule" in message_of(check_shift, patcher, 5.0)
    masks = comfy.model_base.MiniMaxH3._token_grid_masks
    del comfy.model_base.MiniMaxH3._token_grid_masks
    message = message_of(lambda: our_guider(patcher, ANCHORS, POSITIVE, sync=(3, 2)))
    assert "takes every latent for noise" in message, message
    our_guider(patcher, ANCHORS, POSITIVE)  # off, there is nothing to show it
    comfy.model_base.MiniMaxH3._token_grid_masks = masks


def check_nodes(patcher: Any) -> None:
    """The guider's node and the sampler that has everything on it."""
    anchors = make_anchors(*ANCHORS)
    (guider,) = HarmonySyncCFG.execute(patcher, POSITIVE, anchors, 3.0, 2.0, None, 1.0, 1.0).result
    assert guider.others == (scales(SyncCFG, 3, 2),)
    assert (guider.cfg.video, guider.cfg.audio) == (1.0, 1.0)
    latent = {"samples": nest(*EMPTY)}
    out = HarmonySampler.execute(patcher, POSITIVE, 1, 3, 0.0, 3.0, 2.0, 1.0, 1.0, latent, anchors).result[0]
    assert [part.shape for part in out["samples"].unbind()] == [part.shape for part in EMPTY]
    assert all(bool(part.isfinite().all()) for part in out["samples"].unbind())


if __name__ == "__main__":
    with torch.no_grad():
        if HAS_H3:
            for check in (check_off, check_on, check_skipped_layer, check_refusals, check_nodes):
                check(h3_models.h3())
    print("ok" if HAS_H3 else "ok: this core has no MiniMax H3")
