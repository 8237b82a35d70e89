"""From the transformer's velocities to one guided clean estimate, with masks (INTERFACES: masks and sigmas).

Legend: B batch, T_v / T_a latent positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import HarmonyTransformer
from ..model.driver_cache import DriverCache
from ..model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
from .guidance import ISOLATED, MUTE_AUDIO, NEGATIVE_TEXT, SKIP_LAYER, STATIC_VIDEO, GuidancePlan, SkipLayer
from .latents import AVLatents


@dataclass(frozen=True)
class Conditions:
    """What the transformer reads beside the latents; fields as in `HarmonyTransformer.forward`."""

    video_context: Tensor
    audio_context: Tensor | None = None
    transcript: Tensor | None = None
    reference_audio: Tensor | None = None


@dataclass
class Denoiser:
    """`denoise(x, sigma, step)` for a solver. Latents keep their dtype; the transformer runs in the conditions'.

    Args:
        given: clean latents; they replace x wherever `masks` are 0 (1 = generate).
        masks: broadcastable to the latents: video [B, 1, T_v, h, w], audio [B, 1, T_a].
        anchors: static video and mute audio latents for `SyncCFG`.
        static_anchor: with `static_video = "estimate"`, makes the static video from the step's clean estimate.
    """

    transformer: HarmonyTransformer
    plan: GuidancePlan
    positive: Conditions
    negative: Conditions | None
    given: AVLatents
    masks: AVLatents
    anchors: AVLatents | None = None
    static_anchor: Callable[[AVLatents], Tensor] | None = None

    def __post_init__(self) -> None:
        self.role = self._role()
        self.cache = DriverCache() if self.transformer.config.driver_isolation else None

    def __call__(self, x: AVLatents, sigma: Tensor, step: int) -> AVLatents:
        x = self._restore(x)
        predictions = {name: self._predict(name, x, float(sigma)) for name in self.plan.passes(step)}
        clean = self._restore(self.plan.combine(step, predictions))
        if self.static_anchor is not None:
            self.anchors = self.anchors._replace(video=self.static_anchor(clean))
        return clean

    def _predict(self, name: str, x: AVLatents, sigma: float) -> AVLatents:
        """Clean estimate of one pass. In an anchored pass one stream is replaced by its anchor, clean at sigma 0."""
        role, masks, conditions, skip, driver = self.role, self.masks, self.positive, frozenset(), "given"
        if name == MUTE_AUDIO:
            role, driver = AUDIO_GIVEN, name
            x, masks = x._replace(audio=self.anchors.audio), masks._replace(audio=torch.zeros_like(masks.audio))
        elif name == STATIC_VIDEO:
            role, driver = VIDEO_GIVEN, name
            x, masks = x._replace(video=self.anchors.video), masks._replace(video=torch.zeros_like(masks.video))
        elif name == NEGATIVE_TEXT:
            conditions, driver = self.negative, name
        elif name == ISOLATED:
            role = ISOLATED
        elif name == SKIP_LAYER:
            (skip,) = (frozenset(g.layers) for g in self.plan.guidances if isinstance(g, SkipLayer))
        # An estimated static video changes every step, and a skipped layer stores nothing: neither is cached.
        cached = role in (AUDIO_GIVEN, VIDEO_GIVEN) and not skip
        if name == STATIC_VIDEO and self.static_anchor is not None:
            cached = False
        batch = len(x.video)
        dtype = conditions.video_context.dtype
        velocity = AVLatents(
            *self.transformer(
                x.video.to(dtype),
                None if x.audio is None else x.audio.to(dtype),
                _latent_sigma(masks.video, sigma, x.video),
                None if x.audio is None else _latent_sigma(masks.audio, sigma, x.audio),
                conditions.video_context,
                conditions.audio_context,
                conditions.transcript,
                conditions.reference_audio,
                roles=(role,) * batch,
                drivers=(driver if cached else None,) * batch,
                driver_cache=self.cache if cached else None,
                skip_layers=skip,
            )
        )
        return x.map(lambda x, velocity, mask: x - sigma * mask * velocity.to(x.dtype), velocity, masks)

    def _restore(self, x: AVLatents) -> AVLatents:
        return x.map(lambda x, given, mask: x * mask + given * (1 - mask), self.given, self.masks)

    def _role(self) -> str:
        """A stream is the driver only if its mask is 0 everywhere."""
        if self.masks.audio is None:
            return JOINT
        if not self.masks.audio.any():
            return AUDIO_GIVEN
        return JOINT if self.masks.video.any() else VIDEO_GIVEN


def _latent_sigma(mask: Tensor, sigma: float, latents: Tensor) -> Tensor:
    """Noise level per latent: sigma times the mask's mean over space and channels. [B, T], float64."""
    mask = mask.double().expand(len(latents), *mask.shape[1:])
    return sigma * mask.transpose(1, 2).flatten(2).mean(-1)
