"""The guider and what surrounds a run, on the built-in model: one batch or many, cached or not, row by row.

python guider_harmony.py COMFYUI_TREE
"""

from __future__ import annotations

import gc
import logging
import sys
import weakref

from log_lines import Lines
from refusals import message_of

from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])

import comfy.hooks  # noqa: E402
import comfy.nested_tensor  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import torch  # noqa: E402
from harmony_pack.harmony_core.diffusion.denoiser import Denoiser  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import (  # noqa: E402
    GuidancePlan,
    Isolated,
    SkipLayer,
    SyncCFG,
    TextCFG,
)
from harmony_pack.harmony_core.diffusion.latents import AVLatents  # noqa: E402
from harmony_pack.harmony_core.diffusion.solvers import euler  # noqa: E402
from harmony_pack.harmony_core.model.driver_cache import DriverCache  # noqa: E402
from harmony_pack.harmony_core.model.inputs import AudioInput, AVInput, VideoInput, clean_sigma  # noqa: E402
from harmony_pack.harmony_core.pipelines import HarmonyPipeline  # noqa: E402
from harmony_pack.nodes.host import notes, run_hooks  # noqa: E402
from harmony_pack.nodes.host.av_latent import nest, split_anchors, split_latent  # noqa: E402
from harmony_pack.nodes.host.guider import SyncCFGGuider  # noqa: E402
from harmony_pack.nodes.host.layout import empty_clip  # noqa: E402
from harmony_pack.nodes.host.registration import register_model  # noqa: E402
from harmony_pack.nodes.host.text_encoder import encode_captions  # noqa: E402
from harmony_pack.nodes.loaders import load_checkpoint  # noqa: E402

SECONDS, STEPS = 0.64, 3
WORDS = "a red ball bounces on wood", "a ball hits wood", "one two"

register_model()
PATCHER, CLIP, VAE, AUDIO_VAE = load_checkpoint("harmony-tiny (built in)")
POSITIVE = encode_captions(CLIP, *WORDS, "separate")
NEGATIVE = encode_captions(CLIP, "", "", "", "separate")
LATENT, ANCHORS, _ = empty_clip(VAE, AUDIO_VAE, SECONDS, 0, 0, 0)
EMPTY, STILLS = split_latent(LATENT), split_anchors(ANCHORS)


def scales(kind: type, video: float, audio: float, **options):
    return kind(video_scale=video, audio_scale=audio, **options)


SYNC, TEXT_OFF = scales(SyncCFG, 2.5, 1.75), scales(TextCFG, 1.0, 1.0)


def guider(patcher=PATCHER, sync=SYNC, text=TEXT_OFF, extra=(), positive=POSITIVE) -> SyncCFGGuider:
    made = SyncCFGGuider(patcher, sync, text, STILLS, extra)
    made.inner_set_conds({"positive": positive, "negative": NEGATIVE})
    return made


def run(
    made: comfy.samplers.CFGGuider, noise, latent=EMPTY, masks=None, solver: str = "euler", steps: int = STEPS
) -> list[torch.Tensor]:
    """[video, audio] after a few steps."""
    sigmas = comfy.samplers.calculate_sigmas(PATCHER.get_model_object("model_sampling"), "simple", steps)
    masks = None if masks is None else nest(*masks)
    sampler = comfy.samplers.sampler_object(solver)
    return made.sample(nest(*noise), nest(*latent), sampler, sigmas, masks, seed=1).unbind()


def noise_of(seed: int, batch: int = 1) -> list[torch.Tensor]:
    like = [part.expand(batch, *part.shape[1:]) for part in EMPTY]
    return comfy.sample.prepare_noise(nest(*like), seed).unbind()


def masks_of(video_given: slice, audio_given: slice) -> list[torch.Tensor]:
    masks = [torch.ones(1, 1, *part.shape[2:]) for part in EMPTY]
    masks[0][:, :, video_given] = 0
    masks[1][:, :, audio_given] = 0
    return masks


def same(actual, expected, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest value."""
    for one, other in zip(actual, expected, strict=True):
        error = (one - other).abs().max() / other.abs().max()
        assert error <= tolerance, error


def differ(actual, expected) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert (one - other).abs().max() > 1e-2


GIVEN = tuple(torch.randn(part.shape, generator=torch.Generator().manual_seed(2)) for part in EMPTY)
SOLVERS = ("euler", "heun", "dpmpp_2m", "res_multistep", "uni_pc", "euler_ancestral", "lcm")
NOTHING = slice(0)
ALL = slice(None)


def calls_of_the_model() -> list[int]:
    """A list that grows by the number of rows of every forward pass."""
    rows: list[int] = []
    PATCHER.model.diffusion_model.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0][0])))
    return rows


def check_one_batch_or_many(rows: list[int]) -> None:
    """ComfyUI runs all passes at once when memory allows, else one by one: the same clip."""
    for masks in (None, masks_of(slice(1), slice(3, 7))):
        made = guider(text=scales(TextCFG, 1.5, 1.25))
        rows.clear()
        together = run(made, noise_of(3), GIVEN, masks)
        assert rows == [4] * STEPS, rows
        PATCHER.model.memory_required = lambda *_, **__: 1e30
        rows.clear()
        apart = run(made, noise_of(3), GIVEN, masks)
        del PATCHER.model.memory_required
        assert rows == [1] * 4 * STEPS, rows
        same(apart, together)


def check_batch_rows() -> None:
    """Two clips at once are what each is alone."""
    noise = noise_of(4, batch=2)
    latent = [part.expand(2, *part.shape[1:]) for part in GIVEN]
    for masks in (None, masks_of(slice(1), NOTHING), masks_of(NOTHING, ALL)):
        both = run(guider(), noise, latent, masks)
        for row in range(2):
            alone = run(guider(), [part[row : row + 1] for part in noise], GIVEN, masks)
            same([part[row : row + 1] for part in both], alone)


def check_given_parts_stay() -> None:
    masks = masks_of(slice(1, 2), slice(2, 9))
    out = run(guider(), noise_of(5), GIVEN, masks)
    for part, given, mask in zip(out, GIVEN, masks, strict=True):
        keep = (mask == 0).expand_as(part)
        assert torch.equal(part[keep], given[keep])
        assert (part - given)[~keep].abs().max() > 0.1


def check_samplers_keep_given_parts() -> None:
    """A given video, and a given first frame."""
    for solver in SOLVERS:
        for given_frames in (ALL, slice(1)):
            masks = masks_of(given_frames, NOTHING)
            out = run(guider(), noise_of(8), GIVEN, masks, solver)
            keep = (masks[0] == 0).expand_as(out[0])
            torch.testing.assert_close(out[0][keep], GIVEN[0][keep], atol=1e-5, rtol=0)
            for part, given, mask in zip(out, GIVEN, masks, strict=True):
                made = part - given
                assert made.isfinite().all(), solver
                assert not mask.any() or made.abs().max() > 0.1, solver


def check_driver_cache() -> None:
    """Cached drivers change nothing, are really used, and are gone after the run, also after a failed one."""
    log, made, loads = Lines(), [], []
    for logger in (run_hooks.logger, notes.logger):
        logger.addHandler(log)
        logger.setLevel(logging.INFO)
    load, init = DriverCache.load, DriverCache.__init__

    def counted_load(self, key, layer):
        loads.append(layer)
        return load(self, key, layer)

    def remembered_init(self, placement):
        init(self, placement)
        made.append(weakref.ref(self))

    DriverCache.load, DriverCache.__init__ = counted_load, remembered_init
    layers = PATCHER.model.harmony.num_layers
    cfg = comfy.samplers.CFGGuider(PATCHER)
    cfg.set_conds(POSITIVE, NEGATIVE)
    for run_guider, masks, drivers in (
        (guider(), None, 2),
        (guider(), masks_of(NOTHING, ALL), 2),
        (cfg, masks_of(ALL, NOTHING), 1),
        (guider(), masks_of(slice(1), slice(4)), 2),
    ):
        log.lines.clear()
        loads.clear()
        cached = run(run_guider, noise_of(6), GIVEN, masks)
        assert len(log.lines) == 1, log.lines
        assert log.lines[0].startswith("Harmony: driver cache device: "), log.lines
        assert len(loads) == drivers * layers * (STEPS - 1), loads
        loads.clear()
        run_hooks.choose_placement = lambda *_: "off"
        recomputed = run(run_guider, noise_of(6), GIVEN, masks)
        run_hooks.choose_placement = lambda *_: "host"
        from_host = run(run_guider, noise_of(6), GIVEN, masks)
        assert len(loads) == drivers * layers * (STEPS - 1), loads
        run_hooks.choose_placement = choose
        same(cached, recomputed)
        same(from_host, recomputed)

    log.lines.clear()
    plain = guider(sync=scales(SyncCFG, 1.0, 1.0))
    run(plain, noise_of(6))
    assert log.lines == [], log.lines

    patched = PATCHER.clone()
    patched.set_model_attn1_patch(lambda *args: args)
    run(guider(patched), noise_of(6))
    unread, cache = log.lines
    assert unread.startswith("Harmony: another node set patches, which Harmony models do not read"), unread
    assert cache.startswith("Harmony: driver cache device: "), cache
    log.lines.clear()
    hooks = comfy.hooks.create_hook_lora({}, strength_model=1.0, strength_clip=0.0)
    hooked = [[tensor, {**extra, "hooks": hooks}] for tensor, extra in POSITIVE]
    run(guider(positive=hooked), noise_of(6))
    assert log.lines == ["Harmony: driver cache off: the conditioning has hooks"], log.lines

    failing = PATCHER.clone()
    failing.set_model_sampler_post_cfg_function(lambda _: (_ for _ in ()).throw(KeyError("stop")))
    try:
        run(guider(failing), noise_of(6))
    except KeyError:
        pass
    else:
        raise AssertionError("the run went on")
    gc.collect()
    assert made
    assert [cache for cache in made if cache() is not None] == []
    DriverCache.load, DriverCache.__init__ = load, init


def check_other_negatives(rows: list[int]) -> None:
    """Isolation and skipped layers as the command line's denoiser does them; a scale of 1 costs no pass."""
    extra = (
        scales(Isolated, 1.5, 1.5, stop=0.7),
        scales(SkipLayer, 2.0, 2.0, start=0.3, layers=(3,)),
    )
    for masks in (masks_of(NOTHING, NOTHING), masks_of(slice(1), NOTHING), masks_of(NOTHING, ALL)):
        rows.clear()
        ours = run(guider(extra=extra), noise_of(7), GIVEN, masks)
        without_extra = 3 if masks[1].any() else 2
        assert rows == [without_extra + 1, without_extra + 1, 1, without_extra, 1], rows
        expected = by_denoiser((SYNC, *extra), noise_of(7), masks)
        same(ours, expected, 1e-4)
        differ([ours[0]], [run(guider(), noise_of(7), GIVEN, masks)[0]])
    rows.clear()
    off = (scales(Isolated, 1.0, 1.0), scales(SkipLayer, 1.0, 1.0, layers=(3,)))
    same(run(guider(extra=off), noise_of(7)), run(guider(), noise_of(7)), 0)
    assert rows == [3] * 2 * STEPS, rows
    message = message_of(lambda: guider(extra=(scales(SkipLayer, 2.0, 2.0, layers=(1, 6)),)))
    assert message == "There is no layer 6 to skip: this model has layers 0 to 5.", message


def by_denoiser(guidances: tuple, noise: list[torch.Tensor], masks: list[torch.Tensor]) -> AVLatents:
    pipeline = HarmonyPipeline.from_file()
    features, _ = pipeline.text_encoder.encode(list(WORDS[:2]))
    sigmas = comfy.samplers.calculate_sigmas(PATCHER.get_model_object("model_sampling"), "simple", STEPS)
    generates = [bool(mask.any()) for mask in masks]
    from harmony_pack.harmony_core.text.transcripts import tokenize_transcript

    transcript, _ = tokenize_transcript(WORDS[2], pipeline.config.speech)
    video, audio = GIVEN
    denoiser = Denoiser(
        transformer=pipeline.transformer,
        plan=GuidancePlan(guidances, STEPS, *generates),
        positive=AVInput(
            VideoInput(video, clean_sigma(video), features[:1]),
            AudioInput(audio, clean_sigma(audio), features[1:], transcript[None]),
        ),
        negative=None,
        masks=AVLatents(*masks),
        anchors=AVLatents(*STILLS),
    )
    return euler(denoiser, AVLatents(*noise), sigmas, lambda *_: None)


def check_no_numbers() -> None:
    """A result that is not made of numbers is named, before anybody decodes it."""
    noise = noise_of(9)
    noise[1][..., 0] = float("nan")
    message = message_of(run, guider(), noise)
    assert "latents" in message, message
    assert "values are not numbers" in message, message


choose = run_hooks.choose_placement

if __name__ == "__main__":
    with torch.no_grad():
        rows = calls_of_the_model()
        check_one_batch_or_many(rows)
        check_batch_rows()
        check_given_parts_stay()
        check_no_numbers()
        check_samplers_keep_given_parts()
        check_driver_cache()
        check_other_negatives(rows)
    print("ok")
