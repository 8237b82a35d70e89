"""SyncCFG on ComfyUI's native LTX-2 model class (2, and 2.3 and 2.5 where this core knows them), tiny and random.

python ltxav.py COMFYUI_TREE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from refusals import message_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy_extras.nodes_apg  # noqa: E402
import comfy_extras.nodes_custom_sampler  # noqa: E402
import comfy_extras.nodes_lt  # noqa: E402
import torch  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import Isolated, SkipLayer, SyncCFG, TextCFG  # noqa: E402
from harmony_pack.nodes.host.guider import make_guider  # noqa: E402
from harmony_pack.nodes.reference import give_reference  # noqa: E402
from harmony_pack.nodes.sampler import check_shift  # noqa: E402
from toys import (  # noqa: E402
    LTX_AUDIO,
    LTX_VIDEO,
    core_guider,
    core_models,
    counted_passes,
    differ,
    ltx_text,
    nested,
    our_guider,
    pair,
    random,
    run,
    same,
    scales,
    zeros,
)

POSITIVE, NEGATIVE = ltx_text(3), ltx_text(4)
EMPTY, ANCHORS = zeros(), pair(2)


def patched(node: Any, *arguments: Any) -> Any:
    """The model that a core node puts out."""
    out = node.execute(*arguments)
    return (out.result if hasattr(out, "result") else out)[0]


def noise_levels(patcher: Any) -> list[tuple[float, float]]:
    """A list that grows by the largest noise level of video and sound in every pass."""
    seen: list[tuple[float, float]] = []
    kind = type(patcher.model)
    original = kind.process_timestep

    def spy(self, timestep, *args, **kwargs):
        result = original(self, timestep, *args, **kwargs)
        parts = result if isinstance(result, tuple) else (result, result)
        seen.append(tuple(round(float(part.max()), 4) for part in parts))
        return result

    kind.process_timestep = spy
    return seen


def check_basics(patcher: Any) -> None:
    """Off, it is core; on, each negative has one clean stream; a given sound stays and costs a pass less."""
    off = our_guider(patcher, ANCHORS, POSITIVE)
    for one, other in zip(run(core_guider(patcher, POSITIVE), EMPTY), run(off, EMPTY), strict=True):
        assert torch.equal(one, other)
    expected = run(core_guider(patcher, POSITIVE, NEGATIVE, 3.0), EMPTY)
    same(run(our_guider(patcher, ANCHORS, POSITIVE, NEGATIVE, text=(3, 3)), EMPTY), expected)

    seen = noise_levels(patcher)
    on = our_guider(patcher, ANCHORS, POSITIVE, sync=(3, 2))
    guided = run(on, EMPTY)
    assert sorted(seen[:3]) == [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)], seen
    assert len(seen) == 6, seen
    differ(guided, expected)

    seen.clear()
    sound = random(55, *LTX_AUDIO)
    mask = torch.ones(1, 1, *LTX_VIDEO[2:]), torch.zeros(1, 1, *LTX_AUDIO[2:])
    driven = run(on, (EMPTY[0], sound), mask)
    assert seen[:2] == [(1.0, 0.0)] * 2, seen
    assert len(seen) == 4, seen
    torch.testing.assert_close(driven[1], sound, atol=1e-5, rtol=0)


def check_other_negatives(patcher: Any) -> None:
    """One step away from two deaf streams and from a skipped layer, both made with core's own switches."""
    sigmas = (0.8, 0.0)
    deaf, shallow = patcher.clone(), patcher.clone()
    deaf.model_options["transformer_options"] |= {"a2v_cross_attn": False, "v2a_cross_attn": False}
    shallow.set_model_patch_replace(lambda args, _: args, "dit", "double_block", 1)
    joint, isolated, skipped = (
        run(core_guider(changed, POSITIVE), EMPTY, sigmas=sigmas) for changed in (patcher, deaf, shallow)
    )
    extra = scales(Isolated, 1.5, 3), scales(SkipLayer, 2, 1.25, layers=(1,))
    guided = run(our_guider(patcher, ANCHORS, POSITIVE, extra=extra), EMPTY, sigmas=sigmas)
    for index, part in enumerate(guided):
        strength = [(0.5, 1.0), (2.0, 0.25)][index]
        negatives = isolated[index], skipped[index]
        deltas = [s * (joint[index] - negative) for s, negative in zip(strength, negatives, strict=True)]
        assert all(delta.abs().max() > 1e-4 for delta in deltas)
        torch.testing.assert_close(part, joint[index] + sum(deltas), atol=1e-5, rtol=0)


def compare(patcher: Any, core: Callable[[Any], Any], text: tuple[float, float]) -> None:
    """Where SyncCFG is off, the same numbers and as many passes as a guider of core's; on, two passes more a step."""
    with counted_passes(patcher) as sizes:
        expected = run(core(patcher), EMPTY)
        cores = sum(sizes)
        sizes.clear()
        actual = run(our_guider(patcher, ANCHORS, POSITIVE, NEGATIVE, text=text), EMPTY)
        assert sum(sizes) == cores, (sizes, cores)
        sizes.clear()
        guided = run(our_guider(patcher, ANCHORS, POSITIVE, NEGATIVE, sync=(3, 2), text=text), EMPTY)
        assert sum(sizes) == cores + 2 * 2, (sizes, cores)
    same(actual, expected)
    differ(guided, expected)


def check_core_guidance(patcher: Any) -> None:
    """Composed with core's guidance nodes, on the guiders that they are made for."""
    nodes = comfy_extras.nodes_lt

    def one_scale(model: Any) -> Any:
        return core_guider(model, POSITIVE, NEGATIVE, 3.0)

    models = [patched(comfy_extras.nodes_apg.APG, patcher, 1.0, 2.5, -0.5)]
    for name, arguments in (
        ("LTXVModalityGuidance", (3.0, 0.0, 1.0)),
        ("LTXVSpatioTemporalGuidance", (1.0, "1", 0.0, 1.0)),
    ):
        if hasattr(nodes, name):
            models.append(patched(getattr(nodes, name), patcher, *arguments))
    for model in models:
        compare(model, one_scale, (3, 3))
    if hasattr(nodes, "Guider_LTXAVDualCFG"):

        def two_scales(model: Any) -> Any:
            guider = nodes.Guider_LTXAVDualCFG(model)
            guider.set_conds(POSITIVE, NEGATIVE)
            guider.set_cfg(3.0, 7.0)
            return guider

        for model in (patcher, *models[1:]):
            compare(model, two_scales, (3, 7))


def check_hooks_run_once(patcher: Any) -> None:
    """Every hook of a step runs once, whatever the scales, and a cfg function of a node's own has each stream's."""
    calls: list[tuple[str, float]] = []
    model = patcher.clone()

    def before(args: dict) -> list:
        calls.append(("before", args["cond_scale"]))
        return args["conds_out"]

    def scaled(args: dict) -> torch.Tensor:
        calls.append(("cfg", args["cond_scale"]))
        return args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"] * 0.5

    def after(args: dict) -> torch.Tensor:
        calls.append(("after", args["cond_scale"]))
        return args["denoised"]

    model.set_model_sampler_pre_cfg_function(before)
    model.set_model_sampler_post_cfg_function(after)
    sigmas = (0.8, 0.0)
    plain = run(our_guider(model, ANCHORS, POSITIVE, NEGATIVE, text=(3, 7)), EMPTY, sigmas=sigmas)
    assert calls == [("before", 7.0), ("after", 7.0)], calls
    calls.clear()
    model.set_model_sampler_cfg_function(scaled)
    halved = run(our_guider(model, ANCHORS, POSITIVE, NEGATIVE, text=(6, 14)), EMPTY, sigmas=sigmas)
    assert calls == [("before", 14.0), ("cfg", 6.0), ("cfg", 14.0), ("after", 14.0)], calls
    same(halved, plain)


def check_cfg_override(patcher: Any) -> None:
    """Core's CFG Override is for both streams, in its range; a scale of 1 saves the negative's pass."""
    if not hasattr(comfy_extras.nodes_custom_sampler, "CFGOverride"):
        return
    node = comfy_extras.nodes_custom_sampler.CFGOverride
    for scale, passes in ((6.0, 4), (1.0, 2)):
        override = patched(node, patcher, scale, 0.0, 1.0)
        with counted_passes(patcher) as sizes:
            actual = run(our_guider(override, ANCHORS, POSITIVE, NEGATIVE, text=(3, 7)), EMPTY)
            assert sum(sizes) == passes, sizes
        same(actual, run(our_guider(patcher, ANCHORS, POSITIVE, NEGATIVE, text=(scale, scale)), EMPTY))
    late = patched(node, patcher, 6.0, 0.5, 1.0)
    differ(run(our_guider(late, ANCHORS, POSITIVE, NEGATIVE, text=(3, 3)), EMPTY), actual)
    alone = our_guider(patched(node, patcher, 6.0, 0.0, 1.0), ANCHORS, POSITIVE)
    assert "A text scale of 6 needs a negative" in message_of(run, alone, EMPTY)


class VideoVAE:
    """What LTXVAddGuide asks of an autoencoder."""

    downscale_index_formula = (8, 32, 32)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return random(9, 1, 128, (pixels.shape[0] - 1) // 8 + 1, pixels.shape[1] // 32, pixels.shape[2] // 32)


def tokens_of_passes(patcher: Any) -> list[int]:
    """A list that grows by the number of video tokens that reach the blocks in every pass."""
    kind, seen = type(patcher.model.diffusion_model), []
    original = kind._process_transformer_blocks

    def spy(self, x, *args, **kwargs):
        seen.append(x[0].shape[1])
        return original(self, x, *args, **kwargs)

    kind._process_transformer_blocks = spy
    return seen


def check_guides(patcher: Any) -> None:
    """Guide frames appended by LTXVAddGuide, plain and as IC-LoRA's sparse grid: the same tokens in every pass."""
    video, audio = (1, 128, 3, 4, 4), torch.zeros(LTX_AUDIO)
    add = comfy_extras.nodes_lt.LTXVAddGuide
    latent, picture = {"samples": torch.zeros(video)}, torch.rand(1, 128, 128, 3)
    seen = tokens_of_passes(patcher)
    for options in ({}, {"iclora_parameters": {"reference_downscale_factor": 2}}):
        try:
            out = add.execute(ltx_text(3), ltx_text(4), VideoVAE(), latent, picture, -1, 1.0, **options)
        except TypeError:
            assert options  # a core without IC-LoRA guides
            continue
        positive, _, guided = out.result
        masks = guided["noise_mask"], torch.ones(1, 1, LTX_AUDIO[2], 1)
        seen.clear()
        run(core_guider(patcher, positive), (guided["samples"], audio), masks)
        (expected,) = set(seen)
        seen.clear()
        anchors = pair(2, tuple(guided["samples"].shape))
        made = run(our_guider(patcher, anchors, positive, sync=(3, 2)), (guided["samples"], audio), masks)
        assert set(seen) == {expected}, (seen, expected)
        assert len(seen) == 6, seen
        kept = guided["noise_mask"].expand_as(guided["samples"]) == 0
        same([made[0][kept]], [guided["samples"][kept]])
        assert all(bool(part.isfinite().all()) for part in made)


def check_soft_and_second_stage(patcher: Any) -> None:
    """A soft first frame is core's to the bit where SyncCFG is off; a stage of twice the size has its own anchors."""
    soft = torch.ones(1, 1, 3, 1, 1)
    soft[:, :, 0] = 0.3
    latent, mask = (random(12, *LTX_VIDEO), EMPTY[1]), (soft, torch.ones(1, 1, LTX_AUDIO[2], 1))
    core, ours = (
        run(guider, latent, mask) for guider in (core_guider(patcher, POSITIVE), our_guider(patcher, ANCHORS, POSITIVE))
    )
    assert all(torch.equal(one, other) for one, other in zip(core, ours, strict=True))
    large = (1, 128, 3, 4, 4)
    stage = random(13, *large), random(14, *LTX_AUDIO)
    message = message_of(run, our_guider(patcher, ANCHORS, POSITIVE, sync=(3, 2)), stage)
    assert "(128, 3, 2, 2)" in message, message
    assert "make the anchors of this latent with Harmony Anchors" in message, message
    made = run(our_guider(patcher, pair(2, large), POSITIVE, sync=(3, 2)), stage, sigmas=(0.85, 0.4, 0.0))
    assert all(bool(part.isfinite().all()) for part in made)


def check_what_it_does_not_read(patcher: Any) -> None:
    """Of Harmony's own nodes, with what is empty left out; a reference voice by its autoencoder is refused."""
    texts = {"harmony_transcript": "one two", "harmony_audio_caption": " ", "harmony_reference_audio": torch.zeros(1)}
    positive = [[text, {**extra, **texts}] for text, extra in ltx_text(3)]
    off = {"video_scale": 1.0, "audio_scale": 1.0}
    anchors = {"samples": nested(*pair(2)), "harmony_anchors": True}
    _, notes = make_guider(patcher, positive, None, anchors, SyncCFG(**off), TextCFG(**off))
    assert notes == [
        "positive has a reference voice. LTX-2 does not read it, so it changes nothing",
        "positive has a transcript. LTX-2 does not read it, so it changes nothing",
    ], notes
    audio_vae = SimpleNamespace(latent_dim=2, latent_channels=8, audio_sample_rate=16000)
    assert "follows no reference" in message_of(give_reference, positive, audio_vae, None, 0.0)


def versions() -> list[Any]:
    """LTX-2, 2.3 and 2.5, where this core's class takes their settings."""
    found = [core_models.ltxav()]
    for settings in (core_models.LTX_23, core_models.LTX_25):
        try:
            found.append(core_models.ltxav(**settings))
        except TypeError:
            break
    return found


if __name__ == "__main__":
    with torch.no_grad():
        torch.manual_seed(0)
        for each in versions():
            check_basics(each)
            check_core_guidance(each)
        check_other_negatives(core_models.ltxav())
        check_hooks_run_once(core_models.ltxav())
        check_cfg_override(core_models.ltxav())
        check_guides(core_models.ltxav())
        check_soft_and_second_stage(core_models.ltxav())
        check_what_it_does_not_read(core_models.ltxav())
        message = message_of(check_shift, core_models.ltxav(), 5.0)
        assert "The shift is 5, but LTX-2 keeps its own schedule" in message, message
    print("ok")
