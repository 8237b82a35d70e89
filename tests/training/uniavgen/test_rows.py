"""A row of each of UniAVGen's own tasks is what its sampler sends, and what it teaches."""

from __future__ import annotations

import pytest
import torch

from harmony_core.checkpoints.parts import PartFiles
from harmony_core.diffusion.latents import AVLatents
from harmony_core.model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
from harmony_core.model.speech import FILLER
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.text.transcripts import words_across
from harmony_core.training.data.batch import Voice
from harmony_core.training.losses import row_losses
from harmony_core.training.sections import ObjectiveConfig
from harmony_core.training.start import TrainedModel
from harmony_core.training.tasks import NoisedBatch, TaskRow, draw_levels, noise_rows
from tests.training.test_driver_gradients import moved
from tests.uniavgen_toy import GREETING, OBJECTIVE, PICTURE, film, sound

TASKS = {
    "joint": {"image": PICTURE},
    "voice": {"image": PICTURE, "reference_audio": sound(0.5), "reference_transcript": "Yes."},
    "audio_to_video": {"image": PICTURE, "audio": sound(5.0)},
    "video_to_audio": {"video": film()},
}
ROLES = {"joint": JOINT, "voice": JOINT, "audio_to_video": AUDIO_GIVEN, "video_to_audio": VIDEO_GIVEN}


@torch.no_grad()
def test_a_row_of_every_task_is_the_samplers_positive_pass(pipeline: HarmonyPipeline) -> None:
    """All four in one batch, at the sampler's own latents and noise levels; the sound of the fifth is another's."""
    seen, words = [], {"negative_scale": 1, "sync_scale": 1}
    hook = pipeline.transformer.register_forward_hook(lambda _, inputs, outputs: seen.append((inputs, outputs)))
    off = {f"{stream}_{name}": value for stream in ("video", "audio") for name, value in words.items()}
    passes = {}
    for task, media in TASKS.items():
        seen.clear()
        pipeline(GenerateRequest(**GREETING, **media, **off, width=32, height=32, steps=4))
        assert len(seen) == 4
        passes[task] = seen[1]  # of the schedule's 0.91..., where nothing is special
    hook.remove()
    speech = pipeline.config.speech
    assert speech is not None
    voice = Voice(pipeline.encode_voice(sound(0.5), None, [])[0], torch.tensor(words_across("Yes.", speech)))
    inputs = [inputs for inputs, _ in passes.values()]
    noisy = AVLatents(*(torch.cat([each[side].latents for each in inputs]) for side in (0, 1)))
    sigmas = AVLatents(*(torch.cat([each[side].sigma for each in inputs]) for side in (0, 1)))
    assert 0.1 < float(sigmas.video[0, -1]) < 0.95
    masks = sigmas.map(lambda x: (x > 0).float())
    roles = tuple(ROLES.values())
    batch = NoisedBatch(roles, noisy, sigmas, masks, noisy)
    text = torch.cat([video.context for video, *_ in inputs])
    own = torch.tensor([words_across("Hi there", speech)] * 4)
    padded = torch.cat((own, torch.full((4, 3), FILLER)), dim=1)
    model = TrainedModel(pipeline.transformer, None).eval()
    found = model(batch, text, text, padded, None, (None, voice, voice, voice))  # driven rows do not hear theirs
    for row, (task, (_, wanted)) in enumerate(passes.items()):
        if ROLES[task] != VIDEO_GIVEN:
            torch.testing.assert_close(found.video[row], wanted[0][0], atol=1e-5, rtol=1e-5)
        if ROLES[task] != AUDIO_GIVEN:
            torch.testing.assert_close(found.sound[row], wanted[1][0], atol=1e-5, rtol=1e-5)
    other = model(batch, text, text, padded, None, (None, None, voice, voice))
    assert not torch.allclose(found.sound[1], other.sound[1], atol=1e-3)


@torch.no_grad()
def test_words_that_are_dropped_are_a_space_behind_a_voices(pipeline: HarmonyPipeline) -> None:
    """As in the sampler's negative pass."""
    batch, (text, _, words, _) = trained_batch(JOINT)
    seen: list[torch.Tensor] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].transcript))
    model, voice = TrainedModel(pipeline.transformer, None), Voice(torch.randn(80, 40), torch.tensor([4, 5]))
    model(batch, text, text, words * 0, None, (voice, None))
    hook.remove()
    assert [ids.tolist() for ids in seen] == [[[1] + [FILLER] * 9], [[4, 5, 1] + [FILLER] * 7]]


def trained_batch(role: str) -> tuple[NoisedBatch, tuple]:
    """Two rows of a task as a step makes them, and what is read beside them."""
    generator = torch.Generator().manual_seed(3)
    clean = AVLatents(torch.randn(2, 48, 21, 2, 2, generator=generator), torch.randn(2, 80, 506, generator=generator))
    rows = [TaskRow(clip, role, role != VIDEO_GIVEN, role != AUDIO_GIVEN) for clip in range(2)]
    levels = draw_levels(rows, 21, 506, ObjectiveConfig(**OBJECTIVE), generator)
    text, words = torch.randn(2, 5, 24, generator=generator), torch.randint(1, 9, (2, 12), generator=generator)
    return noise_rows(clean, rows, levels, range(2), range(2)), (text, text, words, None)


@pytest.mark.parametrize("role", [AUDIO_GIVEN, VIDEO_GIVEN])
def test_a_driven_task_teaches_its_driver_nothing_of_its_own(files: PartFiles, role: str) -> None:
    model = TrainedModel(HarmonyPipeline.from_parts(files).transformer.requires_grad_(True), None)
    batch, beside = trained_batch(role)
    given, made = (batch.sigmas.sound, batch.sigmas.video) if role == AUDIO_GIVEN else batch.sigmas
    assert not given.any()
    assert not batch.sigmas.video[:, 0].any()  # the picture
    assert bool((made[:, 1:] > 0).all())
    losses = row_losses(model(batch, *beside), batch)
    (losses.video + losses.sound).sum().backward()
    transformer = model.transformer
    driver, driven = (transformer.audio, transformer) if role == AUDIO_GIVEN else (transformer, transformer.audio)
    silent, heard = ("v2a", "a2v") if role == AUDIO_GIVEN else ("a2v", "v2a")
    assert not moved(driver.head)
    assert moved(driven.head)
    assert moved(driver.blocks[0].self_attn)  # whose keys and values the other reads
    for interaction in transformer.interactions:
        assert moved(getattr(interaction, heard))
        assert not moved(getattr(interaction, silent).o)


def test_behind_a_voice_the_sound_learns_nothing_of_the_picture(files: PartFiles) -> None:
    model = TrainedModel(HarmonyPipeline.from_parts(files).transformer.requires_grad_(True), None)
    batch, beside = trained_batch(JOINT)
    voice = Voice(torch.randn(80, 40), torch.tensor([4, 5]))
    row_losses(model(batch, *beside, (voice, voice)), batch).sound.sum().backward()
    assert moved(model.transformer.audio.head)
    assert not moved(model.transformer.blocks)
    model.zero_grad()
    row_losses(model(batch, *beside), batch).sound.sum().backward()
    assert moved(model.transformer.blocks)
