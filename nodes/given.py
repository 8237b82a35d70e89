"""Nodes that give a clip its sound, its pictures or its first frame, so that only the rest is made."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..harmony_core.geometry import ClipGeometry, as_fraction
from ..harmony_core.media import AudioClip, VideoClip, fit_audio, fit_channels, fit_video
from .host.autoencoders import audio_latent_rate, encode_frames, encode_waveform, vae_config
from .host.av_latent import give, split_latent, time_axes
from .host.av_models import LatentKind, native_audio
from .host.clips import (
    NO_SOUND,
    check_audio_vae,
    clip_geometry,
    first_sound,
    fitted_picture,
    latent_kind,
    pixel_size,
    read_film,
    seconds_of,
)
from .host.given_media import AUDIO, VIDEO, with_media
from .host.latent_format import latent_format
from .host.notes import show
from .host.pixels import to_bytes, to_images
from .inputs import seconds_input

Noted = tuple[dict[str, Any], tuple[str, ...]]
NOT_CONNECTED = object()  # a link may bring None: core's sound of a film without any
NO_VIDEO = "There is no film in what is connected to the video input. Connect one"


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
            description="Gives the clip its sound, so that the video is made to it (lip sync, music); also latents "
            "of LTX-2 and MiniMax H3. Saves one pass per step: there is no sound to guide.",
            search_aliases=["audio to video", "lip sync", "audio driven", "talking head"],
            inputs=_inputs(
                "audio_vae",
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Comes out of Harmony Decode as it is. Not connected: the latent's own sound is kept, its "
                    "video made anew.",
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
        audio: Any = NOT_CONNECTED,
        start_seconds: float = 0.0,
        end_seconds: float = 0.0,
    ) -> io.NodeOutput:
        audio = _connected(audio, NO_SOUND)
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
            description="Gives the clip its pictures, so that the sound is made to them (foley); also latents of "
            "LTX-2 and MiniMax H3. Saves one pass per step: there is no video to guide.",
            search_aliases=[
                "video to audio",
                "continue video",
                "extend video",
                "foley",
                "video driven",
                "sound effects",
            ],
            inputs=[
                *_inputs(
                    "vae",
                    io.Video.Input(
                        "video",
                        optional=True,
                        tooltip="Comes out of Harmony Decode at its own size and rate. Not connected: the latent's "
                        "own video is kept, its sound made anew.",
                    ),
                    "video",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.001,
                    optional=True,
                    advanced=True,
                    tooltip="The clip's frames per second, for a latent of core's LTX-2 nodes, which does not say it. "
                    "0 = the latent says it.",
                ),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        vae: Any,
        video: Any = NOT_CONNECTED,
        start_seconds: float = 0.0,
        end_seconds: float = 0.0,
        fps: float = 0.0,
    ) -> io.NodeOutput:
        video = _connected(video, NO_VIDEO)
        latent, notes = give_video(latent, vae, video, start_seconds, end_seconds, fps)
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
    latent_kind(latent, vae)
    picture_1HWC, notes = fitted_picture(image, *pixel_size(split_latent(latent)[0], vae))
    return give(latent, video=encode_frames(vae, picture_1HWC), video_given=slice(0, 1)), tuple(notes)


def give_video(latent: dict[str, Any], vae: Any, video: Any, start_s: float, end_s: float, fps: float = 0.0) -> Noted:
    """The LATENT with a VIDEO's pictures from `start_s` to `end_s` (0 = its end); no VIDEO keeps the latent's own."""
    geometry = clip_geometry(latent, vae, fps)
    given = _latent_frames(geometry, latent_kind(latent, vae), start_s, _open_end(latent, end_s))
    if video is None:
        own = split_latent(latent)[0][:, :, given]
        config = vae_config(vae)
        _refuse_empty(own, latent_format(config).process_out(torch.zeros_like(own)) if config else 0, "video")
        return give(latent, video_given=given), ("the latent's own video is kept",)
    film = read_film(video, Fraction(geometry.num_frames) / geometry.fps)
    shown = VideoClip(to_bytes(film.images), film.fps, whole_s=film.duration_s)
    frames_FHWC, changes = fit_video(shown, geometry)
    latents = encode_frames(vae, to_images(frames_FHWC))
    latent = give(latent, video=latents[:, :, given], video_given=given)
    return with_media(latent, VIDEO, video, given), (*film.notes, *changes)


def give_audio(
    latent: dict[str, Any], audio_vae: Any, audio: dict[str, Any] | None, start_s: float, end_s: float
) -> Noted:
    """The LATENT with an AUDIO's sound from `start_s` to `end_s` (0 = its end); no AUDIO keeps the latent's own."""
    streams = split_latent(latent)
    axis = time_axes(*streams)[1]
    num_latents, rate = streams[1].shape[axis], audio_vae.audio_sample_rate
    check_audio_vae(streams[1], audio_vae)
    given = _audio_latents(num_latents, audio_latent_rate(audio_vae), start_s, _open_end(latent, end_s))
    if audio is None:
        _refuse_empty(streams[1].movedim(axis, 2)[:, :, given], 0, "sound")
        return give(latent, audio_given=given), ("the latent's own sound is kept",)
    samples_CN, notes = _fitted_sound(first_sound(audio), audio_vae, round(seconds_of(latent) * rate))
    latents = encode_waveform(audio_vae, torch.from_numpy(samples_CN)[None], num_latents)
    part = latents.narrow(axis, given.start, given.stop - given.start)
    return with_media(give(latent, audio=part, audio_given=given), AUDIO, audio, given), notes


def _fitted_sound(sound: AudioClip, audio_vae: Any, num_samples: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Samples [C, N] at the autoencoder's rate, stereo for those that hear it, and what was changed."""
    if native_audio(audio_vae) and len(sound.samples) == 2:
        return fit_channels(sound, num_samples, audio_vae.audio_sample_rate)
    samples_N, notes = fit_audio(sound, num_samples, audio_vae.audio_sample_rate)
    return samples_N[None], notes


def _connected(media: Any, nothing: str) -> Any:
    """None for an input without a link. Raises ValueError for a link that brings nothing."""
    if media is None:
        raise ValueError(f"{nothing}, or take the link away to keep the latent's own.")
    return None if media is NOT_CONNECTED else media


def _refuse_empty(own: Tensor, empty: Tensor | int, what: str) -> None:
    """Raises ValueError where a latent [B, C, T, ...] that is to be kept is still as it was laid out."""
    if bool(((own - empty).abs().transpose(1, 2).flatten(2).amax(2) == 0).any()):
        media = "audio" if what == "sound" else "video"
        raise ValueError(
            f"The latent has no {what} to keep, it is still empty: connect something to the {media} input, or take the "
            "latent of a clip that was made before."
        )


def _latent_frames(geometry: ClipGeometry, kind: LatentKind, start_s: float, end_s: float) -> slice:
    """Latent frames all of whose frames lie in the span."""
    length = Fraction(geometry.num_frames) / geometry.fps
    start, end = (time * geometry.fps for time in _span(start_s, end_s, length))
    spans = [kind.span(index) for index in range(geometry.num_latent_frames)]
    inside = [index for index, (first, last) in enumerate(spans) if first >= start and last <= end]
    return _some(inside, start_s, end_s, "video")


def _audio_latents(count: int, per_second: Fraction, start_s: float, end_s: float) -> slice:
    """Audio latents whose centre lies in the span."""
    start, end = _span(start_s, end_s, Fraction(count) / per_second)
    first, last = (max(0, ceil(time * per_second - Fraction(1, 2))) for time in (start, end))
    return _some(list(range(first, min(last, count))), start_s, end_s, "sound")


def _open_end(latent: dict[str, Any], end_s: float) -> float:
    """0 for the end of the clip that was asked for: its last latents reach a little further."""
    return 0.0 if as_fraction(end_s) >= seconds_of(latent) else end_s


def _span(start_s: float, end_s: float, length: Fraction) -> tuple[Fraction, Fraction]:
    return as_fraction(start_s), as_fraction(end_s) if end_s else length


def _some(indices: list[int], start_s: float, end_s: float, what: str) -> slice:
    if not indices:
        end = f"{end_s:g} s" if end_s else "the end"
        raise ValueError(f"From {start_s:g} s to {end} there is not one latent of {what}; widen the span.")
    return slice(indices[0], indices[-1] + 1)
