"""Guidance: the paper's equations, the planner, and what a scale of 1 costs."""

from __future__ import annotations

import pytest
import torch

from harmony_core.diffusion.guidance import GuidancePlan, Isolated, ReferenceCFG, SkipLayer, SyncCFG, TextCFG
from harmony_core.diffusion.latents import AVLatents
from harmony_core.presets import preset


def predictions(*names: str) -> dict[str, AVLatents]:
    generator = torch.Generator().manual_seed(len(names))
    return {
        name: AVLatents(torch.randn(1, 2, 2, 2, 2, generator=generator), torch.randn(1, 2, 5, generator=generator))
        for name in names
    }


def test_sync_cfg_is_equations_9_and_10():
    each = predictions("joint", "mute_audio", "static_video")
    plan = GuidancePlan((SyncCFG(video_scale=3, audio_scale=2),), num_steps=4)
    video, audio = plan.combine(0, each)
    mute, static = each["mute_audio"].video, each["static_video"].audio
    torch.testing.assert_close(video, mute + 3 * (each["joint"].video - mute))
    torch.testing.assert_close(audio, static + 2 * (each["joint"].audio - static))


def test_text_cfg_is_the_ordinary_formula_per_modality():
    each = predictions("joint", "negative_text")
    plan = GuidancePlan((TextCFG(video_scale=5, audio_scale=3),), num_steps=1)
    video, audio = plan.combine(0, each)
    negative = each["negative_text"]
    torch.testing.assert_close(video, negative.video + 5 * (each["joint"].video - negative.video))
    torch.testing.assert_close(audio, negative.audio + 3 * (each["joint"].audio - negative.audio))


def test_the_dreamid_presets_scales_are_its_four_pass_formula():
    each = predictions("joint", "negative_text", "no_reference_image", "no_reference_audio")
    config = preset("dreamid-omni")
    text = TextCFG(video_scale=config.video_text_scale, audio_scale=config.audio_text_scale)
    reference = ReferenceCFG(video_scale=config.video_reference_scale, audio_scale=config.audio_reference_scale)
    plan = GuidancePlan((text, reference), num_steps=1)
    assert plan.passes(0) == tuple(each)
    video, audio = plan.combine(0, each)
    positive, negative, no_image, no_audio = each.values()
    expected_v = negative.video + 3 * (positive.video - negative.video) + 1.5 * (positive.video - no_image.video)
    expected_a = negative.audio + 4 * (positive.audio - negative.audio) + 2 * (positive.audio - no_audio.audio)
    torch.testing.assert_close(video, expected_v, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(audio, expected_a, atol=1e-6, rtol=1e-6)


def test_guidances_add_up():
    each = predictions("joint", "mute_audio", "static_video", "negative_text")
    sync, text = SyncCFG(video_scale=2, audio_scale=1.5), TextCFG(video_scale=4, audio_scale=1)
    both = GuidancePlan((sync, text), 1).combine(0, each)
    alone = [GuidancePlan((one,), 1).combine(0, each) for one in (sync, text)]
    torch.testing.assert_close(both.video, alone[0].video + alone[1].video - each["joint"].video)
    torch.testing.assert_close(both.audio, alone[0].audio)


@pytest.mark.parametrize(
    ("guidances", "video", "audio", "expected"),
    [
        ((SyncCFG(video_scale=1, audio_scale=1),), True, True, ("joint",)),
        ((SyncCFG(video_scale=3, audio_scale=1),), True, True, ("joint", "mute_audio")),
        ((SyncCFG(video_scale=3, audio_scale=2),), True, True, ("joint", "mute_audio", "static_video")),
        ((SyncCFG(video_scale=3, audio_scale=2),), True, False, ("joint", "mute_audio")),
        ((SyncCFG(video_scale=3, audio_scale=2),), False, True, ("joint", "static_video")),
        ((TextCFG(video_scale=3, audio_scale=2), Isolated(video_scale=2, audio_scale=2)), True, True,
         ("joint", "negative_text", "isolated")),
        ((ReferenceCFG(video_scale=2, audio_scale=1),), True, True, ("joint", "no_reference_image")),
        ((ReferenceCFG(video_scale=1, audio_scale=2),), True, True, ("joint", "no_reference_audio")),
        ((ReferenceCFG(video_scale=2, audio_scale=2),), True, False, ("joint", "no_reference_image")),
        ((ReferenceCFG(video_scale=1, audio_scale=1),), True, True, ("joint",)),
        ((SkipLayer(video_scale=2, audio_scale=1, layers=(1,)),), False, True, ("joint",)),
    ],
)  # fmt: skip
def test_planner_runs_only_what_is_needed(guidances, video: bool, audio: bool, expected: tuple[str, ...]):
    assert GuidancePlan(guidances, 10, video, audio).passes(0) == expected


def test_scale_one_changes_nothing_bit_for_bit():
    each = predictions("joint")
    out = GuidancePlan((SyncCFG(video_scale=1, audio_scale=1), TextCFG(video_scale=1, audio_scale=1)), 1).combine(
        0, each
    )
    assert torch.equal(out.video, each["joint"].video)
    assert torch.equal(out.audio, each["joint"].audio)


def test_ranges_and_intervals():
    plan = GuidancePlan((SyncCFG(video_scale=3, audio_scale=1, start=0.2, stop=0.8, interval=2),), num_steps=10)
    guided = [step for step in range(10) if "mute_audio" in plan.passes(step)]
    assert guided == [2, 4, 6]
    assert plan.passes_per_step == pytest.approx(1.3)
    with pytest.raises(ValueError, match=r"0\.8 to 0\.2"):
        SyncCFG(video_scale=3, audio_scale=2, start=0.8, stop=0.2)
    with pytest.raises(ValueError, match="interval is 0"):
        SyncCFG(video_scale=3, audio_scale=2, interval=0)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_scales_are_numbers(scale: float):
    with pytest.raises(ValueError, match=f"audio guidance scale is {scale}"):
        SyncCFG(video_scale=1.5, audio_scale=scale)
    with pytest.raises(ValueError, match=f"video guidance scale is {scale}"):
        TextCFG(video_scale=scale, audio_scale=1.5)
