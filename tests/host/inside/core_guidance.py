"""Core's nodes that guide, cache or mask a run, on the built-in model: what they compute, and what they leave behind.

python core_guidance.py COMFYUI_TREE
"""

from __future__ import annotations

from guider_harmony import (  # loads the pack and the built-in model  # isort: skip
    EMPTY,
    LATENT,
    NEGATIVE,
    PATCHER,
    POSITIVE,
    TEXT_OFF,
    Lines,
    SyncCFG,
    TextCFG,
    guider,
    noise_of,
    run,
    scales,
)

import logging

import comfy.samplers
import comfy_extras.nodes_cfg
import comfy_extras.nodes_differential_diffusion
import comfy_extras.nodes_easycache
import comfy_extras.nodes_mahiro
import comfy_extras.nodes_rope
import comfy_extras.nodes_tcfg
import node_helpers
import torch
from harmony_pack.nodes.host import run_hooks
from harmony_pack.nodes.sync_map import map_of_latent
from refusals import message_of
from toys import windowed

NOISE, SCALES = noise_of(1), (2.0, 3.0)  # of the text, for video and sound
SYNC_OFF = scales(SyncCFG, 1.0, 1.0)


def guided(patcher, sync=SYNC_OFF, text=TEXT_OFF, positive=POSITIVE):
    return guider(patcher, sync, text, positive=positive)


def core(patcher, scale: float) -> comfy.samplers.CFGGuider:
    made = comfy.samplers.CFGGuider(patcher)
    made.set_conds(POSITIVE, NEGATIVE)
    made.set_cfg(scale)
    return made


def one_step(made, masks=None) -> list[torch.Tensor]:
    """The guided clean latents [video, audio], as the model has them."""
    video, audio = run(made, NOISE, masks=masks, steps=1)
    return [PATCHER.model.latent_format.process_in(video), audio]


def error(one: list[torch.Tensor], other: list[torch.Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(one, other, strict=True)]


def check_cached_steps() -> None:
    """EasyCache leaves out steps, whatever is guided, and what comes out is still the clip."""
    said = Lines()
    logging.getLogger().addHandler(said)
    logging.getLogger().setLevel(logging.INFO)
    cached = comfy_extras.nodes_easycache.EasyCacheNode.execute(PATCHER, 0.2, 0.15, 0.95, False).result[0]
    for kind in (
        lambda patcher: core(patcher, 2.0),
        guided,
        lambda patcher: guided(patcher, scales(SyncCFG, 1.5, 1.5)),
        lambda patcher: guided(patcher, scales(SyncCFG, 1.0, 1.5), scales(TextCFG, *SCALES)),
    ):
        said.lines.clear()
        off = error(*(run(kind(patcher), NOISE, steps=8) for patcher in (cached, PATCHER)))
        (line,) = [line for line in said.lines if line.startswith("EasyCache - skipped")]
        assert 1 <= int(line.split("skipped ")[1].split("/")[0]) <= 4, line
        assert max(off) < 0.25, (line, off)
    logging.getLogger().removeHandler(said)


def check_statistics_of_a_stream() -> None:
    """CFGNorm, CFGZeroStar, Mahiro and TCFG compute what they would of video and of sound alone, at its own scale."""
    conds = one_step(guided(PATCHER))
    unconds = one_step(guided(PATCHER, positive=NEGATIVE))
    plain = [without + (given - without) * scale for given, without, scale in zip(conds, unconds, SCALES, strict=True)]
    normed, zeroed = (
        one_step(guided(kind.execute(PATCHER, *arguments).result[0], text=scales(TextCFG, *SCALES)))
        for kind, arguments in (
            (comfy_extras.nodes_cfg.CFGNorm, (1.0,)),
            (comfy_extras.nodes_cfg.CFGZeroStar, ()),
        )
    )
    for stream, scale in enumerate(SCALES):
        given, without, out = conds[stream], unconds[stream], plain[stream]
        clamped = (given.norm(dim=1, keepdim=True) / out.norm(dim=1, keepdim=True)).clamp(max=1)
        assert torch.allclose(normed[stream], out * clamped, atol=1e-4)
        velocity, other = (NOISE[stream] - each for each in (given, without))
        alpha = (velocity * other).sum() / other.square().sum()
        expected = out + without * (alpha - 1) + scale * without * (1 - alpha)
        assert torch.allclose(zeroed[stream], expected, atol=1e-4)
    for kind in (comfy_extras.nodes_mahiro.Mahiro, comfy_extras.nodes_tcfg.TCFG):
        made = one_step(guided(kind.execute(PATCHER).result[0], text=scales(TextCFG, *SCALES)))
        both = one_step(core(run_hooks.prepare_runs(kind.execute(PATCHER).result[0]), 2.0))
        assert torch.allclose(made[0], both[0], atol=1e-4)  # the video's scale is 2 in both
        assert max(error(made, plain)) > 1e-3


def check_refused_and_named() -> None:
    """What cannot work with a mask, and what changes nothing."""
    node = comfy_extras.nodes_differential_diffusion.DifferentialDiffusion
    patcher = node.execute(PATCHER).result[0]
    soft = [torch.full_like(part[:, :1], 0.5) for part in EMPTY]
    said = message_of(one_step, guided(patcher), soft)
    assert "soft mask" in said
    assert "take that node out" in said
    one_step(guided(patcher), masks=[mask.round() for mask in soft])

    lines: list[str] = []
    before, run_hooks.warn = run_hooks.warn, lambda _, said: lines.extend(said)
    one_step(guided(comfy_extras.nodes_rope.ScaleROPE.execute(PATCHER, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0).result[0]))
    run_hooks.warn = before
    assert any("rope_options" in line and "changes nothing" in line for line in lines), lines


def check_nothing_is_kept() -> None:
    """A guider that ComfyUI keeps between runs holds no latents of the last one."""
    made = guided(PATCHER, scales(SyncCFG, 1.5, 1.5))
    one_step(made)
    assert not {"noise", "sigmas", "clean"} & vars(made).keys()


def check_sync_map() -> None:
    """A map is of the whole clip; a conditioning that is not for its noise is named."""
    whole, _ = map_of_latent(PATCHER, POSITIVE, LATENT, "v2a", (), 0.6, 0)
    seen, _ = map_of_latent(windowed(PATCHER, 4, 2), POSITIVE, LATENT, "v2a", (), 0.6, 0)
    assert torch.equal(whole, seen)
    early = node_helpers.conditioning_set_values(POSITIVE, {"start_percent": 0.0, "end_percent": 0.1})
    said = message_of(map_of_latent, PATCHER, early, LATENT, "v2a", (), 0.3, 0)
    assert "0.3" in said
    assert "timestep range" in said


if __name__ == "__main__":
    check_cached_steps()
    check_statistics_of_a_stream()
    check_refused_and_named()
    check_nothing_is_kept()
    check_sync_map()
