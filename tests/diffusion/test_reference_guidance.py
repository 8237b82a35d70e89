"""Passes without a reference, as the denoiser runs them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harmony_core.diffusion.denoiser import Denoiser
from harmony_core.diffusion.guidance import GuidancePlan, ReferenceCFG, TextCFG
from harmony_core.diffusion.latents import AVLatents, draw_noise
from harmony_core.model.inputs import AudioInput, AVInput, VideoInput, clean_sigma
from tests.model.test_appended_references import build as toy_model

ROWS, SHAPES = 2, ((2, 48, 3, 2, 4), (2, 20, 7))


def build(guidances: tuple, batch_passes: bool) -> Denoiser:
    generator = torch.Generator().manual_seed(1)
    contexts = torch.randn(4, ROWS, 4, 8, generator=generator)
    voice = torch.randn(ROWS, 20, 3, generator=generator)
    images = torch.randn(ROWS, 48, 2, 2, 4, generator=generator)
    given = draw_noise(*SHAPES, 5)
    positive, negative = (
        AVInput(
            VideoInput(given.video, clean_sigma(given.video), texts[0], images),
            AudioInput(given.audio, clean_sigma(given.audio), texts[1], None, voice),
        )
        for texts in (contexts[:2], contexts[2:])
    )
    return Denoiser(
        toy_model("dreamid-omni"),
        GuidancePlan(guidances, 1),
        positive,
        negative,
        masks=AVLatents(torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 7)),
        batch_passes=batch_passes,
    )


@pytest.mark.parametrize("batch_passes", [True, False])
def test_the_four_passes_combine_as_dreamid_omni_has_it(batch_passes: bool) -> None:
    guidances = TextCFG(video_scale=3, audio_scale=4), ReferenceCFG(video_scale=2.5, audio_scale=3)
    denoiser, x, sigma = build(guidances, batch_passes), draw_noise(*SHAPES, 0), 0.7
    calls = []
    denoiser.transformer.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0].latents)))
    found = denoiser(x, torch.tensor(sigma), 0)
    assert calls == ([4 * ROWS] if batch_passes else [ROWS] * 4)

    def velocity(video: VideoInput, audio: AudioInput) -> tuple[torch.Tensor, torch.Tensor]:
        levels = [torch.full((ROWS, length), sigma) for length in (3, 7)]
        return denoiser.transformer(
            replace(video, latents=x.video, sigma=levels[0]), replace(audio, latents=x.audio, sigma=levels[1])
        )

    video, audio = denoiser.positive
    (v, a), (v_negative, a_negative) = velocity(video, audio), velocity(*denoiser.negative)
    v_no_image, _ = velocity(replace(video, reference=torch.zeros_like(video.reference)), audio)
    _, a_no_voice = velocity(video, replace(audio, reference=torch.zeros_like(audio.reference)))
    guided_v = v_negative + 3 * (v - v_negative) + 1.5 * (v - v_no_image)
    guided_a = a_negative + 4 * (a - a_negative) + 2 * (a - a_no_voice)
    torch.testing.assert_close(found.video, x.video - sigma * guided_v, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.audio, x.audio - sigma * guided_a, atol=1e-4, rtol=1e-4)
    assert (v - v_no_image).abs().max() > 1e-3
    assert (a - a_no_voice).abs().max() > 1e-3
