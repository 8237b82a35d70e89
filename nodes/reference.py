"""Nodes for a voice or timbre, and for a look, to follow."""

from __future__ import annotations

from typing import Any

import node_helpers
import torch
from comfy_api.latest import io
from torch import Tensor

from ..harmony_core.media import MediaError, fit_reference_audio, fit_reference_image
from ..harmony_core.quoting import quoted
from .host.autoencoders import audio_latent_rate, encode_frames, encode_waveform, vae_config
from .host.av_models import native_audio
from .host.clips import clip_geometry, first_sound
from .host.notes import show
from .host.pixels import ON_WHITE, is_transparent, to_bytes, to_images

IMAGE = "harmony_reference_image"  # latents [1,C,J,h,w] as the autoencoder makes them, J pictures


class HarmonyReferenceAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyReferenceAudio",
            display_name="Harmony Reference Audio",
            category="Harmony",
            description="A sample of the voice or the timbre that the sound should have.",
            search_aliases=["voice clone", "voice cloning", "speaker", "timbre", "style"],
            inputs=[
                io.Conditioning.Input("conditioning"),
                io.Vae.Input("audio_vae"),
                io.Audio.Input("audio", tooltip="What is said or heard in it does not matter, only how it sounds."),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.04,
                    tooltip="How much of its beginning is used, at most what there is. 0 = the checkpoint's own "
                    "(built-in model: 0.48, which takes 0.3 to 0.5; Harmony 5B: 2, which takes 1 to 3; UniAVGen: 10).",
                ),
                io.String.Input(
                    "transcript",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="What is said in it, in the language of Harmony Text Encode. UniAVGen needs it; other "
                    "models follow a voice without its words.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, conditioning: Any, audio_vae: Any, audio: dict[str, Any], seconds: float, transcript: str = ""
    ) -> io.NodeOutput:
        conditioning, notes = give_reference(conditioning, audio_vae, audio, seconds, transcript)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(conditioning)


class HarmonyReferenceImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyReferenceImage",
            display_name="Harmony Reference Image",
            category="Harmony",
            description="Pictures of somebody or something that should be seen in the clip. For DreamID-Omni.",
            search_aliases=["identity", "subject", "face reference", "character", "DreamID-Omni"],
            inputs=[
                io.Conditioning.Input("conditioning"),
                io.Vae.Input("vae"),
                io.Latent.Input("latent", tooltip="From Harmony Clip: each picture is fitted to its size, on white."),
                io.Image.Input(
                    "images",
                    tooltip="Each picture of the batch is a reference. More: one of these nodes after another.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, conditioning: Any, vae: Any, latent: dict[str, Any], images: Any) -> io.NodeOutput:
        conditioning, notes = give_reference_images(conditioning, vae, latent, images)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(conditioning)


def give_reference(
    conditioning: Any, audio_vae: Any, audio: dict[str, Any], seconds: float, transcript: str = ""
) -> tuple[Any, tuple[str, ...]]:
    """CONDITIONING with the latents of the first `seconds` (0 = the checkpoint's own) of a sound to sound like, and
    with what is said in it, where the model reads that.

    Raises:
        ValueError: no sound, or less than one audio latent; words that the model lacks, or does not read.
    """
    rate, config = audio_vae.audio_sample_rate, vae_config(audio_vae)
    unit = int(rate / audio_latent_rate(audio_vae))
    if config is None or native_audio(audio_vae):
        raise ValueError("The audio VAE belongs to a model that follows no reference; use that of a Harmony model.")
    if config.reads_transcript_across != bool(transcript.strip()):
        raise ValueError(
            "Harmony Reference Audio has no transcript, but this model follows a voice by its words; write them."
            if config.reads_transcript_across
            else f"Harmony Reference Audio has the transcript {quoted(transcript)}, but this model follows a voice "
            "without its words; empty it."
        )
    try:
        samples_N, notes = fit_reference_audio(first_sound(audio), seconds or config.reference_seconds, unit, rate)
    except MediaError as error:
        raise ValueError(str(error)) from error
    silence = round(config.reference_silence * rate) // unit
    latents = encode_waveform(audio_vae, torch.from_numpy(samples_N)[None, None], len(samples_N) // unit + silence)
    reference = {"harmony_reference_audio": latents, "harmony_reference_transcript": transcript}
    return node_helpers.conditioning_set_values(conditioning, reference), notes


def give_reference_images(
    conditioning: Any, vae: Any, latent: dict[str, Any], images_JHWC: Tensor
) -> tuple[Any, tuple[str, ...]]:
    """CONDITIONING with the latents of every picture, after those that it has, and what was changed about them.

    Raises:
        ValueError: as `clip_geometry`.
    """
    geometry = clip_geometry(latent, vae)
    latents, notes = [], []
    for image_HWC in images_JHWC:
        fitted, said = fit_reference_image(to_bytes(image_HWC), geometry.height, geometry.width)
        latents.append(encode_frames(vae, to_images(fitted)[None]))
        notes += [*said, f"reference image: {ON_WHITE}"] if is_transparent(image_HWC) else said
    given = []
    for text, extra in conditioning:
        before = [extra[IMAGE]] if IMAGE in extra else []
        given.append([text, {**extra, IMAGE: torch.cat((*before, *latents), dim=2)}])
    return given, tuple(dict.fromkeys(notes))
