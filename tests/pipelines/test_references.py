"""Reference pictures and voices appended after the clip (DreamID-Omni): guidance, batches, lengths, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from harmony_core.config import HarmonyConfig
from harmony_core.media import AudioClip, fit_reference_image
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline, PartFiles
from harmony_core.pipelines.prompts import read_jobs
from harmony_core.presets import preset

SCALES = ("video_text_scale", "audio_text_scale", "video_reference_scale", "audio_reference_scale")
RED, BLUE = (np.full((32, 32, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 30, 200)))


@pytest.fixture(scope="module")
def dreamid(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ovi's tensors under a config that appends references: the state dicts are the same."""
    path = tmp_path_factory.mktemp("dreamid") / "dreamid.safetensors"
    with safe_open(parts["ovi"], "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
        config = HarmonyConfig.from_dict(json.loads(file.metadata()["config"])["transformer"])
    own = preset("dreamid-omni")
    config = config.with_(references="appended", **{name: getattr(own, name) for name in SCALES})
    save_file(tensors, path, metadata={"config": json.dumps({"transformer": config.to_dict()})})
    return path


def build(parts: dict[str, Path], model: Path) -> HarmonyPipeline:
    files = {name: parts[name] for name in ("video_vae", "text_encoder", "tokenizer")}
    files["audio_vae"] = [parts["audio_vae"], parts["vocoder"]]
    return HarmonyPipeline.from_parts(PartFiles(model=[model], **files))


@pytest.fixture(scope="module")
def pipeline(parts: dict[str, Path], dreamid: Path) -> HarmonyPipeline:
    return build(parts, dreamid)


def request(**changes) -> GenerateRequest:
    return GenerateRequest(**({"prompt": "a red ball hits wood", "steps": 1} | changes))


def tone(frequency: float = 0.05) -> AudioClip:
    return AudioClip(np.sin(np.arange(16000) * frequency).astype(np.float32)[None] * 0.3, 16000, "tone.wav")


def test_each_reference_costs_one_pass_and_none_costs_none(pipeline: HarmonyPipeline) -> None:
    assert pipeline(request()).passes_per_step == 2
    assert pipeline(request(reference_images=(RED,))).passes_per_step == 3
    both = {"reference_images": (RED,), "reference_audio": tone()}
    assert pipeline(request(**both)).passes_per_step == 4
    assert pipeline(request(**both, video_reference_scale=1.0, audio_reference_scale=1.0)).passes_per_step == 2


def test_the_clip_is_what_the_four_pass_formula_gives(pipeline: HarmonyPipeline, monkeypatch) -> None:
    """One Euler step of it by hand, from what the transformer was given and what it said."""
    rows = []
    forward = pipeline.transformer.forward

    def spy(video, audio, *rest):
        out = forward(video, audio, *rest)
        rows.append((video.latents, audio.latents, audio.reference, video.reference, *out))
        return out

    monkeypatch.setattr(pipeline.transformer, "forward", spy)
    clip = pipeline(request(reference_images=(RED, BLUE), reference_audio=tone(), reference_seconds=0.2))
    (video, audio, voice, images, out_v, out_a), = rows  # fmt: skip
    assert images.shape[2] == 2
    wanted = torch.cat([pipeline.encode_video(each[None]) for each in (RED, BLUE)], dim=2)[0]
    for row in (0, 1, 3):
        torch.testing.assert_close(images[row], wanted, atol=1e-5, rtol=0)
    assert not images[2].any()
    assert not voice[3].any()
    for row in (1, 2):
        assert torch.equal(voice[row], voice[0])
    positive, negative, no_image, no_voice = range(4)
    velocity_v = out_v[negative] + 3 * (out_v[positive] - out_v[negative]) + 1.5 * (out_v[positive] - out_v[no_image])
    velocity_a = out_a[negative] + 4 * (out_a[positive] - out_a[negative]) + 2 * (out_a[positive] - out_a[no_voice])
    torch.testing.assert_close(clip.latents_video[0], video[0] - velocity_v, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(clip.latents_audio[0], audio[0] - velocity_a, atol=1e-4, rtol=1e-4)


def test_a_batch_gives_each_clip_as_alone(pipeline: HarmonyPipeline) -> None:
    requests = [
        request(seed=1, reference_images=(RED,), reference_audio=tone()),
        request(seed=2, reference_images=(BLUE,), reference_audio=tone(0.02)),
    ]
    together = pipeline.batch(requests)
    for alone, one in zip([pipeline(each) for each in requests], together, strict=True):
        torch.testing.assert_close(one.latents_video, alone.latents_video, atol=1e-4, rtol=0)
        torch.testing.assert_close(one.latents_audio, alone.latents_audio, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"differ in reference_images \(1 and 2\)"):
        pipeline.batch([requests[0], request(reference_images=(RED, BLUE), reference_audio=tone())])


def test_the_whole_picture_is_seen_on_white() -> None:
    fitted, notes = fit_reference_image(np.zeros((20, 10, 3), np.uint8), 32, 32)
    assert fitted.shape == (32, 32, 3)
    assert not fitted[:, 9:23].any()
    assert (fitted[:, :8] == 255).all()
    assert (fitted[:, 24:] == 255).all()
    assert notes == ("reference image: 10x20 -> 32x32, whole",)
    assert fit_reference_image(fitted, 32, 32) == (fitted, ())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("reference_images", (RED,), "was not trained with reference images"),
        ("video_reference_scale", 2.0, "has no guidance by references"),
        ("audio_reference_scale", 2.0, "has no guidance by references"),
    ],
)
def test_other_checkpoints_refuse_them(parts: dict[str, Path], name: str, value, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is given, but this checkpoint {reason}; leave it out"):
        build(parts, parts["ovi"])(request(**{name: value}))


def test_lines_name_pictures_beside_the_file(tmp_path: Path) -> None:
    Image.fromarray(RED).save(tmp_path / "red.png")
    Image.fromarray(BLUE).save(tmp_path / "blue.png")
    lines = tmp_path / "lines.jsonl"
    first = {"prompt": "a", "reference_images": ["red.png", "blue.png"], "video_reference_scale": 2}
    lines.write_text(
        "\n".join(map(json.dumps, [first, {"prompt": "a"}, {"prompt": "a", "reference_images": "red.png"}]))
    )
    jobs = read_jobs(lines, tmp_path / "out", {}, 0)
    one, other = (job.request(preset("dreamid-omni")) for job in jobs.waiting)
    for found, expected in zip(one.reference_images, (RED, BLUE), strict=True):
        assert np.array_equal(found, expected)
    assert one.video_reference_scale == 2
    assert other.reference_images == ()
    assert jobs.errors == {3: "reference_images is 'red.png', but must be a list of file names."}


def test_the_command_line_takes_them(harmony, parts: dict[str, Path], dreamid: Path, tmp_path: Path) -> None:
    images = [tmp_path / "red.png", tmp_path / "tall.png"]
    Image.fromarray(RED).save(images[0])
    Image.fromarray(np.zeros((64, 32, 3), np.uint8)).save(images[1])
    files = ("--video-vae", parts["video_vae"], "--audio-vae", parts["audio_vae"], "--audio-vae", parts["vocoder"])
    files += ("--text-encoder", parts["text_encoder"], "--tokenizer", parts["tokenizer"])
    asked = [part for image in images for part in ("--reference-image", image)]
    asked += ["--steps", 1, "--no-plot", "--json", "-o", tmp_path / "out.mp4"]
    code, printed, err = harmony("generate", "a red ball", "-m", dreamid, *files, *asked)
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["passes_per_step"] == 3
    assert "reference image: 32x64 -> 32x32, whole" in facts["notes"]
