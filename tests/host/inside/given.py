"""What is given, and what is left to make: spans, re-rolls, masks of core's, soft masks, words and patches.

python given.py COMFYUI_TREE
"""

from __future__ import annotations

from guider_harmony import (  # loads the pack and the built-in model  # isort: skip
    ANCHORS,
    AUDIO_VAE,
    CLIP,
    EMPTY,
    GIVEN,
    LATENT,
    NEGATIVE,
    NOTHING,
    PATCHER,
    POSITIVE,
    VAE,
    WORDS,
    Lines,
    guider,
    masks_of,
    noise_of,
    run,
    same,
    split_latent,
)

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import comfy.samplers
import comfy.sd
import numpy as np
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import InputImpl, Types
from harmony_pack.harmony_core.media import resample
from harmony_pack.nodes.given import HarmonyGivenAudio, HarmonyGivenVideo, give_audio, give_first_frame, give_video
from harmony_pack.nodes.guidance import HarmonySyncCFG
from harmony_pack.nodes.host import run_hooks, words
from harmony_pack.nodes.host.autoencoders import check_pair
from harmony_pack.nodes.host.av_latent import nest, split_mask
from harmony_pack.nodes.host.clips import read_film
from harmony_pack.nodes.host.decoding import decode_clip
from harmony_pack.nodes.host.layout import empty_clip
from harmony_pack.nodes.host.text_encoder import encode_captions
from harmony_pack.nodes.reference import HarmonyReferenceAudio, give_reference
from harmony_pack.nodes.text import HarmonyTextEncode
from refusals import message_of

RATE = 44100
SIDES = torch.stack([torch.sin(torch.arange(4 * RATE) * step) * 0.3 for step in (0.05, 0.11)])
STEREO = {"waveform": SIDES[None], "sample_rate": RATE}
SOUND = {"waveform": torch.sin(torch.arange(16000) * 0.1)[None, None], "sample_rate": 16000}
SECONDS = empty_clip(VAE, AUDIO_VAE, 2.0, 0, 0, 0)[0]
MADE = [torch.randn(part.shape, generator=torch.Generator().manual_seed(9)) for part in split_latent(SECONDS)]
PICTURE = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


def film(images: torch.Tensor, rate: Fraction | float, alpha: torch.Tensor | None = None) -> Any:
    """What the nodes ask of ComfyUI's VIDEO."""
    components = Types.VideoComponents(images=images, audio=None, frame_rate=Fraction(rate), alpha=alpha)
    return SimpleNamespace(get_components=lambda: components)


def shares(latent: dict) -> list[float]:
    """How much of video and sound is left to make."""
    return [float(mask.mean()) for mask in split_mask(latent)]


def check_rerolls() -> None:
    """A stream that is kept lets go of the other one, which an earlier run was given; new media do not."""
    driven, _ = give_audio(LATENT, AUDIO_VAE, SOUND, 0.0, 0.0)
    assert shares(driven) == [1.0, 0.0]
    made = {**driven, "samples": nest(*GIVEN)}
    again, _ = give_video(made, VAE, None, 0.0, 0.0)
    assert shares(again) == [0.0, 1.0]
    back, _ = give_audio(again, AUDIO_VAE, None, 0.0, 0.0)
    assert shares(back) == [1.0, 0.0]
    assert all(torch.equal(one, other) for one, other in zip(split_latent(back), GIVEN, strict=True))
    pinned, _ = give_first_frame(driven, VAE, PICTURE)
    kept, _ = give_audio({**pinned, "samples": nest(*GIVEN)}, AUDIO_VAE, None, 0.0, 0.0)
    assert shares(kept)[0] == shares(pinned)[0] < 1.0
    assert "nothing is left to make" in message_of(
        give_video, driven, VAE, film(PICTURE.expand(8, -1, -1, -1), 12.5), 0.0, 0.0
    )


def check_spans() -> None:
    """An end at the end that was asked for is the end, though the last latents reach further."""
    asked = {**empty_clip(VAE, AUDIO_VAE, 1.92, 0, 0, 0)[0], "samples": nest(*MADE)}  # 24 frames, 25 made
    whole, _ = give_video(asked, VAE, None, 0.0, 1.92)
    assert shares(whole)[0] == 0.0
    whole, _ = give_audio(asked, AUDIO_VAE, SOUND, 0.0, 1.92)
    assert shares(whole)[1] == 0.0
    part, _ = give_video(asked, VAE, None, 0.0, 1.8)
    assert 0.0 < shares(part)[0] < 1.0
    assert message_of(give_audio, LATENT, AUDIO_VAE, SOUND, 9.0, 0.0).startswith("From 9 s to the end there is not one")


def made_of(latent: dict) -> dict:
    """The LATENT as a sampler leaves it: what is not given is something else."""
    streams = zip(split_latent(latent), MADE, split_mask(latent), strict=True)
    return {**latent, "samples": nest(*(own + mask * (other - own) for own, other, mask in streams))}


def check_given_sound_comes_back() -> None:
    """Whole: every sample at its own rate. A part: inside it, with what the model made around it."""
    driven, _ = give_audio(SECONDS, AUDIO_VAE, STEREO, 0.0, 0.0)
    made = made_of(driven)
    (clip,), notes = decode_clip(made, VAE, AUDIO_VAE)
    assert clip.audio["sample_rate"] == RATE
    assert torch.equal(clip.audio["waveform"][0], SIDES[:, : 2 * RATE])
    assert notes == ["audio: the given sound as it was, 44100 Hz stereo"]
    short, _ = give_audio(SECONDS, AUDIO_VAE, {**STEREO, "waveform": SIDES[None, :, :RATE]}, 0.0, 0.0)
    (clip,), _ = decode_clip(short, VAE, AUDIO_VAE)
    assert torch.equal(clip.audio["waveform"][0, :, :RATE], SIDES[:, :RATE])
    assert clip.audio["waveform"].shape == (1, 2, 2 * RATE)
    assert not clip.audio["waveform"][..., RATE:].any()
    (model,), notes = decode_clip(made, VAE, AUDIO_VAE, given="model")
    assert (model.audio["sample_rate"], model.audio["waveform"].shape) == (16000, (1, 1, 32000))
    assert not any("given" in note for note in notes)

    part, _ = give_audio(SECONDS, AUDIO_VAE, STEREO, 0.4, 1.2)
    (clip,), _ = decode_clip(made_of(part), VAE, AUDIO_VAE)
    (model,), _ = decode_clip(made_of(part), VAE, AUDIO_VAE, given="model")
    own, fade = slice(round(0.4 * RATE), round(1.2 * RATE)), round(0.02 * RATE)
    waveform = clip.audio["waveform"][0]
    assert torch.equal(waveform[:, own.start + fade : own.stop - fade], SIDES[:, own.start + fade : own.stop - fade])
    outside = resample(model.audio["waveform"][0, 0].numpy(), 16000, RATE)
    for side in waveform.numpy():
        np.testing.assert_array_equal(side[: own.start], outside[: own.start])
        np.testing.assert_array_equal(side[own.stop :], outside[own.stop :])

    again = {**made, "samples": nest(MADE[0], MADE[1])}  # the sound was made anew after all
    (clip,), notes = decode_clip(again, VAE, AUDIO_VAE)
    assert clip.audio["sample_rate"] == 16000
    assert notes == ["the latent no longer holds the given sound, so it is shown as it was made"]
    pairs = zip(split_latent(made), MADE, strict=True)
    two = {**made, "samples": nest(*(torch.cat(pair) for pair in pairs))}
    first, second = decode_clip(two, VAE, AUDIO_VAE)[0]
    assert torch.equal(first.audio["waveform"][0], SIDES[:, : 2 * RATE])
    assert second.audio["sample_rate"] == 16000
    for mixed in (SIDES[:1].repeat(8, 1), SIDES[:1].repeat(4, 1)):
        odd, _ = give_audio(SECONDS, AUDIO_VAE, {"waveform": mixed[None], "sample_rate": 22000}, 0.0, 0.0)
        (clip,), notes = decode_clip(odd, VAE, AUDIO_VAE)
        assert (clip.audio["sample_rate"], clip.audio["waveform"].shape) == (22050, (1, 1, 44100))
        assert any("22000 Hz -> 22050 Hz" in note for note in notes)


def check_given_film_comes_back() -> None:
    """Whole: its own size, rate and pictures. A part: its fitted pictures in the place of what the model made."""
    frames = torch.rand(70, 90, 121, 3, generator=torch.Generator().manual_seed(3))
    given, notes = give_video(SECONDS, VAE, film(frames, 30), 0.0, 0.0)
    assert notes[0] == "video: 30 fps -> 12.5 fps"
    (clip,), notes = decode_clip(made_of(given), VAE, AUDIO_VAE)
    assert clip.fps == 30
    assert torch.equal(clip.images, frames[:60, :, :120])
    assert clip.audio["waveform"].shape == (1, 1, 32000)
    assert notes == [
        "video: the given film as it was, 121x90 at 30 fps",
        "video: 121x90 -> 120x90, H.264 takes even sizes",
    ]
    short, _ = give_video(SECONDS, VAE, film(frames[:20], Fraction(30000, 1001)), 0.0, 0.0)
    (clip,), _ = decode_clip(short, VAE, AUDIO_VAE)
    assert (len(clip.images), clip.fps) == (60, Fraction(30000, 1001))
    assert torch.equal(clip.images[19:], frames[19:20, :, :120].expand(41, -1, -1, -1))
    assert clip.audio["waveform"].shape[-1] == round(60 * 1001 / 30000 * 16000)
    (model,), _ = decode_clip(made_of(given), VAE, AUDIO_VAE, given="model")
    assert model.images.shape == (25, 64, 64, 3)

    own = torch.rand(25, 64, 64, 3, generator=torch.Generator().manual_seed(4))
    part, _ = give_video(SECONDS, VAE, film(own, 12.5), 1.0, 0.0)
    (clip,), _ = decode_clip(made_of(part), VAE, AUDIO_VAE)
    (model,), _ = decode_clip(made_of(part), VAE, AUDIO_VAE, given="model")
    torch.testing.assert_close(clip.images[13:], own[13:], atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(clip.images[:13], model.images[:13])


def write_film(path: Path, seconds: int, start: int) -> None:
    """At 30 fps, every frame another grey, the first with the time of frame `start`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 30, width=64, height=64, pix_fmt="yuv420p")
        for index in range(30 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 2 * index, np.uint8))
            frame.pts, frame.time_base = start + index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def check_a_long_film_is_read_no_further_than_the_clip() -> None:
    """Core holds every frame that it reads as float32. A file whose clock begins late is read as a whole."""
    for name, start, read in (("film.mp4", 0, 30 * 1.64), ("film.ts", 60, 30 * 4)):
        write_film(Path(name), 4, start)
        video = InputImpl.VideoFromFile(name)
        whole = video.get_components()
        assert len(whole.images) == 120
        part = read_film(video, Fraction(16, 25))
        assert abs(len(part.images) - read) <= 1, (name, len(part.images))
        assert torch.equal(part.images, whole.images[: len(part.images)])
        latent, notes = give_video(LATENT, VAE, video, 0.0, 0.0)
        wanted, said = give_video(LATENT, VAE, film(whole.images, whole.frame_rate), 0.0, 0.0)
        assert torch.equal(split_latent(latent)[0], split_latent(wanted)[0])
        assert notes == said, (notes, said)
        (clip,), _ = decode_clip(latent, VAE, AUDIO_VAE)
        (expected,), _ = decode_clip(wanted, VAE, AUDIO_VAE)
        assert torch.equal(clip.images, expected.images)
    cut = InputImpl.VideoFromFile("film.mp4", start_time=1.0, duration=0.5)
    assert len(read_film(cut, Fraction(16, 25)).images) == 15


def check_a_sound_with_holes() -> None:
    """What is no number is silence, and is said; nothing of it reaches the latents."""
    holes = SIDES[None].clone()
    holes[:, 0, 100:103], holes[:, 1, 7] = torch.nan, torch.inf
    latent, notes = give_audio(LATENT, AUDIO_VAE, {"waveform": holes, "sample_rate": RATE}, 0.0, 0.0)
    assert bool(latent["samples"].unbind()[1].isfinite().all())
    assert "audio: 4 samples that are no numbers replaced by silence" in notes, notes


def check_no_text_encoder_and_no_autoencoder() -> None:
    """What core's Load Checkpoint hands on of a file that it does not know."""
    assert "take the clip of Harmony Checkpoint Loader" in message_of(HarmonyTextEncode.execute, None, *WORDS)
    unknown = comfy.sd.VAE(sd={})
    for pair, name in (((unknown, AUDIO_VAE), "vae"), ((VAE, unknown), "audio_vae")):
        assert f"take the {name} of Harmony Checkpoint Loader" in message_of(check_pair, *pair)


def check_nothing_is_not_unconnected() -> None:
    """A link that brings None, and a latent without anything to keep."""
    message = message_of(HarmonyGivenAudio.execute, SECONDS, AUDIO_VAE, None)
    assert message.startswith("There is no sound in what is connected to the audio input: a film without a sound")
    assert message.endswith("or take the link away to keep the latent's own.")
    assert message_of(HarmonyReferenceAudio.execute, POSITIVE, AUDIO_VAE, None, 0.0).startswith("There is no sound in")
    silence = {"waveform": torch.zeros(1, 2, 0), "sample_rate": RATE}
    assert message_of(give_audio, SECONDS, AUDIO_VAE, silence, 0.0, 0.0).startswith("There is no sound in what")
    assert message_of(HarmonyGivenVideo.execute, SECONDS, VAE, None).startswith("There is no film in what is connected")
    nothing = film(torch.zeros(0, 64, 64, 3), 25)
    assert message_of(give_video, SECONDS, VAE, nothing, 0.0, 0.0).startswith("There is not one picture in what is")
    for call, part in ((HarmonyGivenVideo, "video"), (HarmonyGivenAudio, "sound")):
        message = message_of(call.execute, SECONDS, VAE if part == "video" else AUDIO_VAE)
        assert message.startswith(f"The latent has no {part} to keep, it is still empty: connect something"), message
    started, _ = give_first_frame(SECONDS, VAE, PICTURE)
    assert message_of(give_video, started, VAE, None, 0.0, 0.0).startswith("The latent has no video to keep")
    assert message_of(give_first_frame, SECONDS, VAE, PICTURE[:0]).startswith(
        "There is no picture in what is connected"
    )


def check_what_is_said() -> None:
    """Transparency, silence, mixes that cancel, and how many of a batch are used."""
    hidden = torch.cat((torch.zeros(1, 64, 64, 3), torch.zeros(1, 64, 64, 1)), -1)
    started, notes = give_first_frame(SECONDS, VAE, hidden)
    assert notes == ("first frame: transparent parts are shown on white",)
    white, _ = give_first_frame(SECONDS, VAE, torch.ones(1, 64, 64, 3))
    assert torch.equal(split_latent(started)[0], split_latent(white)[0])
    clear = film(torch.zeros(25, 64, 64, 3), 12.5, alpha=torch.zeros(25, 64, 64, 1))
    given, notes = give_video(SECONDS, VAE, clear, 0.0, 0.0)
    assert notes == ("video: transparent parts are shown on white",)
    assert bool((decode_clip(given, VAE, AUDIO_VAE)[0][0].images == 1).all())
    sounds = {
        "near silent (peak -80 dB)": torch.full((1, 1, 32000), 1e-4),
        "its channels cancel each other in mono; channel 1 is taken": torch.stack((SIDES[0], -SIDES[0]))[None],
        "the first of 2 sounds": SIDES[:, None],
    }
    for note, waveform in sounds.items():
        _, notes = give_audio(SECONDS, AUDIO_VAE, {"waveform": waveform, "sample_rate": 16000}, 0.0, 0.0)
        assert any(note in said for said in notes), notes


def check_references() -> None:
    """What there is of a voice, no silence behind it; 0 is the checkpoint's own length."""
    for waveform, seconds, count in ((SIDES[:1], 0.0, 12), (SIDES[:1, :22050], 10.0, 12), (SIDES[:1], 1.0, 25)):
        voice = {"waveform": waveform[None], "sample_rate": RATE}
        conditioning, notes = give_reference(POSITIVE, AUDIO_VAE, voice, seconds)
        assert conditioning[0][1]["harmony_reference_audio"].shape == (1, 20, count), notes
        assert ("audio: 0.48 s are there, not 10 s" in notes) == (seconds == 10.0)
    short = {"waveform": SIDES[None, :1, :1000], "sample_rate": RATE}
    message = message_of(give_reference, POSITIVE, AUDIO_VAE, short, 0.0)
    assert message == "audio is shorter than one audio latent (0.04 s); take at least 0.3 s."


def check_pixel_masks() -> None:
    """Core's SetLatentNoiseMask stores one mask of pixels for the video."""
    pixels = torch.zeros(1, 1, 64, 64)
    pixels[..., 32:] = 1
    video, audio = split_mask({**LATENT, "noise_mask": pixels})
    assert video.shape == (1, 1, *EMPTY[0].shape[2:])
    assert not video[..., :3].any()
    assert (video[..., 5:] == 1).all()
    assert audio.all()


def check_soft_masks() -> None:
    """The pack's own put-back leaves what ComfyUI blended."""
    masks = masks_of(slice(1), NOTHING)
    masks[0][:, :, 2:] = 0.5
    plain = PATCHER.clone()
    plain.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, run_hooks.WRAPPER_KEY)
    outs = []
    for patcher in (PATCHER, plain):
        core = comfy.samplers.CFGGuider(patcher)
        core.set_conds(POSITIVE, NEGATIVE)
        outs.append(run(core, noise_of(3), GIVEN, masks))
    same(*outs)
    assert torch.equal(outs[0][0][:, :, :1], GIVEN[0][:, :, :1])


def check_words() -> None:
    """A transcript that is not read is named in the log, once."""
    log = Lines()
    words.logger.addHandler(log)
    strange = encode_captions(CLIP, *WORDS[:2], "go 3", "separate")
    for _ in range(2):
        run(guider(positive=strange), noise_of(1))
    assert log.lines == ["Harmony: The transcript's 3 is left out: this checkpoint does not know it."], log.lines
    assert words.read_transcript("hello", None) is None
    assert "set prompt_format of Harmony Text Encode to ovi" in log.lines[-1]
    words.logger.removeHandler(log)


def check_attention_override() -> None:
    """ComfyUI's attention overrides reach self, text and style attention."""
    calls = []

    def override(function, *args, **kwargs):
        calls.append(args[0].shape)
        return function(*args, **kwargs)

    patched = PATCHER.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    same(run(guider(patched), noise_of(2)), run(guider(), noise_of(2)))
    layers = PATCHER.model.harmony.num_layers
    assert len(calls) >= 3 * layers * 3, len(calls)  # self and text attention of two streams, three steps


def check_defaults() -> None:
    """An API prompt that leaves the text scales out is the page's."""
    made = HarmonySyncCFG.execute(PATCHER, POSITIVE, ANCHORS, 1.5, 1.5, NEGATIVE).result[0]
    config = PATCHER.model.harmony
    assert (made.cfg.video, made.cfg.audio) == (config.video_text_scale, config.audio_text_scale)


if __name__ == "__main__":
    with torch.inference_mode():
        check_rerolls()
        check_spans()
        check_given_sound_comes_back()
        check_given_film_comes_back()
        check_a_long_film_is_read_no_further_than_the_clip()
        check_a_sound_with_holes()
        check_no_text_encoder_and_no_autoencoder()
        check_nothing_is_not_unconnected()
        check_what_is_said()
        check_references()
        check_pixel_masks()
        check_defaults()
    with torch.no_grad():
        check_soft_masks()
        check_words()
        check_attention_override()
    print("ok")
