"""The denoiser: masks, roles, anchors, and the driver cache."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.denoiser import Denoiser
from harmony_core.diffusion.flow import sigmas
from harmony_core.diffusion.guidance import GuidancePlan, Isolated, SkipLayer, SyncCFG, TextCFG
from harmony_core.diffusion.latents import AVLatents, draw_noise
from harmony_core.diffusion.solvers import solver
from harmony_core.model import memory
from harmony_core.model.inputs import AudioInput, AVInput, VideoInput, clean_sigma
from tests.model.test_transformer import random_model, small_config

STEPS = 3


def build(
    masks: AVLatents | None = None, guidances=(SyncCFG(video_scale=3, audio_scale=2),), rows: int = 1, **options
) -> Denoiser:
    config = small_config()
    shapes = (rows, 5, 3, 4, 6), (rows, 3, 18)
    given, anchors = draw_noise(*shapes, 5), draw_noise(*shapes, 6)
    masks = masks or AVLatents(torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 18))
    generator = torch.Generator().manual_seed(3)
    plan = GuidancePlan(guidances, STEPS, bool(masks.video.any()), bool(masks.audio.any()))
    positive, negative = (
        given_with(given, *torch.randn(2, rows, length, config.text_dim, generator=generator)) for length in (4, 2)
    )
    return Denoiser(random_model(config), plan, positive, negative, masks, anchors, **options)


def given_with(given: AVLatents, video_context: torch.Tensor, audio_context: torch.Tensor) -> AVInput:
    return AVInput(
        VideoInput(given.video, clean_sigma(given.video), video_context),
        AudioInput(given.audio, clean_sigma(given.audio), audio_context),
    )


@torch.no_grad()
def sample(denoiser: Denoiser, name: str = "euler", rows: int = 1) -> AVLatents:
    x = draw_noise((rows, 5, 3, 4, 6), (rows, 3, 18), 0)
    return solver(name)(denoiser, x, sigmas(STEPS, 3.0), lambda *_: None)


def test_given_latents_come_back_unchanged_with_every_solver():
    first_frame = torch.ones(1, 1, 3, 1, 1)
    first_frame[:, :, 0] = 0
    some_audio = torch.ones(1, 1, 18)
    some_audio[..., :7] = 0
    for name in ("euler", "dpmpp_2m"):
        denoiser = build(AVLatents(first_frame, some_audio))
        out = sample(denoiser, name)
        torch.testing.assert_close(out.video[:, :, 0], denoiser.given.video[:, :, 0], atol=1e-6, rtol=0)
        torch.testing.assert_close(out.audio[..., :7], denoiser.given.audio[..., :7], atol=1e-6, rtol=0)
        assert (out.video[:, :, 1:] - denoiser.given.video[:, :, 1:]).abs().mean() > 0.1


def test_roles_follow_the_masks():
    ones, zeros = AVLatents(torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 18)), torch.zeros(1, 1, 18)
    assert build().role == "joint"
    assert build(ones._replace(audio=zeros)).role == "audio_given"
    assert build(ones._replace(video=torch.zeros(1, 1, 3, 1, 1))).role == "video_given"
    part = torch.ones(1, 1, 18)
    part[..., 0] = 0
    assert build(ones._replace(audio=part)).role == "joint"


def test_the_driver_cache_changes_nothing():
    cached, live = build(), build()
    live.cache = None
    for one, other in zip(sample(cached), sample(live), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_every_placement_of_the_driver_cache_gives_the_same(placement: str):
    kept, live = build(driver_cache=placement), build(driver_cache="off")
    assert live.cache is None
    for one, other in zip(sample(kept), sample(live), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


EVERY_KIND = (
    SyncCFG(video_scale=3, audio_scale=2, stop=0.7),
    TextCFG(video_scale=2, audio_scale=3, interval=2),
    Isolated(video_scale=1.5, audio_scale=1.5),
    SkipLayer(video_scale=2, audio_scale=2, layers=(1,)),
)


@pytest.mark.parametrize("given", [None, "video", "audio"])
def test_one_batch_a_step_gives_what_one_pass_at_a_time_gives(given: str | None):
    """Two rows, every kind of guidance, ranges and intervals, with and without a driver."""
    masks = AVLatents(torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 18))
    if given:
        masks = masks._replace(**{given: torch.zeros_like(getattr(masks, given))})
    batched, split = (build(masks, EVERY_KIND, rows=2, batch_passes=together) for together in (True, False))
    calls = {}
    for name, denoiser in (("batched", batched), ("split", split)):
        forward, calls[name] = denoiser.transformer.forward, []

        def counted(video, *args, forward=forward, sizes=calls[name]):
            sizes.append(len(video.latents))
            return forward(video, *args)

        denoiser.transformer.forward = counted
    for one, other in zip(sample(batched, rows=2), sample(split, rows=2), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert len(calls["batched"]) == 2 * STEPS, "the skipped layer's pass, and all others together"
    assert sum(calls["batched"]) == sum(calls["split"]) == 2 * len(calls["split"])


def test_free_memory_decides_whether_passes_are_batched(monkeypatch: pytest.MonkeyPatch):
    denoiser = build()
    passes = [denoiser._pass(name, denoiser.given) for name in ("joint", "mute_audio")]
    assert len(list(denoiser._batches(passes))) == 1
    monkeypatch.setattr(memory, "CPU_BATCH_BYTES", 1)
    assert len(list(denoiser._batches(passes))) == 2


def test_anchored_passes_see_a_clean_anchor():
    """Seen from inside the model: noise levels (t, t), (t, 0) and (0, t), and the anchor itself."""
    denoiser = build(batch_passes=False)
    seen = []
    forward = denoiser.transformer.forward

    def spy(video, audio, rows):
        levels = float(video.sigma.max()), float(audio.sigma.max())
        seen.append((video.latents, audio.latents, *levels, rows.roles))
        return forward(video, audio, rows)

    denoiser.transformer.forward = spy
    with torch.no_grad():
        denoiser(draw_noise((1, 5, 3, 4, 6), (1, 3, 18), 0), torch.tensor(0.5), 0)
    joint, mute, static = seen
    assert joint[2:] == (0.5, 0.5, ("joint",))
    assert mute[2:] == (0.5, 0.0, ("audio_given",))
    assert static[2:] == (0.0, 0.5, ("video_given",))
    assert torch.equal(mute[1], denoiser.anchors.audio)
    assert torch.equal(static[0], denoiser.anchors.video)


def test_soft_mask_scales_noise_level_and_velocity():
    half = AVLatents(torch.full((1, 1, 3, 1, 1), 0.5), torch.ones(1, 1, 18))
    denoiser = build(half, guidances=())
    seen = {}
    forward = denoiser.transformer.forward

    def spy(video, audio, rows):
        seen.update(video=video.latents, sigma=video.sigma, out=forward(video, audio, rows))
        return seen["out"]

    denoiser.transformer.forward = spy
    x = draw_noise((1, 5, 3, 4, 6), (1, 3, 18), 0)
    with torch.no_grad():
        clean = denoiser(x, torch.tensor(0.8), 0)
    model_input = 0.5 * x.video + 0.5 * denoiser.given.video
    torch.testing.assert_close(seen["video"], model_input)
    torch.testing.assert_close(seen["sigma"], torch.full((1, 3), 0.4, dtype=torch.float64), atol=1e-7, rtol=0)
    estimate = model_input - 0.8 * 0.5 * seen["out"][0]
    torch.testing.assert_close(clean.video, 0.5 * estimate + 0.5 * denoiser.given.video, atol=1e-6, rtol=1e-6)


def test_text_and_skip_layer_passes_differ_from_the_joint_one():
    x = draw_noise((1, 5, 3, 4, 6), (1, 3, 18), 0)
    plain = build(guidances=())
    with torch.no_grad():
        joint = plain(x, torch.tensor(0.5), 0)
        for guidance in (TextCFG(video_scale=2, audio_scale=2), SkipLayer(video_scale=2, audio_scale=2, layers=(1,))):
            guided = build(guidances=(guidance,))(x, torch.tensor(0.5), 0)
            assert (guided.video - joint.video).abs().max() > 1e-3
            assert (guided.audio - joint.audio).abs().max() > 1e-3
