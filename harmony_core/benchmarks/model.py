"""The transformer beside diffusers' Wan, and a guided step beside plain passes.

Sampling is measured at the latent shapes of a 720p clip of five seconds, on a CPU with the width scaled down: 27,280
video tokens and 158 audio latents. FLOPs are what torch's counter sees in the same calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from ..checkpoints.layout import recognise, rename
from ..config import HarmonyConfig
from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import GuidancePlan, SyncCFG
from ..diffusion.latents import AVLatents, draw_noise
from ..geometry import ClipGeometry
from ..model import HarmonyTransformer
from ..model.inputs import AudioInput, AVInput, VideoInput, clean_sigma
from ..presets import preset
from .timing import Meter, comparison, machine, take_turns, time_ways

CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
SIGMA = torch.tensor(0.5)


@dataclass(frozen=True)
class ModelOptions:
    """How much to measure, and where."""

    device: torch.device
    repeats: int
    quick: bool

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.on_cpu else torch.bfloat16

    @property
    def narrow(self) -> dict[str, int]:
        """Sizes that a CPU gets through; a GPU is measured at the preset's, where launches do not hide the work."""
        return {"dim": 64, "ffn_dim": 298, "num_heads": 2, "freq_dim": 64, "text_dim": 64} if self.on_cpu else {}

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"


def bench_model(options: ModelOptions) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows for a CSV, and comparisons under their fixed names."""
    parts = [transformer(options), synccfg(options), video_to_audio(options)]
    if not options.quick:
        parts.append((growth(options), []))
    rows = [each for found, _ in parts for each in found]
    return [each | machine(options.device) for each in rows], [line for _, lines in parts for line in lines]


def row(
    part: str, way: str, config: HarmonyConfig, shape: tuple[int, ...], measured: dict, flops: int | str = ""
) -> dict:
    """One row of the CSV; `shape` is the video latent's."""
    size = {"dim": config.dim, "heads": config.num_heads, "layers": config.num_layers}
    return {"part": part, "way": way, **size, "video_latent": "x".join(map(str, shape)), "flops": flops, **measured}


# The transformer beside diffusers'


def wan_pair(config: HarmonyConfig, options: ModelOptions) -> tuple[HarmonyTransformer, nn.Module]:
    """Our transformer without audio and diffusers' WanTransformer3DModel, with the same random weights."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    torch.manual_seed(0)
    with options.device:  # a GPU draws billions of weights in a moment
        theirs = WanTransformer3DModel(
            patch_size=config.patch_size,
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_dim,
            in_channels=config.video_channels,
            out_channels=config.video_channels,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
            eps=config.eps,
        )
        ours = HarmonyTransformer(config)
    tensors = theirs.state_dict()
    ours.load_state_dict(rename(tensors, recognise(tensors, "diffusers")))
    return ours.to(options.device, options.dtype), cast(nn.Module, theirs).to(options.device, options.dtype)


def transformer(options: ModelOptions) -> tuple[list[dict], list[dict]]:
    """Forward, and forward with backward, at equal size on equal inputs.

    Raises:
        RuntimeError: the two disagree by more than 1e-5 of the largest value in float32.
    """
    layers, frames = (2, 5) if options.quick else (4, 9)
    narrow = {"dim": 512, "ffn_dim": 2304, "num_heads": 4} if options.on_cpu else {}
    config = preset("wan2.2-ti2v-5b").with_(num_layers=layers, **narrow)
    ours, theirs = wan_pair(config, options)
    place = {"device": options.device, "dtype": options.dtype}
    latents = torch.randn(1, config.video_channels, frames, 22, 40, **place).requires_grad_()
    text = torch.randn(1, config.text_len, config.text_dim, **place).requires_grad_()
    sigma = torch.full((1, frames), 0.5, device=options.device, dtype=torch.float64)
    timestep = torch.tensor([500.0], device=options.device)

    def run_ours(latents: Tensor, text: Tensor) -> Tensor:
        return ours(VideoInput(latents, sigma, text))[0]

    def run_theirs(latents: Tensor, text: Tensor) -> Tensor:
        return theirs(latents, timestep, text, return_dict=False)[0]

    with torch.inference_mode():
        one, other = run_ours(latents, text), run_theirs(latents, text)
    error = float((one - other).abs().max() / other.abs().max())
    if options.dtype == torch.float32 and error > 1e-5:
        raise RuntimeError(f"The two transformers differ by {error:.1e} of the largest value; the times mean nothing.")
    rows, lines = [], []
    for mode in ("forward", "backward"):
        measured = time_ways({"ours": run_ours, "diffusers": run_theirs}, [latents, text], mode, options.repeats)
        rows += [row(f"transformer_{mode}", way, config, latents.shape, columns) for way, columns in measured.items()]
        ours_s, theirs_s = (measured[way]["seconds_p50"] for way in ("ours", "diffusers"))
        lines.append(comparison(f"transformer_{mode}", ours_s, theirs_s, "s"))
    lines.append(comparison("transformer_error", error, 1e-5, "of the largest value"))
    return rows, lines


# Steps of a 720p clip


@dataclass
class Job:
    """One clip's latents and a random model of 720p geometry, two layers, and on a CPU little width."""

    model: HarmonyTransformer
    inputs: AVInput
    anchors: AVLatents
    masks: AVLatents

    @classmethod
    def build(cls, options: ModelOptions, seconds: float = 121 / 24, patches: tuple[int, int] = (22, 40)) -> Job:
        """`patches` high and wide; one is 32 pixels."""
        config = preset("harmony-5b").with_(num_layers=2, speech=None, **options.narrow)
        torch.manual_seed(0)
        with options.device:
            model = HarmonyTransformer(config)
        high, wide = patches
        geometry = ClipGeometry.from_seconds(seconds, config.fps, 32 * high, 32 * wide, config)
        shapes = geometry.video_shape(1, config.video_channels), geometry.audio_shape(1, config.audio_channels)
        given, anchors = (draw_noise(*shapes, seed).map(lambda x: x.to(options.device)) for seed in (0, 1))
        text = torch.randn(2, 1, config.text_len, config.text_dim, device=options.device, dtype=options.dtype)
        masks = AVLatents(given.video[:, :1, :, :1, :1], given.sound[:, :1]).map(torch.ones_like)
        inputs = AVInput(
            VideoInput(given.video, clean_sigma(given.video), text[0]),
            AudioInput(given.sound, clean_sigma(given.sound), text[1]),
        )
        return cls(model.to(options.device, options.dtype), inputs, anchors, masks)

    def step(self, *guidances: SyncCFG, video_given: bool = False) -> Callable[[], AVLatents]:
        """One step; the first call fills the driver cache, later ones read it."""
        masks = self.masks
        if video_given:
            masks = masks._replace(video=torch.zeros_like(masks.video))
        plan = GuidancePlan(guidances, 1, generates_video=not video_given)
        denoiser = Denoiser(self.model, plan, self.inputs, None, masks, self.anchors)
        given = denoiser.given
        noisy = draw_noise(given.video.shape, given.sound.shape, 2).map(lambda x, like: x.to(like), given)
        return torch.inference_mode()(partial(denoiser, noisy, SIGMA, 0))


def flops(call: Callable[[], object]) -> int:
    """Floating-point operations of a call (a multiply and an add are two)."""
    counter = FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: _attention_flops})
    with counter:
        call()
    return counter.get_total_flops()


def _attention_flops(q_shape: tuple, k_shape: tuple, v_shape: tuple, *_args: object, **_kwargs: object) -> int:
    return sdpa_flop(q_shape, k_shape, v_shape)


def synccfg(options: ModelOptions) -> tuple[list[dict], list[dict]]:
    """A SyncCFG step whose drivers are cached, beside one plain joint pass, and beside three."""
    job = Job.build(options, 1.0) if options.quick else Job.build(options)
    config, shape = job.model.config, job.inputs.video.latents.shape
    guided, plain = job.step(SyncCFG(video_scale=3.0, audio_scale=2.0)), job.step()

    def three() -> None:
        for _ in range(3):
            plain()

    first = flops(guided)  # fills the cache
    counted = {"synccfg_step": flops(guided), "joint_pass": flops(plain)}
    counted["three_joint_passes"] = 3 * counted["joint_pass"]
    measured = take_turns(
        {"synccfg_step": guided, "joint_pass": plain, "three_joint_passes": three},
        options.repeats,
        Meter(options.device),
    )
    rows = [row("synccfg", way, config, shape, columns, counted[way]) for way, columns in measured.items()]
    seconds = {way: columns["seconds_p50"] for way, columns in measured.items()}
    return rows, [
        comparison("synccfg_step_flops", counted["synccfg_step"], counted["joint_pass"], "FLOP"),
        comparison("synccfg_first_step_flops", first, counted["joint_pass"], "FLOP"),
        comparison("synccfg_step_seconds", seconds["synccfg_step"], seconds["joint_pass"], "s"),
        comparison("naive_three_passes", seconds["synccfg_step"], seconds["three_joint_passes"], "s"),
    ]


def video_to_audio(options: ModelOptions) -> tuple[list[dict], list[dict]]:
    """A `video_to_audio` step after the first, beside a joint step; no guidance in either."""
    job = Job.build(options, 2.0) if options.quick else Job.build(options)
    driven, joint = job.step(video_given=True), job.step()
    counted = {"first_step": flops(driven), "later_step": flops(driven), "joint_step": flops(joint)}
    measured = take_turns({"later_step": driven, "joint_step": joint}, options.repeats, Meter(options.device))
    shape = job.inputs.video.latents.shape
    rows = [
        row("video_to_audio", way, job.model.config, shape, columns, counted[way]) for way, columns in measured.items()
    ]
    later, joint_s = (measured[way]["seconds_p50"] for way in ("later_step", "joint_step"))
    return rows, [
        comparison("video_to_audio_step", later, joint_s, "s"),
        comparison("video_to_audio_step_flops", counted["later_step"], counted["joint_step"], "FLOP"),
    ]


def growth(options: ModelOptions) -> list[dict]:
    """Seconds and memory of one joint pass over clip lengths at 320x192, and over sizes at two seconds."""
    by_length = [(seconds, (6, 10)) for seconds in (2, 5, 10, 20)]
    by_size = [(2, patches) for patches in ((3, 5), (6, 10), (11, 20), (22, 40))]
    rows = []
    for part, jobs in (("length", by_length), ("size", by_size)):
        for seconds, patches in jobs:
            job = Job.build(options, seconds, patches)
            measured = take_turns({"joint_pass": job.step()}, min(options.repeats, 3), Meter(options.device))
            rows += [
                row(part, f"{seconds:g} s", job.model.config, job.inputs.video.latents.shape, measured["joint_pass"])
            ]
    return rows
