"""HarmonyClip and HarmonyDecode with the autoencoders of every supported model: ours, LTX-2's, Wan2.2's and MMAudio's.

python clip_pairs.py COMFYUI_TREE

Core's classes are built by core's own `comfy.sd.VAE`, small and with random weights.
"""

from __future__ import annotations

import json
import math
import sys
from fractions import Fraction

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy_extras.nodes_lt import LTXVConcatAVLatent, LTXVSeparateAVLatent  # noqa: E402
from comfy_extras.nodes_wan import TrimVideoLatent  # noqa: E402
from harmony_pack.harmony_core.checkpoints.bundle import CONFIG_KEY  # noqa: E402
from harmony_pack.harmony_core.presets import PRESETS  # noqa: E402
from harmony_pack.harmony_core.text.ovi_caption import caption  # noqa: E402
from harmony_pack.harmony_core.toyworld import render, sample_scene  # noqa: E402
from harmony_pack.nodes.given import give_audio, give_video  # noqa: E402
from harmony_pack.nodes.host import decoding  # noqa: E402
from harmony_pack.nodes.host.autoencoders import decode_frames, decode_waveform  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest  # noqa: E402
from harmony_pack.nodes.host.layout import empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import HarmonyModelConfig, register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402
from refusals import message_of  # noqa: E402
from toys import SyncCFG, SyncCFGGuider, TextCFG, core_models, scales  # noqa: E402

from nodes import LatentFromBatch  # noqa: E402

TONE = {"waveform": torch.sin(torch.arange(24000) * 0.1)[None, None], "sample_rate": 24000}


def check_ltx2() -> None:
    vae, audio_vae = core_models.ltx2_vaes()
    latent, anchors, notes = empty_clip(vae, audio_vae, 0.64, 25.0, 64, 96, batch_size=2)
    video, audio = latent["samples"].unbind()
    # 16 frames asked, 17 made; ceil(17 / 25 x 25) audio latents
    assert (*video.shape, *audio.shape) == (2, 128, 3, 3, 2, 2, 8, 17, 16)
    assert not video.any()
    assert not audio.any()
    static, mute = anchors["samples"].unbind()
    assert (static.shape, mute.shape) == ((1, *video.shape[1:]), (1, *audio.shape[1:]))
    torch.testing.assert_close(static, vae.encode(torch.full((17, 96, 64, 3), 0.5)))
    silence = audio_vae.first_stage_model.encode(torch.zeros(1, 1, 44100))[:, :, :17]
    torch.testing.assert_close(mute, silence, atol=1e-4, rtol=0)
    assert "16 frames" in notes[0]
    assert "24000 Hz" in notes[0]

    positive = [
        [torch.randn(1, 128, 2 * core_models.LTX_WIDTH, generator=torch.Generator().manual_seed(3)), {"frame_rate": 25}]
    ]
    one = empty_clip(vae, audio_vae, 0.68, 25.0, 64, 64)[0]
    pair = empty_clip(vae, audio_vae, 0.68, 25.0, 64, 64)[1]["samples"].unbind()
    guider = SyncCFGGuider(core_models.ltxav(), scales(SyncCFG, 2, 2), scales(TextCFG, 1, 1), tuple(pair))
    guider.inner_set_conds({"positive": positive})
    shapes = [part.shape for part in one["samples"].unbind()]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor((1.0, 0.5, 0.0))
    made = guider.sample(nest(*noise), one["samples"], sampler, sigmas, None, seed=1)
    (clip,), _ = decoding.decode_clip({**one, "samples": made}, vae, audio_vae)
    assert clip.images.shape == (17, 64, 64, 3)
    assert clip.audio["sample_rate"] == 24000
    assert clip.audio["waveform"].shape == (1, 2, round(17 / 25 * 24000))

    given, _ = give_audio(one, audio_vae, TONE, 0.0, 0.32)
    mask = given["noise_mask"].unbind()[1]
    assert not mask[:, :, :8].any()
    assert mask[:, :, 8:].all()
    stereo = {"waveform": torch.cat((TONE["waveform"], 0 * TONE["waveform"]), 1), "sample_rate": 48000}
    assert message_of(give_video, one, vae, None, 0.0, 0.0).startswith("The latent has no video to keep")
    assert message_of(give_audio, one, audio_vae, None, 0.0, 0.0).startswith("The latent has no sound to keep")
    whole, notes = give_audio(one, audio_vae, stereo, 0.0, 0.0)
    assert notes[0].startswith("audio: 48000 Hz -> ")
    assert not any("mono" in note or "silent" in note for note in notes)
    (clip,), _ = decoding.decode_clip(whole, vae, audio_vae)
    assert clip.audio["sample_rate"] == 48000
    assert torch.equal(clip.audio["waveform"][0, :, :24000], stereo["waveform"][0])


def tiny_ovi() -> comfy.model_patcher.ModelPatcher:
    shape = {"dim": 64, "ffn_dim": 64, "num_layers": 1, "num_heads": 2}
    settings = json.dumps({"transformer": PRESETS["ovi-11b"].with_(**shape, audio_ffn_conv_dim=64).to_dict()})
    config = HarmonyModelConfig({"image_model": "wan2.1", **shape})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({CONFIG_KEY: torch.tensor(list(settings.encode()), dtype=torch.uint8)})
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def check_wan22_with_mmaudio() -> None:
    vae, audio_vae = core_models.wan22_vae(), core_models.mmaudio_vae()
    latent, anchors, _ = empty_clip(vae, audio_vae, 0.25, 24.0, 64, 32)
    video, audio = latent["samples"].unbind()
    assert (*video.shape, *audio.shape) == (1, 48, 3, 2, 4, 1, 20, 12)
    assert [part.shape for part in anchors["samples"].unbind()] == [video.shape, audio.shape]
    (clip,), _ = decoding.decode_clip(latent, vae, audio_vae)
    assert clip.images.shape == (6, 32, 64, 3)
    assert clip.audio["waveform"].shape[-1] == 0.25 * 44100
    whole = decode_frames(vae, video)
    torch.testing.assert_close(decode_frames(vae, video, chunk=1), whole, atol=1e-5, rtol=0)
    check_audio_in_chunks(audio_vae)

    # 121 frames: Ovi's number of audio latents is its own, which its autoencoders cannot know
    for model, num_audio_latents in ((None, 158), (tiny_ovi(), 157)):
        latent = empty_clip(vae, audio_vae, 121 / 24, 24.0, 32, 32, model=model)[0]
        assert latent["samples"].unbind()[1].shape == (1, 20, num_audio_latents)


def check_audio_in_chunks(audio_vae: comfy.sd.VAE) -> None:
    """The autoencoder's attention spans the clip, so chunks differ a little: at their seams no more than elsewhere."""
    audio = torch.randn(1, 20, 157, generator=torch.Generator().manual_seed(2))
    whole, rate = decode_waveform(audio_vae, audio)
    assert whole.shape == (1, 1, math.ceil(157 * rate / 31.25))
    assert torch.equal(decode_waveform(audio_vae, audio, Fraction(6))[0], whole)
    chunked, _ = decode_waveform(audio_vae, audio, Fraction(1))
    assert chunked.shape == whole.shape
    error = (chunked - whole).abs().flatten() / whole.std()
    chunk, fade = (int(latents * rate / 31.25) for latents in (35, 5))  # whole samples, a second or more
    from_seam = (torch.arange(len(error)) + chunk // 2) % chunk - chunk // 2
    seams = (from_seam.abs() < fade) & (torch.arange(len(error)) > chunk // 2)
    assert error.mean() < 0.04
    assert error[seams].mean() < 1.2 * error[~seams].mean()


def check_what_is_said() -> None:
    """Every length that is not as asked, and what the checkpoint was not trained for, before sampling."""
    _, _, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")

    def notes_of(seconds: float = 2.0, fps: float = 0.0, size: int = 0) -> tuple[str, ...]:
        return empty_clip(vae, audio_vae, seconds, fps, size, size)[2]

    assert notes_of() == ("2 s: 25 frames at 12.5 fps, 32000 samples at 16000 Hz",)
    for seconds, frames, made in ((0.5, 6, 0.48), (1.0, 13, 1.04), (3.3, 41, 3.28), (5.0, 63, 5.04)):
        notes = notes_of(seconds)
        assert notes[0].startswith(f"{made:g} s: {frames} frames at 12.5 fps"), notes
        assert notes[1] == f"{seconds:g} s at 12.5 fps is {made:g} s: {frames} whole frames.", notes
    latent = empty_clip(vae, audio_vae, 2.0, 23.976, 64, 64)[0]
    assert latent["harmony_clip"]["fps"] == Fraction(24000, 1001)
    assert notes_of(size=128)[1].startswith("128x128 is not a size this checkpoint was trained at (64x64).")
    assert any("24 fps is not the rate this checkpoint was trained at (12.5 fps)." in note for note in notes_of(fps=24))
    assert any("5.04 s is not a length this checkpoint was trained at (2 s)." in note for note in notes_of(5.0))


def check_lengths_are_compared() -> None:
    """Streams that were trimmed or joined no longer fit what was laid out; picking from a batch changes nothing."""
    _, _, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    latent = empty_clip(vae, audio_vae, 2.0, 12.5, 64, 64, batch_size=2)[0]
    longer = empty_clip(vae, audio_vae, 4.0, 12.5, 64, 64, batch_size=2)[0]
    trimmed = TrimVideoLatent.execute(latent, 1).result[0]
    parts = [LTXVSeparateAVLatent.execute(each).result for each in (latent, longer)]
    joined = {**parts[1][0], **parts[0][1], "samples": nest(parts[1][0]["samples"], parts[0][1]["samples"])}
    laid_out = "but Harmony Clip laid out 2 s of video and 2 s of sound (7 and 50 latents): it was trimmed, joined"
    for wrong, held in (
        (trimmed, "The latent holds 1.68 s of video and 1.96 s of sound (6 and 49 latents), "),
        (joined, "The latent holds 4.24 s of video and 2 s of sound (14 and 50 latents), "),
    ):
        for call in (
            lambda wrong=wrong: decoding.decode_clip(wrong, vae, audio_vae),
            lambda wrong=wrong: give_audio(wrong, audio_vae, TONE, 0.0, 0.0),
            lambda wrong=wrong: give_video(wrong, vae, None, 0.0, 0.0),
        ):
            assert message_of(call).startswith(held + laid_out), message_of(call)

    given = give_audio(latent, audio_vae, TONE, 0.0, 0.0)[0]
    second = [LatentFromBatch().frombatch(part, 1, 1)[0] for part in LTXVSeparateAVLatent.execute(given).result]
    (clip,), _ = decoding.decode_clip(LTXVConcatAVLatent.execute(*second).result[0], vae, audio_vae)
    assert clip.images.shape == (25, 64, 64, 3)
    assert torch.equal(clip.audio["waveform"][0, :, :24000], TONE["waveform"][0])


def check_built_in() -> None:
    _, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    latent, _, notes = empty_clip(vae, audio_vae, 1.9, 12.5, 64, 64, batch_size=2)
    assert any("the last 1 cut" in note for note in notes), notes
    generator = torch.Generator().manual_seed(5)
    video, audio = (torch.randn(part.shape, generator=generator) for part in latent["samples"].unbind())
    whole = decode_frames(vae, video)
    assert whole.shape == (2, 25, 64, 64, 3)
    for chunk in (1, 2, 3, 7):
        torch.testing.assert_close(decode_frames(vae, video, chunk), whole, atol=1e-5, rtol=0)
    picture = vae.encode(torch.from_numpy(render(sample_scene(np.random.default_rng(1))).video).float() / 255)
    tiled = decode_frames(vae, picture, tile=32)
    assert tiled.shape == (1, 25, 64, 64, 3)
    difference = float((tiled - decode_frames(vae, picture)).abs().mean())
    assert 0 < difference < 0.05, difference

    found, _ = decoding.decode_clip({**latent, "samples": nest(video, audio)}, vae, audio_vae, chunk_seconds=0.4)
    assert len(found) == 2
    for item, pictures in zip(found, whole, strict=True):
        torch.testing.assert_close(item.images, pictures[:24], atol=1e-5, rtol=0)
        assert item.audio["waveform"].shape == (1, 1, round(Fraction(24) / Fraction("12.5") * 16000))
        assert item.fps == Fraction("12.5")

    assert decoding._loudness(torch.zeros(1, 100), 0)[0].startswith("clip 0: the sound is silent")
    assert "not numbers" in decoding._loudness(torch.tensor([[0.1, math.nan]]), 1)[0]
    assert "clips (peak 1.50)" in decoding._loudness(torch.tensor([[0.1, -1.5]]), 2)[0]
    assert decoding._loudness(torch.tensor([[0.1, -0.9]]), 3) == []

    parts = "a ball bounces", "a ball hits metal", "go home"
    ((context, extras),) = encode_captions(clip, *parts, "ovi")
    ((expected, _),) = encode_captions(clip, caption(*parts, "ovi"), "", "", "separate")
    torch.testing.assert_close(context, expected)
    torch.testing.assert_close(extras["harmony_audio_context"], expected)
    assert extras["harmony_transcript"] == ""


if __name__ == "__main__":
    register_model()
    with torch.inference_mode():  # as ComfyUI runs nodes
        check_built_in()
        check_what_is_said()
        check_lengths_are_compared()
        check_ltx2()
        check_wan22_with_mmaudio()
    print("ok")
