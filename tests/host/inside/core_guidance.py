"""Core's nodes that guide, cache or mask a run, on the built-in model: what they compute, and what they leave behind.

python core_guidance.py COMFYUI_TREE
"""

from __future__ import annotations

import logging
import sys

from log_lines import Lines
from refusals import message_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy_extras.nodes_cfg  # noqa: E402
import comfy_extras.nodes_differential_diffusion  # noqa: E402
import comfy_extras.nodes_easycache  # noqa: E402
import comfy_extras.nodes_mahiro  # noqa: E402
import comfy_extras.nodes_rope  # noqa: E402
import comfy_extras.nodes_tcfg  # noqa: E402
import node_helpers  # noqa: E402
import torch  # noqa: E402
from comfy.context_windows import (  # noqa: E402
    IndexListContextHandler,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from harmony_pack.harmony_core.diffusion.guidance import SyncCFG, TextCFG  # noqa: E402
from harmony_pack.nodes.host import run_hooks  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest, split_anchors, split_latent  # noqa: E402
from harmony_pack.nodes.host.guider import SyncCFGGuider  # noqa: E402
from harmony_pack.nodes.host.layout import empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402
from harmony_pack.nodes.sync_map import map_of_latent  # noqa: E402

register_model()
PATCHER, CLIP, VAE, AUDIO_VAE = load_checkpoint("harmony-tiny (built in)")
POSITIVE = encode_captions(CLIP, "a red ball bounces on wood", "a ball hits wood", "", "separate")
NEGATIVE = encode_captions(CLIP, "", "", "", "separate")
LATENT, ANCHORS, _ = empty_clip(VAE, AUDIO_VAE, 2.0, 0, 0, 0)
EMPTY = split_latent(LATENT)
OFF, SCALES = (1.0, 1.0), (2.0, 3.0)  # of the text, for video and sound


def guided(patcher, sync=OFF, text=OFF, positive=POSITIVE) -> SyncCFGGuider:
    made = SyncCFGGuider(
        patcher,
        SyncCFG(video_scale=sync[0], audio_scale=sync[1]),
        TextCFG(video_scale=text[0], audio_scale=text[1]),
        split_anchors(ANCHORS),
    )
    made.inner_set_conds({"positive": positive, "negative": NEGATIVE})
    return made


def core(patcher, scale: float) -> comfy.samplers.CFGGuider:
    made = comfy.samplers.CFGGuider(patcher)
    made.set_conds(POSITIVE, NEGATIVE)
    made.set_cfg(scale)
    return made


def run(guider, steps: int = 1, batch: int = 1, masks=None) -> list[torch.Tensor]:
    """[video, audio] as the model has them; after one step they are the guided clean latents."""
    like = [part.expand(batch, *part.shape[1:]) for part in EMPTY]
    noise = comfy.sample.prepare_noise(nest(*like), 1)
    sigmas = comfy.samplers.calculate_sigmas(PATCHER.get_model_object("model_sampling"), "simple", steps)
    mask = None if masks is None else nest(*masks)
    sampler = comfy.samplers.sampler_object("euler")
    video, audio = guider.sample(noise, nest(*like), sampler, sigmas, mask, seed=1).unbind()
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
        lambda patcher: guided(patcher, (1.5, 1.5)),
        lambda patcher: guided(patcher, (1.0, 1.5), SCALES),
    ):
        said.lines.clear()
        off = error(run(kind(cached), steps=8), run(kind(PATCHER), steps=8))
        (line,) = [line for line in said.lines if line.startswith("EasyCache - skipped")]
        assert 1 <= int(line.split("skipped ")[1].split("/")[0]) <= 4, line
        assert max(off) < 0.25, (line, off)
    logging.getLogger().removeHandler(said)


def check_statistics_of_a_stream() -> None:
    """CFGNorm, CFGZeroStar, Mahiro and TCFG compute what they would of video and of sound alone, at its own scale."""
    conds = run(guided(PATCHER))
    unconds = run(guided(PATCHER, positive=NEGATIVE))
    plain = [without + (given - without) * scale for given, without, scale in zip(conds, unconds, SCALES, strict=True)]
    noise = comfy.sample.prepare_noise(nest(*EMPTY), 1).unbind()
    normed, zeroed = (
        run(guided(kind.execute(PATCHER, *arguments).result[0], text=SCALES))
        for kind, arguments in (
            (comfy_extras.nodes_cfg.CFGNorm, (1.0,)),
            (comfy_extras.nodes_cfg.CFGZeroStar, ()),
        )
    )
    for stream, scale in enumerate(SCALES):
        given, without, out = conds[stream], unconds[stream], plain[stream]
        clamped = (given.norm(dim=1, keepdim=True) / out.norm(dim=1, keepdim=True)).clamp(max=1)
        assert torch.allclose(normed[stream], out * clamped, atol=1e-4)
        velocity, other = (noise[stream] - each for each in (given, without))
        alpha = (velocity * other).sum() / other.square().sum()
        expected = out + without * (alpha - 1) + scale * without * (1 - alpha)
        assert torch.allclose(zeroed[stream], expected, atol=1e-4)
    for kind in (comfy_extras.nodes_mahiro.Mahiro, comfy_extras.nodes_tcfg.TCFG):
        made = run(guided(kind.execute(PATCHER).result[0], text=SCALES))
        both = run(core(run_hooks.prepare_runs(kind.execute(PATCHER).result[0]), 2.0))
        assert torch.allclose(made[0], both[0], atol=1e-4)  # the video's scale is 2 in both
        assert max(error(made, plain)) > 1e-3


def check_refused_and_named() -> None:
    """What cannot work with a mask, and what changes nothing."""
    node = comfy_extras.nodes_differential_diffusion.DifferentialDiffusion
    patcher = node.execute(PATCHER).result[0]
    soft = [torch.full_like(part[:, :1], 0.5) for part in EMPTY]
    said = message_of(run, guided(patcher), 1, 1, soft)
    assert "soft mask" in said
    assert "take that node out" in said
    run(guided(patcher), masks=[mask.round() for mask in soft])

    lines: list[str] = []
    before, run_hooks.warn = run_hooks.warn, lambda _, said: lines.extend(said)
    run(guided(comfy_extras.nodes_rope.ScaleROPE.execute(PATCHER, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0).result[0]))
    run_hooks.warn = before
    assert any("rope_options" in line and "changes nothing" in line for line in lines), lines


def check_nothing_is_kept() -> None:
    """A guider that ComfyUI keeps between runs holds no latents of the last one."""
    made = guided(PATCHER, (1.5, 1.5))
    run(made)
    assert not {"noise", "sigmas", "clean"} & vars(made).keys()


def check_sync_map() -> None:
    """A map is of the whole clip; a conditioning that is not for its noise is named."""
    windowed = PATCHER.clone()
    windowed.model_options["context_handler"] = IndexListContextHandler(
        context_schedule=get_matching_context_schedule("standard_static"),
        fuse_method=get_matching_fuse_method("flat"),
        context_length=4,
        context_overlap=2,
        dim=2,
        context_stride=1,
    )
    whole, _ = map_of_latent(PATCHER, POSITIVE, LATENT, "v2a", (), 0.6, 0)
    seen, _ = map_of_latent(windowed, POSITIVE, LATENT, "v2a", (), 0.6, 0)
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
