"""The node that shows what sound and picture see in each other."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..harmony_core.sync.attention_map import DIRECTIONS, draw_sync_map
from .host.notes import show
from .host.sync_map import map_of_latent
from .inputs import layer_list


class HarmonySyncMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySyncMap",
            display_name="Harmony Sync Map",
            category="Harmony",
            description="Where the sound is looking: the model's attention between sound and picture, drawn over the "
            "frames of a finished clip. Costs one model pass.",
            search_aliases=["attention map", "heat map", "where is the sound", "saliency"],
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive", tooltip="What the clip was made with."),
                io.Latent.Input("latent", tooltip="The finished clip; of a batch, the first."),
                io.Image.Input("images", tooltip="The same clip's pictures, from Harmony Decode."),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default=DIRECTIONS[0],
                    tooltip="v2a: which patches the sound looks at. a2v: which patches the sound changes most.",
                ),
                io.Float.Input(
                    "noise",
                    default=0.6,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Noise put onto the clip first. The link is clearest while much is still open.",
                ),
                io.String.Input(
                    "layers",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Layers to average, counted from 0: 3 or 3, 4. Empty = the middle third.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, optional=True, advanced=True, tooltip="The noise."
                ),
            ],
            outputs=[io.Image.Output(display_name="map", tooltip="As many pictures as came in.")],
            is_input_list=True,  # Harmony Decode gives a batch as a list: the first clip's pictures are in front
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, **inputs: list[Any]) -> io.NodeOutput:
        return cls._draw(**{name: values[0] for name, values in inputs.items()})

    @classmethod
    def _draw(
        cls,
        model: Any,
        positive: Any,
        latent: dict[str, Any],
        images: torch.Tensor,
        direction: str,
        noise: float = 0.6,
        layers: str = "",
        seed: int = 0,
    ) -> io.NodeOutput:
        chosen = layer_list("layers", layers) if layers.strip() else ()
        strength, stride = map_of_latent(model, positive, latent, direction, chosen, noise, seed)
        frames = (images[..., :3] * 255).round().clamp(0, 255).byte().cpu().numpy()
        drawn = torch.from_numpy(draw_sync_map(frames, strength, stride)).float() / 255
        measure = "even attention" if direction == "v2a" else "the median patch"
        show(cls.hidden.unique_id, [f"brightest: {float(strength.max()):.1f} times {measure}"])
        return io.NodeOutput(drawn)
