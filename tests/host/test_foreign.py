"""What other models' nodes put beside a Harmony clip: it works, or one sentence says why not, before sampling."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch

from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import BUILT_IN, Prompt

from .test_sampler_node import result

pytestmark = pytest.mark.host

WORDS = {"video_caption": "a blue ball bounces on metal", "audio_caption": "a ball hits metal"}
STEPS, SEED = 4, 3


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def graph(**changes: dict[str, Any]) -> Prompt:
    """A short clip by Harmony Sampler, under `sample`, with other nodes put in."""
    return {
        "load": node("HarmonyCheckpointLoader", checkpoint=BUILT_IN),
        "text": node("HarmonyTextEncode", clip=["load", 1], **WORDS),
        "none": node("HarmonyTextEncode", clip=["load", 1], video_caption="", audio_caption=""),
        "clip": node("HarmonyClip", **coders(), seconds=0.64, fps=12.5, width=64, height=64),
        "sample": sampler(),
        **changes,
    }


def coders() -> dict[str, Any]:
    return {"vae": ["load", 2], "audio_vae": ["load", 3]}


def sampler(**changes: Any) -> dict[str, Any]:
    inputs = {
        "model": ["load", 0],
        "positive": ["text", 0],
        "negative": ["none", 0],
        "latent": ["clip", 0],
        "anchors": ["clip", 1],
        "seed": SEED,
        "steps": STEPS,
        "shift": 0.0,
        "video_sync_scale": 1.5,
        "audio_sync_scale": 1.5,
        "video_text_scale": 2.0,
        "audio_text_scale": 3.0,
    }
    return node("HarmonySampler", **{name: value for name, value in (inputs | changes).items() if value is not None})


def core(**changes: Any) -> dict[str, Any]:
    """Core's KSampler in its place."""
    inputs = {"model": ["load", 0], "positive": ["text", 0], "negative": ["none", 0], "latent_image": ["clip", 0]}
    settings = {
        "seed": SEED,
        "steps": STEPS,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    }
    return node("KSampler", **(inputs | settings | changes))


def run(server: ComfyServer, prompt: Prompt, name: str = "never") -> Run:
    return server.run({**prompt, "probe": node("HarmonyProbeLatent", latent=["sample", 0], name=name)})


def sampled(server: ComfyServer, prompt: Prompt, name: str) -> dict[str, torch.Tensor]:
    done = run(server, prompt, name)
    assert done.error is None, done.error
    return result(server, name)


def refusal(server: ComfyServer, prompt: Prompt) -> str:
    """What a graph is refused with, and that it is one sentence under a plain name."""
    error = run(server, prompt).error
    assert error["exception_type"] == "ValueError", error
    return error["exception_message"].strip()


MASK = node("SolidMask", value=1.0, width=64, height=64)
SMALL = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
WHOLE = {"width": 1.0, "height": 1.0, "x": 0.0, "y": 0.0, "strength": 1.0}
CONDITIONINGS = {
    "area": node("ConditioningSetArea", conditioning=["text", 0], **SMALL),
    "share": node("ConditioningSetAreaPercentage", conditioning=["text", 0], **WHOLE),
    "mask": node(
        "ConditioningSetMask", conditioning=["text", 0], mask=["picture", 0], strength=1.0, set_cond_area="default"
    ),
}
DISCRETE = node("ModelSamplingDiscrete", model=["load", 0], sampling="v_prediction", zsnr=False)
MODELS = {
    "ModelSamplingDiscrete": (DISCRETE, "not flow matching; take it out"),
    "SelfAttentionGuidance": (
        node("SelfAttentionGuidance", model=["load", 0], scale=0.5, blur_sigma=2.0),
        "SelfAttentionGuidance guides pictures of other models",
    ),
    "RenormCFG": (
        node("RenormCFG", model=["load", 0], cfg_trunc=100.0, renorm_cfg=1.0),
        "RenormCFG guides pictures of other models",
    ),
}
LATENTS = {
    "EmptyLatentImage": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "EmptyLTXVLatentVideo": node("EmptyLTXVLatentVideo", width=64, height=64, length=9, batch_size=1),
}


@pytest.mark.parametrize("which", CONDITIONINGS)
@pytest.mark.parametrize("make", [sampler, core])
def test_a_part_of_the_picture(server: ComfyServer, which: str, make: Any) -> None:
    prompt = graph(picture=MASK, part=CONDITIONINGS[which], sample=make(positive=["part", 0]))
    said = refusal(server, prompt)
    assert said.startswith("The positive conditioning is for a part of the picture (ConditioningSet"), said


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("make", [sampler, core])
def test_another_kind_of_model(server: ComfyServer, which: str, make: Any) -> None:
    other, expected = MODELS[which]
    assert expected in refusal(server, graph(other=other, sample=make(model=["other", 0])))


@pytest.mark.parametrize("which", LATENTS)
def test_another_models_latent(server: ComfyServer, which: str) -> None:
    said = refusal(server, graph(other=LATENTS[which], sample=core(latent_image=["other", 0])))
    assert said.startswith("This model makes video and sound together, but the latent holds only one of them"), said


def test_another_models_video_and_sound(server: ComfyServer) -> None:
    other = {
        "picture": LATENTS["EmptyLTXVLatentVideo"],
        "split": node("LTXVSeparateAVLatent", av_latent=["clip", 0]),
        "both": node("LTXVConcatAVLatent", video_latent=["picture", 0], audio_latent=["split", 1]),
    }
    said = refusal(server, graph(**other, sample=core(latent_image=["both", 0])))
    assert said.startswith("The latent is another model's: its video and sound have 128 and 20 channels"), said


def test_swapped_autoencoders(server: ComfyServer) -> None:
    swapped = {"vae": ["load", 3], "audio_vae": ["load", 2]}
    clip = node("HarmonyClip", **swapped, seconds=0.64, fps=12.5, width=64, height=64)
    decode = {"sample": node("HarmonyDecode", latent=["clip", 0], **swapped)}
    for prompt in (graph(clip=clip), graph(sample=sampler(latent=None, anchors=None, **swapped))):
        assert refusal(server, prompt).endswith("(are the two swapped?).")
    prompt = graph(**decode, save=node("SaveVideo", video=["sample", 2], filename_prefix="never", **SAVED))
    assert server.run(prompt).error["exception_message"].strip().endswith("(are the two swapped?).")


SAVED = {"format": "auto", "codec": "auto"}


def test_flux_schedule_is_the_same_shift(server: ComfyServer) -> None:
    """ModelSamplingFlux shifts by exp(shift)."""
    flux = node("ModelSamplingFlux", model=["load", 0], max_shift=log(4.5), base_shift=log(4.5), width=64, height=64)
    sd3 = node("ModelSamplingSD3", model=["load", 0], shift=4.5)
    one, other = (
        sampled(server, graph(other=each, sample=core(model=["other", 0])), f"schedule{index}")
        for index, each in enumerate((flux, sd3))
    )
    for stream in ("video", "audio"):
        torch.testing.assert_close(one[stream], other[stream], atol=2e-3, rtol=0)


def test_two_halves_are_the_whole(server: ComfyServer) -> None:
    settings = {"model": ["load", 0], "positive": ["text", 0], "negative": ["none", 0], "noise_seed": SEED}
    settings |= {"steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
    first = node(
        "KSamplerAdvanced",
        **settings,
        latent_image=["clip", 0],
        add_noise="enable",
        start_at_step=0,
        end_at_step=2,
        return_with_leftover_noise="enable",
    )
    second = node(
        "KSamplerAdvanced",
        **settings,
        latent_image=["first", 0],
        add_noise="disable",
        start_at_step=2,
        end_at_step=10000,
        return_with_leftover_noise="disable",
    )
    halves = sampled(server, graph(first=first, sample=second), "halves")
    whole = sampled(server, graph(sample=core()), "whole")
    for stream in ("video", "audio"):
        torch.testing.assert_close(halves[stream], whole[stream], atol=1e-4, rtol=0)


@pytest.mark.parametrize("make", [sampler, core])
def test_rescaled_guidance(server: ComfyServer, make: Any) -> None:
    """Off at 0, and something else above."""
    plain = sampled(server, graph(sample=make()), f"plain_{make.__name__}")
    for multiplier in (0.0, 0.7):
        rescale = node("RescaleCFG", model=["load", 0], multiplier=multiplier)
        out = sampled(
            server, graph(other=rescale, sample=make(model=["other", 0])), f"rescale{multiplier}_{make.__name__}"
        )
        for stream in ("video", "audio"):
            difference = float((out[stream] - plain[stream]).abs().max())
            assert difference < 1e-3 if multiplier == 0 else difference > 1e-2, (stream, multiplier, difference)


def test_what_does_nothing_is_said(server: ComfyServer) -> None:
    other = {
        "slg": node(
            "SkipLayerGuidanceDiT",
            model=["load", 0],
            double_layers="2",
            single_layers="2",
            scale=3.0,
            start_percent=0.0,
            end_percent=1.0,
            rescaling_scale=0.0,
        ),
        "rate": node("LTXVConditioning", positive=["text", 0], negative=["none", 0], frame_rate=25.0),
    }
    plain = sampled(server, graph(), "plain")
    out = sampled(server, graph(**other, sample=sampler(model=["slg", 0], positive=["rate", 0])), "said")
    for stream in ("video", "audio"):
        torch.testing.assert_close(out[stream], plain[stream], atol=1e-4, rtol=0)
    assert "another node set SkipLayerGuidanceDiT, which Harmony models do not read" in server.log
    assert "positive has LTX-2's frame rate; set fps in Harmony Clip." in server.log


def test_guidance_without_a_step(server: ComfyServer) -> None:
    """Nothing between two equal shares is refused at the node; what rounds to nothing is said."""
    guide = {"model": ["load", 0], "positive": ["text", 0], "negative": ["none", 0], "anchors": ["clip", 1]}
    guide |= {"video_sync_scale": 1.5, "audio_sync_scale": 1.5, "video_text_scale": 1.0, "audio_text_scale": 1.0}
    for start, stop in ((0.5, 0.5), (0.0, 0.05)):
        sample = {
            "guider": node("HarmonySyncCFG", **guide, sync_start=start, sync_stop=stop),
            "noise": node("RandomNoise", noise_seed=SEED),
            "euler": node("KSamplerSelect", sampler_name="euler"),
            "steps": node("BasicScheduler", model=["load", 0], scheduler="simple", steps=STEPS, denoise=1.0),
            "sample": node(
                "SamplerCustomAdvanced",
                noise=["noise", 0],
                guider=["guider", 0],
                sampler=["euler", 0],
                sigmas=["steps", 0],
                latent_image=["clip", 0],
            ),
        }
        if start == stop:
            assert refusal(server, graph(**sample)).startswith("sync_start and sync_stop are both 0.5, which leaves no")
        else:
            sampled(server, graph(**sample), "no_step")
            assert "SyncCFG from 0 to 0.05 of 4 steps is not one step, so it changes nothing" in server.log


def test_errors_have_a_plain_name(server: ComfyServer) -> None:
    """The page shows another class with the path of its file, which cuts the reason off."""
    folder = server.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "junk.safetensors").write_bytes(b"this is no checkpoint")
    load = node("HarmonyCheckpointLoader", checkpoint="junk.safetensors")
    assert "junk.safetensors" in refusal(server, graph(load=load))
