"""Nodes that give a clip its sound, its pictures or its first frame, so that only the rest is made."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.given import give_audio, give_first_frame, give_video
from .host.notes import show
from .inputs import seconds_input


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
