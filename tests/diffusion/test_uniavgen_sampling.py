"""UniAVGen's sampler: the recorded loops of its four tasks, its schedule, and SyncCFG on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harmony_core.diffusion.denoiser import Denoiser
from harmony_core.diffusion.flow import linear_sigmas
from harmony_core.diffusion.guidance import GuidancePlan, SyncCFG
from harmony_core.diffusion.latents import AVLatents
from harmony_core.diffusion.solvers import euler
from harmony_core.model.inputs import AVInput
from harmony_core.pipelines.plan import negative_cfg
from tests.checkpoints.uniavgen_cases import FIXTURES, INPUTS, META, TOLERANCES, case_inputs, load, toy_config

CASES = META["sampler_cases"]
NOISE, RESULTS = (load_file(FIXTURES / f"sampler_{which}.safetensors") for which in ("inputs", "outputs"))


def noise_of(name: str) -> AVLatents:
    video, audio = (NOISE[key] for key in (f"{name}.noise_video", f"{name}.noise_audio"))
    return AVLatents(video[None], audio.T[None])


def texts(name: str, negative: bool = False) -> AVInput:
    """The transformer's input of a case, what is given as its latents."""
    case = CASES[name]
    which = "negative_" if negative else ""
    row = {**case, "video": case["size"], "audio": "audio_a", "t": 1000.0}
    row |= {key: case[which + key] for key in ("transcript", "context")}
    return case_inputs(row)


def masks_of(name: str, latents: AVLatents) -> AVLatents:
    video, audio = torch.ones(1, 1, latents.video.shape[2], 1, 1), torch.ones(1, 1, latents.sound.shape[2])
    video[:, :, : CASES[name]["video_cond"]] = 0
    audio[:, :, : CASES[name]["audio_cond"]] = 0
    return AVLatents(video, audio)


def denoiser(name: str, guidances: tuple, **more: Any) -> Denoiser:
    case, noise = CASES[name], noise_of(name)
    masks = masks_of(name, noise)
    plan = GuidancePlan(guidances, case["steps"], bool(masks.video.any()), bool(masks.sound.any()))
    return Denoiser(load(), plan, texts(name), texts(name, negative=True), masks, **more)


@torch.no_grad()
@pytest.mark.parametrize("driver_cache", ["device", "off"])
@pytest.mark.parametrize("name", CASES)
def test_recorded_loops(name: str, driver_cache: str) -> None:
    case, config = CASES[name], toy_config()
    config = config.with_(negative_isolated_share=case["macfg_prop"], negative_skip_layers=(case["skip_layer"],))
    guidances = negative_cfg(config, case["video_scale"], case["audio_scale"])
    denoise = denoiser(name, guidances, driver_cache=driver_cache)
    latents = euler(denoise, noise_of(name), linear_sigmas(case["steps"], case["shift"]), lambda *_: None)
    video = latents.video[0, :, case["video_cond"] :] - RESULTS[f"{name}.video"][:, case["video_cond"] :]
    audio = latents.sound[0, :, case["audio_cond"] :] - RESULTS[f"{name}.audio"].T[:, case["audio_cond"] :]
    compared = [x for x in (video, audio) if x.numel()]
    assert compared
    assert max(float(x.abs().max()) for x in compared) < TOLERANCES["sampler_fp32_abs"]


def test_recorded_schedules() -> None:
    recorded = load_file(FIXTURES / "schedule.safetensors")
    for name in (name for name in recorded if name.endswith("timesteps")):
        kind, steps, shift, _ = name.split(".")
        times = 1000 * linear_sigmas(int(steps), float(shift), rounded=kind == "bf16")
        torch.testing.assert_close(times.float(), recorded[name].float(), rtol=5e-7, atol=1e-6)


def test_the_negative_changes_where_int_says() -> None:
    plan = GuidancePlan(negative_cfg(toy_config(), 3.0, 2.0), 5)
    assert [plan.passes(step)[1] for step in range(5)] == ["negative_isolated"] * 2 + ["negative_skip_layer"] * 3
    assert plan.passes_per_step == 2


@torch.no_grad()
def test_sync_passes_see_their_own_times_and_anchors() -> None:
    """(t, t), (t, 0), (0, t): the passes of SyncCFG are the recorded forms."""
    anchors = AVLatents(INPUTS["clip_b"][None], INPUTS["mel_mute"].T[None])
    name, seen = "s_joint", []
    denoise = denoiser(name, (SyncCFG(video_scale=3.0, audio_scale=2.0),), anchors=anchors, batch_passes=False)
    denoise.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    denoise(noise_of(name), torch.tensor(0.62, dtype=torch.float64), 0)
    times = [(float(video.sigma[0, -1]), float(audio.sigma[0, -1])) for video, audio, _ in seen]
    assert times == [(0.62, 0.62), (0.62, 0.0), (0.0, 0.62)]
    assert seen[1][1].latents.equal(anchors.sound)
    assert seen[2][0].latents.equal(anchors.video)
    assert [rows.roles for *_, rows in seen] == [("joint",), ("audio_given",), ("video_given",)]


@torch.no_grad()
def test_silence_is_not_paired_with_words() -> None:
    """The pass with mute audio alone reads the transcript of silence."""
    anchors = AVLatents(INPUTS["clip_b"][None], INPUTS["mel_mute"].T[None])
    silent, seen = torch.ones(1, 10, dtype=torch.long), []
    sync = SyncCFG(video_scale=3.0, audio_scale=2.0)
    denoise = denoiser("s_joint", (sync,), anchors=anchors, batch_passes=False, silent_transcript=silent)
    denoise.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].transcript))
    apart = denoise(noise_of("s_joint"), torch.tensor(0.62, dtype=torch.float64), 0)
    words = denoise.positive.audio.transcript
    assert [each.equal(silent) for each in seen] == [False, True, False]
    assert seen[0].equal(words)
    assert seen[2].equal(words)
    together = denoiser("s_joint", (sync,), anchors=anchors, batch_passes=True, silent_transcript=silent)(
        noise_of("s_joint"), torch.tensor(0.62, dtype=torch.float64), 0
    )
    torch.testing.assert_close(together.video, apart.video, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scales_of_one_are_no_guidance() -> None:
    name, config = "s_joint", toy_config()
    off = (SyncCFG(video_scale=1.0, audio_scale=1.0), *negative_cfg(config, 1.0, 1.0))
    sigma = torch.tensor(0.9, dtype=torch.float64)
    guided, plain = (denoiser(name, guidances)(noise_of(name), sigma, 0) for guidances in (off, ()))
    assert guided.video.equal(plain.video)
    assert guided.sound.equal(plain.sound)


@torch.no_grad()
def test_what_drivers_take_is_known() -> None:
    anchors = AVLatents(INPUTS["clip_b"][None], INPUTS["mel_mute"].T[None])
    denoise = denoiser("s_joint", (SyncCFG(video_scale=3.0, audio_scale=2.0),), anchors=anchors)
    denoise(noise_of("s_joint"), torch.tensor(0.5, dtype=torch.float64), 0)
    assert denoise.cache is not None
    assert denoise.cache.bytes_held() == denoise._driver_bytes()


@torch.no_grad()
def test_sync_with_a_voice_keeps_the_voice() -> None:
    anchors = AVLatents(INPUTS["clip_b"][None], INPUTS["mel_mute"].T[None])
    denoise = denoiser("s_voice", (SyncCFG(video_scale=3.0, audio_scale=2.0),), anchors=anchors)
    sigma = torch.tensor(0.5, dtype=torch.float64)
    first, again = denoise(noise_of("s_voice"), sigma, 0), denoise(noise_of("s_voice"), sigma, 1)
    torch.testing.assert_close(first.video, again.video, rtol=1e-5, atol=1e-5)  # drivers come from the cache
    without = replace(denoise.positive.audio, reference=torch.zeros_like(denoise.positive.audio.reference))
    denoise.positive = denoise.positive._replace(audio=without)
    assert not denoise(noise_of("s_voice"), sigma, 2).sound.allclose(first.sound)
