"""Seconds per sampling step in ComfyUI and in the pipeline: the same job, in one process, taking turns.

    PYTHON_OF_COMFYUI benchmarks/comfyui_step.py COMFYUI_TREE [REPEATS]

Prints one JSON object, `comfyui_step`: medians over REPEATS runs (default 5) of the embedded model's own clip with
SyncCFG. A run's figure is the median time between two progress callbacks, so that encoding and decoding stay out.
ComfyUI runs with --use-pytorch-cross-attention, its default on most GPUs and the command line's attention everywhere;
on a CPU its own default is another attention, some 10 % slower at this size.
`harmony bench sampling --comfyui COMFYUI_TREE` runs it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "host" / "inside"))
TREE, REPEATS = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5

from pack import load_pack  # noqa: E402

load_pack(TREE, ROOT, "--use-pytorch-cross-attention")

import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
from harmony_pack.harmony_core.benchmarks.timing import comparison  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import SyncCFG, TextCFG  # noqa: E402
from harmony_pack.harmony_core.pipelines import GenerateRequest, HarmonyPipeline  # noqa: E402
from harmony_pack.nodes.clip import empty_clip  # noqa: E402
from harmony_pack.nodes.host.av_latent import split_anchors  # noqa: E402
from harmony_pack.nodes.host.guider import SyncCFGGuider  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402

STEPS, SEED = 20, 3
WORDS = "a red ball bounces on metal", "a ball hits metal", ""
SCALES = {"video_scale": 2.5, "audio_scale": 1.75}


def step_seconds(run: Callable[[Callable[..., None]], object]) -> float:
    """Median time between callbacks of one run. The first step, which fills the driver cache, is left out."""
    times: list[float] = []
    run(lambda *_: times.append(time.perf_counter()))
    return statistics.median(later - earlier for earlier, later in pairwise(times))


def comfyui_run() -> Callable[[Callable[..., None]], object]:
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


def main() -> None:
    runs = {"ours": comfyui_run(), "peer": pipeline_run()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(REPEATS + 1):  # the first turn warms up
        for name, run in runs.items():
            seconds = step_seconds(run)
            if turn:
                found[name].append(seconds)
    print(json.dumps(comparison("comfyui_step", *(statistics.median(found[name]) for name in runs), "s")))


if __name__ == "__main__":
    main()
