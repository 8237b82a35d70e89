"""The node that samples with everything on it."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..harmony_core.diffusion.guidance import SyncCFG, TextCFG
from .host.av_latent import split_latent
from .host.av_models import av_model
from .host.clips import seconds_of
from .host.decoding import decode_clip
from .host.guidances import own_negative
from .host.guider import make_guider
from .host.layout import anchors_of, empty_clip
from .host.model import HarmonyModel
from .host.run_hooks import say, with_shift
from .host.schedule import own_sigmas
from .inputs import BUILT_IN, negative_input, negative_scales, sync_inputs, text_inputs

SAMPLER = "euler"


class HarmonySampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySampler",
            display_name="Harmony Sampler",
            category="Harmony",
            description="Makes the video and the sound: guider, noise, schedule and sampler in one node, for Harmony, "
            "Ovi, LTX-2 and MiniMax H3. With both autoencoders connected it also lays out the clip and decodes it. Use "
            "Harmony SyncCFG with core's sampling nodes for everything else.",
            search_aliases=[
                "text to video",
                "text to audio video",
                "video with sound",
                "ksampler",
                "beginner",
                "all in one",
                "文生视频",
                "有声视频",
            ],
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="From Harmony Clip, or with given media put into it. Not connected: an empty clip of the "
                    "checkpoint's own length and size, which needs both autoencoders.",
                ),
                io.Latent.Input(
                    "anchors",
                    optional=True,
                    tooltip="From Harmony Clip: a still picture and silence. Not connected: made here, which needs "
                    "both autoencoders.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed is another clip.",
                ),
                io.Int.Input(
                    "steps",
                    default=BUILT_IN.steps,
                    min=1,
                    max=1000,
                    tooltip="More steps take longer and add detail (built-in model: "
                    f"{BUILT_IN.steps}, Harmony 5B: 40).",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="Higher spends more of the steps on the layout and fewer on detail. 0 = the model's own "
                    f"(built-in model: {BUILT_IN.shift:g}, Harmony 5B: 5).",
                ),
                *sync_inputs(),
                *text_inputs(),
                negative_input(),
                io.Vae.Input("vae", optional=True, tooltip="Lays out the clip, and decodes it into the video output."),
                io.Vae.Input("audio_vae", optional=True, tooltip="The same for the sound."),
                *negative_scales(),
            ],
            outputs=[
                io.Latent.Output(),
                io.Video.Output(
                    display_name="video",
                    is_output_list=True,
                    tooltip="Picture and sound, a clip each of a batch; needs both autoencoders.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        seed: int,
        steps: int,
        shift: float,
        video_sync_scale: float,
        audio_sync_scale: float,
        video_text_scale: float,
        audio_text_scale: float,
        latent: dict[str, Any] | None = None,
        anchors: dict[str, Any] | None = None,
        negative: Any = None,
        vae: Any = None,
        audio_vae: Any = None,
        video_negative_scale: float = 1.0,
        audio_negative_scale: float = 1.0,
    ) -> io.NodeOutput:
        check_shift(model, shift)
        latent, anchors, notes = laid_out(latent, anchors, vae, audio_vae, model, positive)
        sync = SyncCFG(video_scale=video_sync_scale, audio_scale=audio_sync_scale)
        text = TextCFG(video_scale=video_text_scale, audio_scale=audio_text_scale)
        extra = own_negative(model.model, video_negative_scale, audio_negative_scale)
        guider, more = make_guider(with_shift(model, shift), positive, negative, anchors, sync, text, extra)
        say([*notes, *more])
        out = sample_latent(guider, latent, seed, steps)
        videos, warnings = videos_of(out, vae, audio_vae)
        say(warnings)
        return io.NodeOutput(out, videos)


class HarmonyScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyScheduler",
            display_name="Harmony Scheduler",
            category="Harmony",
            description="The noise levels that Harmony Sampler uses, for core's sampling nodes: UniAVGen's own, which "
            "none of core's schedulers makes. For every other model they are those of BasicScheduler with simple.",
            search_aliases=["uniavgen", "sigmas", "schedule", "basic scheduler"],
            inputs=[
                io.Model.Input("model", tooltip="With its shift: a node that changes it goes before this one."),
                io.Int.Input("steps", default=BUILT_IN.steps, min=1, max=1000, tooltip="UniAVGen: 50."),
            ],
            outputs=[io.Sigmas.Output()],
        )

    @classmethod
    def execute(cls, model: Any, steps: int) -> io.NodeOutput:
        return io.NodeOutput(own_sigmas(model, steps))


def laid_out(
    latent: dict[str, Any] | None, anchors: dict[str, Any] | None, vae: Any, audio_vae: Any, model: Any, positive: Any
) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """The LATENT to sample and its anchors, made where they are None, and what a person should know about them.

    Raises:
        ValueError: something is to be made, but an autoencoder is missing; or as split_latent and seconds_of do.
    """
    if latent is not None:
        split_latent(latent)
        if "harmony_clip" in latent:
            seconds_of(latent)  # refuses a latent of another length than was laid out
    missing = [name for name, each in {"latent": latent, "anchors": anchors}.items() if each is None]
    if missing and (vae is None or audio_vae is None):
        raise ValueError(
            f"Without {' and '.join(missing)} the sampler makes them itself and needs vae and audio_vae; connect both "
            "(Harmony Checkpoint Loader has them), or Harmony Clip's latent and anchors."
        )
    if latent is None:
        latent, own, notes = empty_clip(vae, audio_vae, 0, 0, 0, 0, model=model)
        return latent, anchors or own, notes
    if anchors is None:
        anchors, notes = anchors_of(latent, vae, audio_vae, None, positive)
        return latent, anchors, notes
    return latent, anchors, ()


def videos_of(latent: dict[str, Any], vae: Any, audio_vae: Any) -> tuple[Any, list[str]]:
    """A VIDEO for each clip of a LATENT, and warnings about them. What cannot be decoded stops who asks for it."""
    if vae is None or audio_vae is None:
        return ExecutionBlocker(
            "The video output of Harmony Sampler needs both autoencoders; connect its vae and audio_vae."
        ), []
    if "harmony_clip" not in latent:
        return ExecutionBlocker(
            "The latent does not say how long its clip is, so Harmony Sampler has no video of it; start from Harmony "
            "Clip, or decode its latent with VAEDecode and VAEDecodeAudio."
        ), []
    clips, warnings = decode_clip(latent, vae, audio_vae)
    return [clip.video() for clip in clips], warnings


def check_shift(patcher: ModelPatcher, shift: float) -> None:
    """Raises ValueError for a shift that would replace the schedule of one of ComfyUI's own models."""
    if shift and not isinstance(patcher.model, HarmonyModel):
        raise ValueError(
            f"The shift is {shift:g}, but {av_model(patcher.model).title} keeps its own schedule (H3 has one for each "
            "stream); set shift to 0, or change it with core's node for this model before Harmony Sampler."
        )


def sample_latent(guider: comfy.samplers.CFGGuider, latent: dict[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """A copy of a LATENT with its generated parts made, showing progress and previews as core's samplers do."""
    patcher = guider.model_patcher
    samples = latent["samples"]
    out = guider.sample(
        comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")),
        samples,
        comfy.samplers.sampler_object(SAMPLER),
        own_sigmas(patcher, steps),
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(patcher, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {**latent, "samples": out.to(comfy.model_management.intermediate_device())}
