"""Seconds per sampling step in ComfyUI and in the pipeline: the same job, in one process, taking turns.

    python -m benchmarks.comfyui_step [COMFYUI_TREE] [--repeats 5] [--output benchmarks/comfyui_step.csv]

Medians over the repeats of the embedded model's own clip with SyncCFG. A run's figure is the median time between two
progress callbacks, so that encoding and decoding stay out. ComfyUI's own interpreter runs both, with
--use-pytorch-cross-attention, its default on most GPUs and the command line's attention everywhere; on a CPU its own
default is another attention, some 10 % slower at this size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from tools.comfyui.install import REPOSITORY, ensure_python, ensure_tree, wanted_trees

STEPS, SEED = 20, 3
WORDS = "a red ball bounces on metal", "a ball hits metal", ""
SCALES = {"video_scale": 2.5, "audio_scale": 1.75}


def step_seconds(run: Callable[[Callable[..., None]], object]) -> float:
    """Median time between callbacks of one run. The first step, which fills the driver cache, is left out."""
    times: list[float] = []
    run(lambda *_: times.append(time.perf_counter()))
    return statistics.median(later - earlier for earlier, later in pairwise(times))


def comfyui_run() -> Callable[[Callable[..., None]], object]:
    import comfy.sample
    import comfy.samplers
    from harmony_pack.harmony_core.diffusion.guidance import SyncCFG, TextCFG
    from harmony_pack.nodes.host.av_latent import split_anchors
    from harmony_pack.nodes.host.guider import SyncCFGGuider
    from harmony_pack.nodes.host.layout import empty_clip
    from harmony_pack.nodes.host.registration import register_model
    from harmony_pack.nodes.host.text_encoder import encode_captions
    from harmony_pack.nodes.loaders import load_checkpoint

    register_model()
    patcher, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    latent, anchors, _ = empty_clip(vae, audio_vae, 0, 0, 0, 0)
    texts = [encode_captions(clip, *words, "separate") for words in (WORDS, ("", "", ""))]
    text_off = TextCFG(video_scale=1.0, audio_scale=1.0)
    guider = SyncCFGGuider(patcher, SyncCFG(**SCALES), text_off, split_anchors(anchors))
    guider.inner_set_conds(dict(zip(("positive", "negative"), texts, strict=True)))
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", STEPS)
    sampler = comfy.samplers.sampler_object("euler")
    noise = comfy.sample.prepare_noise(latent["samples"], SEED)
    return lambda callback: guider.sample(
        noise, latent["samples"], sampler, sigmas, callback=callback, disable_pbar=True, seed=SEED
    )


def pipeline_run() -> Callable[[Callable[..., None]], object]:
    from harmony_pack.harmony_core.pipelines import GenerateRequest, HarmonyPipeline

    pipeline = HarmonyPipeline.from_file()
    request = GenerateRequest(
        prompt=WORDS[0],
        audio_prompt=WORDS[1],
        steps=STEPS,
        seed=SEED,
        video_sync_scale=SCALES["video_scale"],
        audio_sync_scale=SCALES["audio_scale"],
        video_text_scale=1.0,
        audio_text_scale=1.0,
    )
    return lambda callback: pipeline(request, callback)


def measure(tree: Path, repeats: int) -> dict[str, object]:
    """The comparison, in ComfyUI's interpreter."""
    from tools.comfyui.pack import load_pack

    load_pack(str(tree), REPOSITORY, "--use-pytorch-cross-attention")
    import torch
    from harmony_pack.harmony_core.benchmarks.timing import comparison, machine

    runs = {"ours": comfyui_run(), "peer": pipeline_run()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):  # the first turn warms up
        for name, run in runs.items():
            seconds = step_seconds(run)
            if turn:
                found[name].append(seconds)
    ours, peer = (statistics.median(found[name]) for name in ("ours", "peer"))
    return comparison("comfyui_step", ours, peer, "s") | {"comfyui": tree.name} | machine(torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a sampling step in ComfyUI beside the command line's.")
    parser.add_argument("comfyui", type=Path, nargs="?", default=wanted_trees()[-1], help="a ComfyUI checkout")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "comfyui_step.csv")
    parser.add_argument("--inside", action="store_true", help="this is ComfyUI's interpreter: measure, print JSON")
    arguments = parser.parse_args()
    tree = ensure_tree(arguments.comfyui.resolve())
    if arguments.inside:
        print(json.dumps(measure(tree, arguments.repeats)))
        return
    from harmony_core.benchmarks.timing import append_csv

    command = [str(ensure_python(tree)), "-m", "benchmarks.comfyui_step", str(tree), "--inside"]
    command += ["--repeats", str(arguments.repeats)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print("{name}: ComfyUI {ours:g} s, command line {peer:g} s, ratio {ratio:g}".format(**row))
    append_csv(arguments.output, [row])


if __name__ == "__main__":
    main()
