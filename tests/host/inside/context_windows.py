"""Core's context windows on Harmony models and, under SyncCFG, on native ones; a refusal where they cannot work.

python context_windows.py COMFYUI_TREE
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

from log_lines import Lines
from refusals import message_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy.context_windows as core_windows  # noqa: E402
import comfy.samplers  # noqa: E402
import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from harmony_pack.harmony_core.geometry import num_audio_latents  # noqa: E402
from harmony_pack.harmony_core.presets import PRESETS  # noqa: E402
from harmony_pack.nodes.host import run_hooks  # noqa: E402
from harmony_pack.nodes.host.av_latent import split_anchors, split_latent  # noqa: E402
from harmony_pack.nodes.host.layout import empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.host.windows import audio_of_window  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402
from toys import (  # noqa: E402
    H3_AUDIO,
    H3_VIDEO,
    HAS_H3,
    core_guider,
    core_models,
    differ,
    h3_models,
    h3_text,
    ltx_text,
    nested,
    our_guider,
    pair,
    random,
    run,
    same,
    windowed,
    zeros,
)

KNOWS_SOUND = hasattr(core_windows.IndexListContextWindow, "get_window_for_modality")
ONE_STEP = (0.9, 0.0)
CUTS = (13, 5, 1, False), (31, 7, 2, False), (31, 6, 0, True), (12, 12, 0, True)


def check_audio_of_windows() -> None:
    """Every sound lies in a window, and a window is a clip of its own length."""
    for name, fps in (("harmony-tiny", "25/2"), ("harmony-5b", "24"), ("ovi-11b", "24")):
        config = PRESETS[name]
        for total, length, overlap, before in CUTS:
            num_audio = num_audio_latents(total, Fraction(fps), config)
            starts = [*range(0, total - length, length - overlap), total - length]
            heard: set[int] = set()
            for start in starts:
                frames = list(range(start, start + length))
                sound = audio_of_window(frames, total, num_audio, config, before)
                assert sound == list(range(sound[0], sound[-1] + 1))
                extra = int(before and start > 0)
                whole = num_audio_latents(length + extra, Fraction(fps), config)
                assert abs(len(sound) - whole) <= (frames[-1] == total - 1), (len(sound), whole)
                first_s = Fraction(4 * (start - extra)) / Fraction(fps)
                assert abs(sound[0] / Fraction(config.audio_latent_rate) - first_s) <= Fraction(1, 31)
                heard |= set(sound)
            assert heard == set(range(num_audio)), name


def check_harmony() -> None:
    register_model()
    patcher, clip, vae, audio_vae = load_checkpoint("harmony-tiny (built in)")
    config = patcher.model.harmony
    positive = encode_captions(clip, "a red ball bounces on wood", "a ball hits wood", "", "separate")
    negative = encode_captions(clip, "", "", "", "separate")
    latent, anchors, _ = empty_clip(vae, audio_vae, 4.0, 0, 0, 0)
    empty, stills = split_latent(latent), split_anchors(anchors)
    frames, sounds = empty[0].shape[2], empty[1].shape[2]

    def ours(model: ModelPatcher, pair_of_anchors: Any = stills) -> Any:
        return our_guider(model, pair_of_anchors, positive, negative, sync=(2.5, 1.75), text=(2, 3))

    # one window is the clip
    whole = run(ours(patcher), empty, sigmas=ONE_STEP)
    same(run(ours(windowed(patcher, frames, 2)), empty, sigmas=ONE_STEP), whole)

    # what lies in one window only is what that window, cut out, gives
    length, overlap = 8, 2
    for before in (False, True):
        model = windowed(patcher, length, overlap, causal_window_fix=before)
        actual = run(ours(model), empty, sigmas=ONE_STEP)
        assert all(bool(part.isfinite().all()) for part in actual)
        noise = [random(1 + index, *part.shape) for index, part in enumerate(empty)]
        for start in (0, frames - length):
            first = start - int(before and start > 0)
            window = list(range(start, start + length))
            sound = audio_of_window(window, frames, sounds, config, before)
            cut = [noise[0][:, :, first : start + length], noise[1][:, :, sound]]
            still = stills[0][:, :, first : start + length], stills[1][:, :, sound]
            alone = denoise(ours(patcher, still), cut)
            alone[0] = alone[0][:, :, start - first :]
            own = slice(0, length - overlap) if start == 0 else slice(length - 1, length)
            seen = actual[0][:, :, start : start + length]
            same([seen[:, :, own]], [alone[0][:, :, own]], 1e-4)
            end = slice(-1, None) if start else slice(0, 1)
            same([actual[1][:, :, end]], [alone[1][:, :, end]], 1e-4)

    # masks are cut as well; given parts stay
    masks = [torch.ones(1, 1, *part.shape[2:]) for part in empty]
    masks[0][:, :, :1] = 0
    masks[1][:, :, :10] = 0
    given = [random(5 + index, *part.shape) for index, part in enumerate(empty)]
    made = run(ours(windowed(patcher, length, overlap)), given, masks, (1.0, 0.6, 0.0))
    same([made[0][:, :, :1], made[1][:, :, :10]], [given[0][:, :, :1], given[1][:, :, :10]], 1e-6)
    plain = run(core_guider(windowed(patcher, length, overlap), positive, negative, 2.0), empty)
    assert all(bool(part.isfinite().all()) for part in plain)
    check_refusals(patcher, positive, empty)
    spoken = encode_captions(clip, "a woman speaks", "a woman says one word", "hello", "separate")
    lines = Lines()
    run_hooks.logger.addHandler(lines)
    run(core_guider(windowed(patcher, length, overlap), spoken), empty, sigmas=ONE_STEP)
    assert any("says all of the transcript" in line for line in lines.lines), lines.lines


def check_refusals(patcher: ModelPatcher, positive: list, empty: Any) -> None:
    """Before sampling, with what to set."""

    for options, words in (
        ({"dim": 0}, "time is dim 2"),
        ({"schedule": "looped_uniform"}, "schedule looped_uniform and stride 1"),
        ({"schedule": "standard_uniform", "context_stride": 2}, "stride 2"),
        ({"overlap": 0, "causal_window_fix": False}, "overlap of 0 leave out the sound"),
        ({"schedule": "standard_uniform", "causal_window_fix": False}, "turn causal_window_fix on"),
    ):
        model = windowed(patcher, 8, **{"overlap": 2} | options)
        message = message_of(lambda model=model: run(core_guider(model, positive), empty))
        assert words in message, message


def denoise(guider: Any, noise: list[torch.Tensor]) -> list[torch.Tensor]:
    """One step from this noise at the sigma of ONE_STEP."""
    empty = nested(*(torch.zeros_like(part) for part in noise))
    sampler = comfy.samplers.sampler_object("euler")
    return list(guider.sample(nested(*noise), empty, sampler, torch.tensor(ONE_STEP), None, seed=1).unbind())


def check_native() -> None:
    video, audio = (1, 128, 12, 2, 2), (1, 8, 97, 16)
    patcher, empty, stills = core_models.ltxav(), zeros(video, audio), pair(2, video, audio)
    positive, negative = ltx_text(3), ltx_text(4)
    model = windowed(patcher, 6, 2)
    core = run(core_guider(model, positive, negative, 3.0), empty)
    same(run(our_guider(model, stills, positive, negative, text=(3, 3)), empty), core)
    guided = run(our_guider(model, stills, positive, negative, sync=(3, 2), text=(3, 3)), empty)
    assert all(bool(part.isfinite().all()) for part in guided)
    differ(guided, core)
    # a window alone, cut out, with its part of the anchors
    cut = run(our_guider(windowed(patcher, 12, 2), stills, positive, sync=(3, 2)), empty, sigmas=ONE_STEP)
    same(run(our_guider(patcher, stills, positive, sync=(3, 2)), empty, sigmas=ONE_STEP), cut)
    handler = model.model_options["context_handler"]
    assert not handler.callbacks  # the model that others sample with keeps its own
    if HAS_H3:
        refused = windowed(h3_models.h3(), 2, 1)
        message = message_of(lambda: our_guider(refused, pair(2, H3_VIDEO, H3_AUDIO), h3_text(3)))
        assert "MiniMaxH3 does not say which sound belongs to which frames" in message, message


def check_refused() -> None:
    """A core that would cut the packed latent anywhere."""
    refused = windowed(core_models.ltxav(), 6, 2)
    message = message_of(lambda: our_guider(refused, pair(2), ltx_text(3)))
    assert "cannot cut video and sound into context windows together" in message, message


if __name__ == "__main__":
    with torch.no_grad():
        check_audio_of_windows()
        if KNOWS_SOUND:
            check_harmony()
            check_native()
        else:
            check_refused()
    print("ok")
