"""Harmony Anchors, Given Audio and Given Video on latents of every kind; anchors and latents the wrong way round.

python anchors.py COMFYUI_TREE
"""

from __future__ import annotations

import sys
from fractions import Fraction
from functools import partial
from types import SimpleNamespace
from typing import Any

from refusals import message_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import torch  # noqa: E402
from comfy_extras import nodes_lt, nodes_lt_audio  # noqa: E402
from harmony_pack.nodes.clip import HarmonyAnchors  # noqa: E402
from harmony_pack.nodes.decode import HarmonyDecode  # noqa: E402
from harmony_pack.nodes.given import give_audio, give_first_frame, give_video  # noqa: E402
from harmony_pack.nodes.guidance import HarmonySyncCFG  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest, split_anchors, split_mask  # noqa: E402
from harmony_pack.nodes.host.layout import anchors_of, empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402
from harmony_pack.nodes.sampler import HarmonySampler  # noqa: E402
from toys import HAS_H3, core_models, h3_models, h3_text, ltx_text, our_guider, random, run, same  # noqa: E402


def clip_of(video: torch.Tensor, audio: torch.Tensor) -> dict[str, Any]:
    return {"samples": nest(video, audio)}


def picture(height: int, width: int) -> torch.Tensor:
    return torch.randint(256, (1, height, width, 3), generator=torch.Generator().manual_seed(7)) / 255


def film(frames: int, height: int, width: int, fps: Fraction) -> Any:
    """A VIDEO as loaders hand it on."""
    images = torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(8))
    return SimpleNamespace(get_components=lambda: SimpleNamespace(images=images, alpha=None, frame_rate=fps))


def sound(seconds: float, rate: int) -> dict[str, Any]:
    """Stereo, not the same on both sides."""
    return {"waveform": random(9, 1, 2, round(seconds * rate)) * 0.1, "sample_rate": rate}


def check_static(
    vae: Any, audio_vae: Any, num_frames: int, video: torch.Tensor, audio: torch.Tensor, repeats: bool
) -> None:
    """A given picture, the clip's own first frame and a clip without one: the whole still as its VAE encodes it."""
    height, width = (size * vae.spacial_compression_decode() for size in video.shape[3:])
    given = picture(height, width)
    still = vae.encode(given.expand(num_frames, -1, -1, -1))
    found, mute = split_anchors(anchors_of(clip_of(video, audio), vae, audio_vae, given, None)[0])
    same([found], [still], 1e-4)
    # silence, as encoding a longer one has it
    assert mute.shape == (1, *audio.shape[1:])
    grey, notes = anchors_of(clip_of(video, audio), vae, audio_vae, None, None)
    assert notes == ("no first frame: the still is grey",)
    same([split_anchors(grey)[0]], [vae.encode(torch.full((num_frames, height, width, 3), 0.5))], 1e-4)
    started = video.clone()
    started[:, :, :1] = still[:, :, :1]
    two = clip_of(started.repeat(2, 1, 1, 1, 1), audio.repeat(2, *[1] * (audio.ndim - 1)))
    own, notes = anchors_of(two, vae, audio_vae, None, None)
    assert notes == ()
    static, mute = split_anchors(own)
    assert (static.shape, mute.shape) == ((1, *video.shape[1:]), (1, *audio.shape[1:]))
    # LTX-2's are the first latent over and over; the others are encoded from its picture
    seen = still if repeats else vae.encode(vae.decode(still[:, :, :1])[0].expand(num_frames, -1, -1, -1))
    same([static], [seen], 1e-4)


def check_given(
    model: Any, positive: list, vae: Any, audio_vae: Any, latent: dict[str, Any], fps: Fraction, frames: int
) -> None:
    """Sound and film, whole and an interval, come back from sampling as they went in; the rest moves."""
    video, audio = latent["samples"].unbind()
    axis = 2 if audio.shape[1] != 32 else 3
    rate = audio_vae.audio_sample_rate
    seconds = float(frames / fps)
    anchors = split_anchors(anchors_of(latent, vae, audio_vae, None, None)[0])

    def sampled(given: dict[str, Any]) -> list[torch.Tensor]:
        guider = our_guider(model, anchors, positive, sync=(3, 2))
        return run(guider, given["samples"].unbind(), given["noise_mask"].unbind(), (0.9, 0.5, 0.0))

    whole, _ = give_audio(latent, audio_vae, sound(seconds + 1, rate), 0.0, 0.0)
    assert not split_mask(whole)[1].any()
    assert bool((split_mask(whole)[0] == 1).all())
    same([sampled(whole)[1]], [whole["samples"].unbind()[1]])
    assert whole["samples"].unbind()[1].std() > 1e-3

    part, _ = give_audio(latent, audio_vae, sound(seconds + 1, rate), seconds / 4, seconds / 2)
    mask = split_mask(part)[1].movedim(axis, 0).flatten(1)
    given_latents = [index for index in range(len(mask)) if not mask[index].any()]
    assert given_latents == list(range(given_latents[0], given_latents[-1] + 1))
    assert abs(given_latents[0] / len(mask) - 0.25) < 0.15
    made = sampled(part)[1].movedim(axis, 2)
    before = part["samples"].unbind()[1].movedim(axis, 2)
    same([made[:, :, given_latents]], [before[:, :, given_latents]])
    others = [index for index in range(len(mask)) if index not in given_latents]
    assert (made - before)[:, :, others].abs().max() > 1e-2

    height, width = (size * vae.spacial_compression_decode() for size in video.shape[3:])
    asked = {"fps": float(fps)} if "harmony_clip" not in latent else {}
    filmed, _ = give_video(latent, vae, film(frames + 9, height, width, fps), 0.0, 0.0, **asked)
    same([sampled(filmed)[0]], [filmed["samples"].unbind()[0]], 1e-3)
    shown, _ = give_video(latent, vae, film(frames + 9, height, width, fps), seconds / 2, 0.0, **asked)
    rows = split_mask(shown)[0].flatten(3).amax(-1)[0, 0]
    assert (rows[0], rows[-1]) == (1, 0), rows
    first, _ = give_first_frame(latent, vae, picture(height, width))
    same([first["samples"].unbind()[0][:, :, :1]], [vae.encode(picture(height, width))[:, :, :1]])


def check_ltx() -> None:
    vae, audio_vae = core_models.ltx2_vaes()
    for frames, fps in ((121, 24), (97, 25), (25, 24)):
        out = nodes_lt_audio.LTXVEmptyLatentAudio.execute(frames, fps, 1, audio_vae).result[0]
        _, anchors, _ = empty_clip(vae, audio_vae, frames / fps, fps, 64, 64)
        assert split_anchors(anchors)[1].shape == out["samples"].shape  # core's own rule of this version
    video, audio = torch.zeros(1, 128, 4, 2, 2), torch.zeros(1, 8, 26, 16)
    check_static(vae, audio_vae, 25, video, audio, repeats=True)
    latent = clip_of(video, audio)
    check_given(core_models.ltxav(), ltx_text(3), vae, audio_vae, latent, Fraction(24), 25)
    message = message_of(give_video, latent, vae, film(30, 64, 64, Fraction(24)), 0.0, 0.0)
    assert "Latents of LTX-2 do not say their frame rate; set fps" in message, message

    # guides at the end: the still before them, they themselves after it
    class PictureVAE:
        downscale_index_formula = (8, 32, 32)

        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            return random(9, 1, 128, (len(pixels) - 1) // 8 + 1, pixels.shape[1] // 32, pixels.shape[2] // 32)

    add = nodes_lt.LTXVAddGuide.execute(
        ltx_text(3), ltx_text(4), PictureVAE(), {"samples": video}, torch.rand(1, 64, 64, 3), -1, 1.0
    )
    positive, _, guided = add.result
    guided_latent = clip_of(guided["samples"], audio)
    static, _ = split_anchors(anchors_of(guided_latent, vae, audio_vae, picture(64, 64), positive)[0])
    same([static[:, :, 4:]], [guided["samples"][:, :, 4:]])
    same([static[:, :, :4]], [vae.encode(picture(64, 64).expand(25, -1, -1, -1))], 1e-4)
    masks = guided["noise_mask"], torch.ones(1, 1, audio.shape[2], 1)
    anchors = static, split_anchors(anchors_of(guided_latent, vae, audio_vae, None, positive)[0])[1]
    made = run(our_guider(core_models.ltxav(), anchors, positive, sync=(3, 2)), (guided["samples"], audio), masks)
    same([made[0][:, :, 4:]], [guided["samples"][:, :, 4:]])


def check_h3() -> None:
    vae, audio_vae = h3_models.h3_vae(), h3_models.h3_audio_vae()
    video, audio = torch.zeros(1, 24, 12, 4, 4), torch.zeros(1, 32, 2, 65)  # 39 frames at 24 fps
    check_static(vae, audio_vae, 39, video, audio, repeats=False)
    check_given(h3_models.h3(), h3_text(3), vae, audio_vae, clip_of(video, audio), Fraction(24), 39)


def check_wrong_way_round() -> None:
    """Before sampling, with what is which."""
    register_model()
    model, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    positive = encode_captions(clip, "a red ball bounces", "a ball hits wood", "", "separate")
    latent, anchors, _ = empty_clip(vae, audio_vae, 0.64, 0, 0, 0)
    sampler = partial(HarmonySampler.execute, model, positive, 1, 2, 0.0, 1.5, 1.5, 1.0, 1.0)
    for call in (
        lambda: sampler(anchors, anchors),
        lambda: give_audio(anchors, audio_vae, None, 0.0, 0.0),
        lambda: HarmonyDecode.execute({**anchors, "harmony_clip": latent["harmony_clip"]}, vae, audio_vae),
        lambda: HarmonyAnchors.execute(anchors, vae, audio_vae),
    ):
        message = message_of(call)
        assert message.startswith("The latent input holds anchors"), message
    (guider,) = HarmonySyncCFG.execute(model, positive, anchors, 1.5, 1.5, None, 1.0, 1.0).result
    message = message_of(lambda: guider.sample(anchors["samples"], anchors["samples"], None, torch.ones(3)))
    assert message.startswith("The latent input holds anchors"), message
    for call in (
        lambda: sampler(latent, latent),
        lambda: HarmonySyncCFG.execute(model, positive, latent, 1.5, 1.5, None, 1.0, 1.0),
    ):
        message = message_of(call)
        assert message.startswith("The anchors input holds a latent"), message
    # swapped autoencoders
    message = message_of(lambda: HarmonyAnchors.execute(latent, audio_vae, vae))
    assert message.startswith("vae holds no video autoencoder and audio_vae a video autoencoder"), message
    # the node's anchors are the clip's
    for one, other in zip(
        split_anchors(anchors_of(latent, vae, audio_vae, None, None)[0]), split_anchors(anchors), strict=True
    ):
        torch.testing.assert_close(one, other)


if __name__ == "__main__":
    with torch.no_grad():
        check_wrong_way_round()
        check_ltx()
        if HAS_H3:
            check_h3()
    print("ok")
