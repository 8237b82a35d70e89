"""`harmony-5b` at its full size on one GPU, with random weights: seconds and memory of a pass and of guided steps.

    python -m benchmarks.full_size [--rounds 3] [--output benchmarks/full_size.csv]

1280x704, 121 frames, bfloat16, all 13.4 B parameters. Nobody has Harmony weights; what a step costs does not depend on
their values. Needs some 45 GB of GPU memory. The ops are timed beside their torch and naive implementations through
the whole model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harmony_core.benchmarks.model import flops
from harmony_core.benchmarks.timing import Meter, append_csv, machine, take_turns
from harmony_core.diffusion.denoiser import Denoiser
from harmony_core.diffusion.guidance import GuidancePlan, SyncCFG
from harmony_core.diffusion.latents import AVLatents, draw_noise
from harmony_core.geometry import ClipGeometry
from harmony_core.model import HarmonyTransformer
from harmony_core.model.inputs import AudioInput, AVInput, VideoInput, clean_sigma
from harmony_core.ops import registry
from harmony_core.presets import preset

DEVICE, DTYPE = torch.device("cuda"), torch.bfloat16
TRITON = {"framewise_attention": "triton", "qk_norm_rope": "triton"}
WAYS = {
    "torch": {"framewise_attention": "sdpa", "qk_norm_rope": "torch"},
    "naive_norm": {"framewise_attention": "triton", "qk_norm_rope": "naive"},
}


def random_model() -> HarmonyTransformer:
    """Every weight drawn, so that no part is a zero that a kernel might pass through faster."""
    with DEVICE:
        model = HarmonyTransformer(preset("harmony-5b")).to(DTYPE)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval().requires_grad_(False)


class Clip:
    """Latents, texts and anchors of the preset's clip."""

    def __init__(self, model: HarmonyTransformer) -> None:
        config = self.config = model.config
        self.model = model
        geometry = ClipGeometry.from_seconds(121 / 24, config.fps, config.height, config.width, config)
        shapes = geometry.video_shape(1, config.video_channels), geometry.audio_shape(1, config.audio_channels)
        given, self.anchors = (draw_noise(*shapes, seed).map(lambda x: x.to(DEVICE)) for seed in (0, 1))
        self.masks = AVLatents(given.video[:, :1, :, :1, :1], given.sound[:, :1]).map(torch.ones_like)
        text = torch.randn(2, 1, config.text_len, config.text_dim, device=DEVICE, dtype=DTYPE)
        assert config.speech is not None
        transcript = torch.randint(1, config.speech.vocab_size, (1, config.speech.max_len), device=DEVICE)
        self.inputs = AVInput(
            VideoInput(given.video, clean_sigma(given.video), text[0]),
            AudioInput(given.sound, clean_sigma(given.sound), text[1], transcript),
        )

    def step(self, *guidances: SyncCFG, given: str = "") -> Callable[[], AVLatents]:
        """One step; the first call fills the driver cache. `given`: `video` or `audio` is not generated."""
        masks = self.masks._replace(**{given: torch.zeros_like(getattr(self.masks, given))}) if given else self.masks
        plan = GuidancePlan(guidances, 1, generates_video=given != "video")
        denoiser = Denoiser(self.model, plan, self.inputs, None, masks, self.anchors)
        clean = denoiser.given
        noisy = draw_noise(clean.video.shape, clean.sound.shape, 2).map(lambda x, like: x.to(like), clean)
        return torch.inference_mode()(partial(denoiser, noisy, torch.tensor(0.5), 0))


def with_ways(ways: dict[str, str], call: Callable[[], object]) -> None:
    for op, name in ways.items():
        registry.use(op, name)
    call()


def measure(rounds: int) -> list[dict[str, Any]]:
    model = random_model()
    clip = Clip(model)
    weights_mb = torch.cuda.memory_allocated() / 2**20
    steps = {
        "joint_pass": clip.step(),
        "synccfg_step": clip.step(SyncCFG(video_scale=3.0, audio_scale=2.0)),
        "audio_given_step": clip.step(given="audio"),
        "video_given_step": clip.step(given="video"),
    }
    counted = {name: (flops(call), flops(call))[1] for name, call in steps.items()}  # the first fills the cache
    calls = {name: partial(with_ways, TRITON, call) for name, call in steps.items()}
    calls |= {f"joint_pass_{way}": partial(with_ways, ways, steps["joint_pass"]) for way, ways in WAYS.items()}
    measured = take_turns(calls, rounds, Meter(DEVICE))
    where = machine(DEVICE)
    return [
        {
            "what": name,
            "tflop": round(counted.get(name, counted["joint_pass"]) / 1e12, 1),
            **columns,
            "weights_mb": round(weights_mb, 1),
            **where,
        }
        for name, columns in measured.items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    for row in found:
        print(
            "{what:28} {seconds_p50:8.3f} s {peak_mb:9.1f} MB above {weights_mb:9.1f} {tflop:7.1f} TFLOP".format(**row)
        )
    if arguments.output:
        append_csv(arguments.output, found)
