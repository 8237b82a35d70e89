"""Passes without a reference, as the denoiser runs them."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.denoiser import Conditions, Denoiser
from harmony_core.diffusion.guidance import GuidancePlan, ReferenceCFG, TextCFG
from harmony_core.diffusion.latents import AVLatents, draw_noise
from tests.model.test_appended_references import build as toy_model

ROWS, SHAPES = 2, ((2, 48, 3, 2, 4), (2, 20, 7))


def build(guidances: tuple, batch_passes: bool) -> Denoiser:
    generator = torch.Generator().manual_seed(1)
    contexts = torch.randn(4, ROWS, 4, 8, generator=generator)
    references = {
        "reference_audio": torch.randn(ROWS, 20, 3, generator=generator),
        "reference_image": torch.randn(ROWS, 48, 2, 2, 4, generator=generator),
    }
    return Denoiser(
        toy_model("dreamid-omni"),
        GuidancePlan(guidances, 1),
        Conditions(*contexts[:2], **references),
        Conditions(*contexts[2:], **references),
        given=draw_noise(*SHAPES, 5),
        masks=AVLatents(torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 7)),
        batch_passes=batch_passes,
    )


@pytest.mark.parametrize("batch_passes", [True, False])
def test_the_four_passes_combine_as_dreamid_omni_has_it(batch_passes: bool) -> None:
    guidances = TextCFG(video_scale=3, audio_scale=4), ReferenceCFG(video_scale=2.5, audio_scale=3)
    denoiser, x, sigma = build(guidances, batch_passes), draw_noise(*SHAPES, 0), 0.7
    calls = []
    denoiser.transformer.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    found = denoiser(x, torch.tensor(sigma), 0)
    assert calls == ([4 * ROWS] if batch_passes else [ROWS] * 4)

    def velocity(conditions: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
        levels = (torch.full((ROWS, length), sigma) for length in (3, 7))
        texts = conditions.video_context, conditions.audio_context, None
        return denoiser.transformer(
            *x, *levels, *texts, conditions.reference_audio, reference_image=conditions.reference_image
        )

    given = denoiser.positive
    zeros = torch.zeros_like(given.reference_image), torch.zeros_like(given.reference_audio)
    (v, a), (v_negative, a_negative) = velocity(given), velocity(denoiser.negative)
    texts = given.video_context, given.audio_context, None
    v_no_image, _ = velocity(Conditions(*texts, given.reference_audio, zeros[0]))
    _, a_no_voice = velocity(Conditions(*texts, zeros[1], given.reference_image))
    guided_v = v_negative + 3 * (v - v_negative) + 1.5 * (v - v_no_image)
    guided_a = a_negative + 4 * (a - a_negative) + 2 * (a - a_no_voice)
    torch.testing.assert_close(found.video, x.video - sigma * guided_v, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.audio, x.audio - sigma * guided_a, atol=1e-4, rtol=1e-4)
    assert (v - v_no_image).abs().max() > 1e-3
    assert (a - a_no_voice).abs().max() > 1e-3
