"""The node that shows what sound and picture see in each other."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..harmony_core.sync.attention_map import DIRECTIONS, SyncMap, draw_sync_map, middle_layers
from .host.av_latent import nest, split_latent
from .host.av_models import causal_frames
from .host.model import HarmonyModel
from .host.notes import show
from .host.pixels import to_bytes, to_images
from .host.run_hooks import prepare_runs
from .host.windows import HANDLER
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
        drawn = to_images(draw_sync_map(to_bytes(images), strength, stride, _num_frames(latent, len(images))))
        measure = "even attention" if direction == "v2a" else "the median patch"
        show(cls.hidden.unique_id, [f"brightest: {float(strength.max()):.1f} times {measure}"])
        return io.NodeOutput(drawn)


def _num_frames(latent: dict[str, Any], count: int) -> int:
    """How many of the clip's frames `count` pictures stand for: a given film has its own rate."""
    if "harmony_clip" not in latent:
        return count
    asked = latent["harmony_clip"]
    made = causal_frames(asked["temporal_stride"])(split_latent(latent)[0].shape[2])
    return count if asked["num_frames"] <= count <= made else asked["num_frames"]


def map_of_latent(
    patcher: ModelPatcher,
    positive: Any,
    latent: dict[str, Any],
    direction: str,
    layers: tuple[int, ...],
    noise: float,
    seed: int,
) -> tuple[Tensor, int]:
    """Strength [T_v, h, w] for the first clip with `noise` (0..1) put onto it, and the temporal stride.

    No `layers` are the middle third. Raises ValueError for another model, for a conditioning that leaves this noise
    out, and as SyncMap does.
    """
    if not isinstance(patcher.model, HarmonyModel):
        raise ValueError(f"A sync map needs a Harmony model, not {type(patcher.model).__name__}.")
    config = patcher.model.harmony
    patcher = patcher.clone()
    patcher.model_options.pop(HANDLER, None)  # one pass sees the whole clip
    video, audio = (part[:1] for part in split_latent(latent))
    clip = nest(video, audio)
    guider = comfy.samplers.CFGGuider(prepare_runs(patcher))
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)
    sampler = comfy.samplers.sampler_object("euler")
    with SyncMap(patcher.model.diffusion_model, direction, layers or middle_layers(config.num_layers)) as seen:
        guider.sample(comfy.sample.prepare_noise(clip, seed), clip, sampler, torch.tensor([noise, 0.0]), seed=seed)
    if seen.empty:
        raise ValueError(
            f"The conditioning is not for a noise of {noise:g} (its timestep range leaves that out), so there "
            "is nothing to see; set another noise, or take the range out."
        )
    grid = config.grid(video.shape)
    return seen.strength(grid), config.temporal_stride
