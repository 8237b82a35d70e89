"""Clips from published kinds of files, a part each: Wan2.2, Ovi, Harmony 5B; offloading."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harmony_core.media import AudioClip, read_video
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline, PartFiles
from harmony_core.pipelines.offload import OFFLOADS, Placement

COMPANIONS = ("video_vae", "text_encoder", "tokenizer")


def build(parts: dict[str, Path], model: str, offload: str = "none", **changes) -> HarmonyPipeline:
    files = {name: parts[name] for name in COMPANIONS}
    if model != "wan":
        files["audio_vae"] = [parts["audio_vae"], parts["vocoder"]]
    return HarmonyPipeline.from_parts(PartFiles(model=[parts[model]], **files | changes), offload=offload)


def request(**changes) -> GenerateRequest:
    return GenerateRequest(**({"prompt": "a red ball hits wood"} | changes))


def tone() -> AudioClip:
    return AudioClip(np.sin(np.arange(8000) * 0.05).astype(np.float32)[None] * 0.3, 16000, "tone.wav")


def test_wan_makes_pictures_without_sound(parts: dict[str, Path]):
    pipeline = build(parts, "wan")
    clip, other = pipeline(request()), pipeline(request(prompt="a ball"))
    assert clip.frames.shape == (9, 32, 32, 3)
    assert clip.samples is None
    assert clip.latents_audio is None
    assert clip.passes_per_step == 2, "the prompt, and the negative prompt at text scale 5"
    assert not torch.equal(clip.latents_video, other.latents_video)
    image = np.full((32, 32, 3), 90, np.uint8)
    first = pipeline(request(image=image)).latents_video[:, :, :1]
    torch.testing.assert_close(first, pipeline.encode_video(image[None]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["audio_prompt", "transcript", "audio", "reference_audio", "audio_text_scale"])
def test_wan_refuses_what_has_sound(parts: dict[str, Path], name: str):
    value = {"audio": tone(), "reference_audio": tone(), "audio_text_scale": 2.0}.get(name, "hello")
    with pytest.raises(ValueError, match=f"{name} is given, but this checkpoint makes pictures without sound"):
        build(parts, "wan")(request(**{name: value}))
    with pytest.raises(ValueError, match="video_sync_scale is given, but this checkpoint has no sound"):
        build(parts, "wan")(request(video_sync_scale=3.0))


def test_the_negative_prompt_is_the_presets_unless_given(parts: dict[str, Path]):
    pipeline = build(parts, "wan")
    default = pipeline.config.negative_prompt
    assert default
    plain = pipeline(request()).latents_video
    assert torch.equal(plain, pipeline(request(negative_prompt=default)).latents_video)
    assert not torch.equal(plain, pipeline(request(negative_prompt="a red ball")).latents_video)
    alone = pipeline(request(video_text_scale=1.0))
    assert alone.passes_per_step == 1


def test_ovi_reads_one_caption_for_both_streams(parts: dict[str, Path]):
    pipeline = build(parts, "ovi")
    apart = pipeline(request(audio_prompt="wood", transcript="hello"))
    merged = pipeline(request(prompt="a red ball hits wood <S>hello<E> <AUDCAP>wood<ENDAUDCAP>"))
    assert torch.equal(apart.latents_video, merged.latents_video)
    assert torch.equal(apart.latents_audio, merged.latents_audio)
    assert apart.samples.shape == (1, 6000)
    assert apart.passes_per_step == 2
    with pytest.raises(ValueError, match="reference_audio is given, but this checkpoint was not trained"):
        pipeline(request(reference_audio=tone()))


def test_ovi_keeps_given_sound(parts: dict[str, Path]):
    pipeline = build(parts, "ovi")
    one, other = (pipeline(request(audio=tone(), seed=seed, seconds=0.375)) for seed in (1, 2))
    assert torch.equal(one.latents_audio, other.latents_audio)
    assert not torch.equal(one.latents_video, other.latents_video)
    assert any("not trained with one side given" in note for note in one.notes)


def test_harmony_does_every_task(parts: dict[str, Path]):
    pipeline = build(parts, "harmony")
    joint = pipeline(request(transcript="hello", audio_prompt="wood", reference_audio=tone()))
    assert joint.passes_per_step == 3
    assert len(joint.frames) == 9
    assert np.isfinite(joint.samples).all()
    assert pipeline(request(audio=tone(), seconds=0.375)).passes_per_step == 2


@pytest.mark.parametrize("model", ["harmony", "ovi", "wan"])
@pytest.mark.parametrize("offload", [each for each in OFFLOADS if each != "none"])
def test_offloading_changes_no_bit(parts: dict[str, Path], model: str, offload: str):
    expected, found = (build(parts, model, each)(request(seed=5)) for each in ("none", offload))
    assert torch.equal(found.latents_video, expected.latents_video)
    assert np.array_equal(found.frames, expected.frames)
    if model != "wan":
        assert np.array_equal(found.samples, expected.samples)


def test_streamed_layers_have_no_storage_between_uses(parts: dict[str, Path]):
    pipeline = build(parts, "harmony", "layers")
    pipeline(request())
    assert all(each.device.type == "meta" for each in pipeline.transformer.parameters())
    assert all(each.device.type == "meta" for each in pipeline.text_encoder.model.encoder.block.parameters())


def test_one_part_at_a_time():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    placement = Placement([first], [second], torch.device("meta"), "model")
    assert first.weight.device.type == second.weight.device.type == "cpu"
    placement.use(first)
    assert (first.weight.device.type, second.weight.device.type) == ("meta", "cpu")
    with pytest.raises(NotImplementedError, match="meta"):  # sent away first, and meta cannot be copied back
        placement.use(second)
    with pytest.raises(ValueError, match=r"'disk'.*none, model, layers"):
        Placement([], [], torch.device("cpu"), "disk")


def test_missing_and_needless_parts_are_named(parts: dict[str, Path]):
    with pytest.raises(ValueError, match="also give --video-vae"):
        build(parts, "wan", video_vae=None)
    with pytest.raises(ValueError, match=r"ovi\.safetensors makes sound; also give --audio-vae"):
        build(parts, "ovi", audio_vae=())
    with pytest.raises(ValueError, match=r"wan\.safetensors makes no sound; leave --audio-vae out"):
        build(parts, "wan", audio_vae=[parts["audio_vae"], parts["vocoder"]])


def test_the_command_line_takes_parts(harmony, parts: dict[str, Path], tmp_path: Path):
    common = ("--video-vae", parts["video_vae"], "--text-encoder", parts["text_encoder"])
    common += ("--tokenizer", parts["tokenizer"], "--json")
    sound = ("--audio-vae", parts["audio_vae"], "--audio-vae", parts["vocoder"])
    for model, extra in (("wan", ()), ("ovi", sound), ("harmony", (*sound, "--offload", "layers"))):
        out = tmp_path / f"{model}.mp4"
        code, printed, err = harmony("generate", "a red ball", "-m", parts[model], *common, *extra, "-o", out)
        assert code == 0, err
        facts = json.loads(printed)
        assert (facts["frames"], facts["samples"]) == (9, 0 if model == "wan" else 6000)
        assert (facts["sync"] is None) == (model == "wan")
        assert facts["written"] == [str(out)] + [str(out.with_suffix(".sync.png"))] * (model != "wan")
        assert len(read_video(out).frames) == 9
