"""Nodes that turn latents into pictures and sound."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..harmony_core.pipelines.final import GIVEN, ORIGINAL
from .host.decoding import decode_clip
from .host.notes import warn
from .inputs import pixels_input, seconds_input


class HarmonyDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonyDecode",
            display_name="Harmony Decode",
            category="Harmony",
            description="Pictures, sound and both as a video, exactly as long as Harmony Clip was asked for; a given "
            "film or sound comes out as it was. A batch comes out as a list, one clip each.",
            search_aliases=["vae decode audio video", "harmony vae decode", "latent to video"],
            inputs=[
                io.Latent.Input("latent"),
                io.Vae.Input("vae"),
                io.Vae.Input("audio_vae"),
                seconds_input(
                    "chunk_seconds",
                    "Decoded at once; 0 = all of it. Needs less memory. The built-in model's pictures stay the same to "
                    "the bit; Wan2.2's autoencoder goes latent by latent anyway; other pictures, and MMAudio's sound, "
                    "are blended.",
                    60.0,
                    optional=True,
                    advanced=True,
                ),
                pixels_input(
                    "tile_size",
                    "Side of the tiles that pictures are decoded in; 0 = whole pictures. Needs least memory; the tiles "
                    "overlap by a quarter and are blended.",
                    optional=True,
                    advanced=True,
                ),
                io.Combo.Input(
                    "given",
                    options=list(GIVEN),
                    default=ORIGINAL,
                    optional=True,
                    advanced=True,
                    tooltip="original: a given film or sound comes out as it was connected, a given part takes its "
                    "place in what was made. model: as the model has it, through its autoencoders.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", is_output_list=True),
                io.Audio.Output(display_name="audio", is_output_list=True),
                io.Video.Output(display_name="video", is_output_list=True),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        vae: Any,
        audio_vae: Any,
        chunk_seconds: float = 0.0,
        tile_size: int = 0,
        given: str = ORIGINAL,
    ) -> io.NodeOutput:
        clips, warnings = decode_clip(latent, vae, audio_vae, chunk_seconds, tile_size, given)
        warn(cls.hidden.unique_id, warnings)
        return io.NodeOutput(
            [clip.images for clip in clips], [clip.audio for clip in clips], [clip.video() for clip in clips]
        )
