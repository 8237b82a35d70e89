"""Where the sound looks: what the model's frame-wise attention links in picture and sound, drawn over the frames (the
paper's figure 6). Watches the model from outside, so a run costs a model pass and changes nothing.

Legend: B batch, L queries, S keys, H heads, D width (d: one head's); T_v latent frames, F frames, h w patches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..model.interaction import FramewiseAttention, KeysValues
from ..model.rope import CrossGeometry
from ..model.transformer import HarmonyTransformer
from ..ops.rope import apply_rope
from .plot import HEAT

DIRECTIONS = ("v2a", "a2v")
OPACITY = 0.6
CLEAR = 2.0  # what must be reached for the brightest colour: twice the even share


class SyncMap:
    """Records one direction of chosen layers while it is entered: `with SyncMap(...) as seen: transformer(...)`.

    `v2a`: how much attention the sound pays to each patch, in multiples of even attention.
    `a2v`: how strongly the sound changes each patch, in multiples of the median patch.
    The first clip of a batch, averaged over heads and layers.

    Raises:
        ValueError: another direction, an unknown layer, or a model without frame-wise attention.
    """

    def __init__(self, transformer: HarmonyTransformer, direction: str, layers: tuple[int, ...]) -> None:
        if transformer.config.interaction != "framewise":
            raise ValueError(
                f"This model's interaction is {transformer.config.interaction!r}; a sync map needs 'framewise'."
            )
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is {direction!r}; choose {' or '.join(DIRECTIONS)}.")
        unknown = sorted(set(layers) - set(range(transformer.config.num_layers)))
        if unknown:
            last = transformer.config.num_layers - 1
            raise ValueError(f"There is no layer {unknown[0]} to look at: this model has layers 0 to {last}.")
        self._modules = [getattr(transformer.interactions[layer], direction) for layer in layers]
        self._watch: Callable[..., Tensor] = attention_paid if direction == "v2a" else change_made
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._layers: list[Tensor] = []

    def __enter__(self) -> SyncMap:
        self._hooks = [module.register_forward_hook(self._record) for module in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _record(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._layers.append(self._watch(module, *inputs, output).float().cpu())

    @property
    def empty(self) -> bool:
        return not self._layers

    def strength(self, grid: tuple[int, int, int]) -> Tensor:
        """[T_v, h, w], 1 = even; `grid` is that shape. One number a patch, averaged over what was recorded."""
        return torch.stack(self._layers).mean(0).unflatten(0, grid)


def middle_layers(num_layers: int) -> tuple[int, ...]:
    """The middle third, where the link between the two is the most local."""
    return tuple(range(num_layers // 3, num_layers - num_layers // 3))


def attention_paid(
    module: FramewiseAttention, x_BLD: Tensor, keys_values: KeysValues, geometry: CrossGeometry, _: Tensor
) -> Tensor:
    """What each key receives from all queries together, divided by what even attention would give it. [S]"""
    q_LHd = apply_rope(module.queries(x_BLD[:1]), geometry.rope_q)[0].float()
    k_SHd = apply_rope(keys_values[0][:1], geometry.rope_k)[0].float()
    paid_S, even_S = torch.zeros(2, len(k_SHd), device=k_SHd.device)
    for first, last, start, end in geometry.groups:
        scores = torch.einsum("lhd,shd->hls", q_LHd[first:last], k_SHd[start:end]) * q_LHd.shape[-1] ** -0.5
        paid_S[start:end] += scores.softmax(-1).mean(0).sum(0)
        even_S[start:end] += (last - first) / (end - start)
    return paid_S / even_S


def change_made(_: FramewiseAttention, x_BLD: Tensor, __: KeysValues, ___: CrossGeometry, output_BLD: Tensor) -> Tensor:
    """Size of what each token is given, relative to the token, divided by the median. [L]"""
    change_L = output_BLD[0].float().norm(dim=-1) / x_BLD[0].float().norm(dim=-1)
    return change_L / change_L.median()


def draw_sync_map(
    frames: np.ndarray, strength: Tensor, temporal_stride: int = 4, num_frames: int | None = None
) -> np.ndarray:
    """Frames in grey under the map in colour, uint8 [F,H,W,3]. Even attention or less is dark.

    The map covers what a clip of its shape shows of each frame: the middle, as `fit_image` crops.

    Args:
        frames: uint8 [F,H,W,3].
        strength: [T_v, h, w], as `SyncMap.strength` makes it.
        num_frames: of the clip, which `frames` are at another rate; None = they are the clip's.
    """
    top = max(CLEAR, float(strength.max()))
    heat = ((strength - 1) / (top - 1)).clamp(0, 1).numpy()
    (count, height, width), shape = frames.shape[:3], heat.shape[1:]
    size = min(width, round(height * shape[1] / shape[0])), min(height, round(width * shape[0] / shape[1]))
    corner = (width - size[0]) // 2, (height - size[1]) // 2
    drawn = []
    for index, frame in enumerate(frames):
        shown = index * (num_frames or count) // count
        latent = min((shown + temporal_stride - 1) // temporal_stride, len(heat) - 1)
        smooth = Image.new("F", (width, height))
        smooth.paste(Image.fromarray(heat[latent]).resize(size, Image.Resampling.BICUBIC), corner)
        grey = np.asarray(Image.fromarray(frame).convert("L"), np.float32)[..., None]
        drawn.append(grey * (1 - OPACITY) + _colours(np.asarray(smooth)) * OPACITY)
    return np.stack(drawn).round().clip(0, 255).astype(np.uint8)


def _colours(heat: np.ndarray) -> np.ndarray:
    """[..., 3] of values 0..1, dark to light."""
    anchors = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(heat, anchors, HEAT[:, channel]) for channel in range(3)], -1)
