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

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from harmony_pack.nodes.given import give_audio, give_first_frame, give_video
from harmony_pack.nodes.guidance import HarmonySyncCFG
from harmony_pack.nodes.host import model, run_hooks
from harmony_pack.nodes.host.av_latent import nest, split_mask
from harmony_pack.nodes.host.layout import empty_clip
from harmony_pack.nodes.host.text_encoder import encode_captions
from refusals import message_of

SOUND = {"waveform": torch.sin(torch.arange(16000) * 0.1)[None, None], "sample_rate": 16000}
PICTURE = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


class Film:
    """What the nodes ask of ComfyUI's VIDEO."""

    def get_components(self):
        from comfy_api.latest import Types

        return Types.VideoComponents(images=PICTURE.expand(8, -1, -1, -1), audio=None, frame_rate=12.5)


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
    assert "nothing is left to make" in message_of(give_video, driven, VAE, Film(), 0.0, 0.0)


def check_spans() -> None:
    """An end at the end that was asked for is the end, though the last latents reach further."""
    asked = empty_clip(VAE, AUDIO_VAE, 1.92, 0, 0, 0)[0]  # 24 frames, 25 made
    whole, _ = give_video({**asked, "samples": nest(*split_latent(asked))}, VAE, None, 0.0, 1.92)
    assert shares(whole)[0] == 0.0
    whole, _ = give_audio(asked, AUDIO_VAE, SOUND, 0.0, 1.92)
    assert shares(whole)[1] == 0.0
    part, _ = give_video(asked, VAE, None, 0.0, 1.8)
    assert 0.0 < shares(part)[0] < 1.0
    assert message_of(give_audio, LATENT, AUDIO_VAE, SOUND, 9.0, 0.0).startswith("From 9 s to the end there is not one")


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
    model.logger.addHandler(log)
    strange = encode_captions(CLIP, *WORDS[:2], "go 3", "separate")
    for _ in range(2):
        run(guider(positive=strange), noise_of(1))
    assert log.lines == ["Harmony: The transcript's 3 is left out: this checkpoint does not know it."], log.lines
    assert model.read_transcript("hello", None) is None
    assert "set prompt_format of Harmony Text Encode to ovi" in log.lines[-1]
    model.logger.removeHandler(log)


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
        check_pixel_masks()
        check_defaults()
    with torch.no_grad():
        check_soft_masks()
        check_words()
        check_attention_override()
    print("ok")
