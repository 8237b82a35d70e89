"""Nodes that give a clip its sound, its pictures or its first frame, so that only the rest is made."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..harmony_core.geometry import ClipGeometry, as_fraction, latent_frame_span
from ..harmony_core.media import VideoClip, fit_audio, fit_video
from .host.autoencoders import audio_latent_rate, encode_frames, encode_waveform, vae_config
from .host.av_latent import give, split_latent
from .host.clips import asked_of, clip_geometry, first_sound, fitted_picture
from .host.notes import show
from .host.pixels import to_bytes, to_images
from .inputs import seconds_input

Noted = tuple[dict[str, Any], tuple[str, ...]]


def _inputs(vae: str, media: io.Input, what: str) -> list[io.Input]:
    """What both kinds of given media ask for."""
    start = f"The {what} is given from here on; what lies before is made."
    end = f"The {what} is given up to here; what follows is made. 0 = to the end."
    return [
        io.Latent.Input("latent"),
        io.Vae.Input(vae),
        media,
        seconds_input("start_seconds", start, optional=True, advanced=True),
        seconds_input("end_seconds", end, optional=True, advanced=True),
    ]


class HarmonyGivenAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyGivenAudio",
            display_name="Harmony Given Audio",
            category="Harmony",
            description="Gives the clip its sound, so that the video is made to it (lip sync, music). "
            "Saves one pass per step: there is no sound to guide.",
            search_aliases=["audio to video", "lip sync", "audio driven", "talking head"],
            inputs=_inputs(
                "audio_vae",
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Not connected: the latent's own sound is kept, its video made anew.",
                ),
                "sound",
            ),
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        audio_vae: Any,
        audio: dict[str, Any] | None = None,
        start_seconds: float = 0.0,
        end_seconds: float = 0.0,
    ) -> io.NodeOutput:
        latent, notes = give_audio(latent, audio_vae, audio, start_seconds, end_seconds)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(latent)


class HarmonyGivenVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyGivenVideo",
            display_name="Harmony Given Video",
            category="Harmony",
            description="Gives the clip its pictures, so that the sound is made to them (foley). "
            "Saves one pass per step: there is no video to guide.",
            search_aliases=["video to audio", "foley", "video driven", "sound effects"],
            inputs=_inputs(
                "vae",
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="Not connected: the latent's own video is kept, its sound made anew.",
                ),
                "video",
            ),
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        vae: Any,
        video: Any = None,
        start_seconds: float = 0.0,
        end_seconds: float = 0.0,
    ) -> io.NodeOutput:
        latent, notes = give_video(latent, vae, video, start_seconds, end_seconds)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(latent)


class HarmonyFirstFrame(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyFirstFrame",
            display_name="Harmony First Frame",
            category="Harmony",
            description="Gives the clip its first frame. Harmony Clip's own input does the same and makes the still "
            "anchor of that picture too, which is what SyncCFG wants.",
            search_aliases=["image to video", "start image"],
            inputs=[io.Latent.Input("latent"), io.Vae.Input("vae"), io.Image.Input("image")],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], vae: Any, image: Any) -> io.NodeOutput:
        latent, notes = give_first_frame(latent, vae, image)
        show(cls.hidden.unique_id, notes)
        return io.NodeOutput(latent)


def give_first_frame(latent: dict[str, Any], vae: Any, image: Tensor) -> Noted:
    """The LATENT whose first frame is a picture, and what was changed about it."""
    geometry = clip_geometry(latent, vae)
    picture_1HWC, notes = fitted_picture(image, geometry.height, geometry.width)
    return give(latent, video=encode_frames(vae, picture_1HWC), video_given=slice(0, 1)), tuple(notes)


def give_video(latent: dict[str, Any], vae: Any, video: Any, start_s: float, end_s: float) -> Noted:
    """The LATENT with a VIDEO's pictures from `start_s` to `end_s` (0 = its end); no VIDEO keeps the latent's own."""
    geometry = clip_geometry(latent, vae)
    given = _latent_frames(geometry, vae_config(vae).temporal_stride, start_s, _open_end(latent, end_s))
    if video is None:
        return give(latent, video_given=given), ("the latent's own video is kept",)
    components = video.get_components()
    frames_FHWC, notes = fit_video(VideoClip(to_bytes(components.images), Fraction(components.frame_rate)), geometry)
    latents = encode_frames(vae, to_images(frames_FHWC))
    return give(latent, video=latents[:, :, given], video_given=given), notes


def give_audio(
    latent: dict[str, Any], audio_vae: Any, audio: dict[str, Any] | None, start_s: float, end_s: float
) -> Noted:
    """The LATENT with an AUDIO's sound from `start_s` to `end_s` (0 = its end); no AUDIO keeps the latent's own."""
    asked = asked_of(latent)
    num_latents = split_latent(latent)[1].shape[2]
    rate = audio_vae.audio_sample_rate
    given = _audio_latents(num_latents, audio_latent_rate(audio_vae), start_s, _open_end(latent, end_s))
    if audio is None:
        return give(latent, audio_given=given), ("the latent's own sound is kept",)
    samples_N, notes = fit_audio(first_sound(audio), round(Fraction(asked["num_frames"]) / asked["fps"] * rate), rate)
    latents = encode_waveform(audio_vae, torch.from_numpy(samples_N)[None, None], num_latents)
    return give(latent, audio=latents[:, :, given], audio_given=given), notes


def _latent_frames(geometry: ClipGeometry, stride: int, start_s: float, end_s: float) -> slice:
    """Latent frames all of whose frames lie in the span."""
    start, end = _span(start_s, end_s, Fraction(geometry.num_frames) / geometry.fps)
    spans = [latent_frame_span(index, geometry.fps, stride) for index in range(geometry.num_latent_frames)]
    inside = [index for index, (first, last) in enumerate(spans) if first >= start and last <= end]
    return _some(inside, start_s, end_s, "video")


def _audio_latents(count: int, per_second: Fraction, start_s: float, end_s: float) -> slice:
    """Audio latents whose centre lies in the span."""
    start, end = _span(start_s, end_s, Fraction(count) / per_second)
    first, last = (max(0, ceil(time * per_second - Fraction(1, 2))) for time in (start, end))
    return _some(list(range(first, min(last, count))), start_s, end_s, "sound")


def _open_end(latent: dict[str, Any], end_s: float) -> float:
    """0 for the end of the clip that was asked for: its last latents reach a little further."""
    asked = asked_of(latent)
    return 0.0 if as_fraction(end_s) >= Fraction(asked["num_frames"]) / asked["fps"] else end_s


def _span(start_s: float, end_s: float, length: Fraction) -> tuple[Fraction, Fraction]:
    return as_fraction(start_s), as_fraction(end_s) if end_s else length


def _some(indices: list[int], start_s: float, end_s: float, what: str) -> slice:
    if not indices:
        end = f"{end_s:g} s" if end_s else "the end"
        raise ValueError(f"From {start_s:g} s to {end} there is not one latent of {what}; widen the span.")
    return slice(indices[0], indices[-1] + 1)
