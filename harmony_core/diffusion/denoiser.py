"""From the transformer's velocities to one guided clean estimate, with masks (INTERFACES: masks and sigmas).

Legend: B batch, T_v / T_a latent positions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..model import HarmonyTransformer
from ..model.driver_cache import DriverCache
from ..model.memory import (
    OFF,
    activation_bytes,
    choose_placement,
    free_bytes,
    mute_audio_bytes,
    passes_fit_together,
    static_video_bytes,
)
from ..model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN
from .guidance import (
    ISOLATED,
    MUTE_AUDIO,
    NEGATIVE_TEXT,
    SKIP_LAYER,
    STATIC_VIDEO,
    WITHOUT,
    GuidancePlan,
    SkipLayer,
)
from .latents import AVLatents


@dataclass(frozen=True)
class Conditions:
    """What the transformer reads beside the latents; fields as in `HarmonyTransformer.forward`."""

    video_context: Tensor
    audio_context: Tensor | None = None
    transcript: Tensor | None = None
    reference_audio: Tensor | None = None
    reference_image: Tensor | None = None

    def without(self, name: str) -> Conditions:
        """The same with a reference of zeros."""
        return replace(self, **{name: torch.zeros_like(getattr(self, name))})


@dataclass(frozen=True)
class Pass:
    """One prediction of a step: what the transformer sees, and which stream of it is the driver."""

    name: str
    x: AVLatents
    masks: AVLatents
    conditions: Conditions
    role: str
    driver: Hashable  # its name in the driver cache; None = not kept
    skip_layers: frozenset[int]


@dataclass
class Denoiser:
    """`denoise(x, sigma, step)` for a solver. Latents keep their dtype; the transformer runs in the conditions'.

    Args:
        given: clean latents; they replace x wherever `masks` are 0 (1 = generate).
        masks: broadcastable to the latents: video [B, 1, T_v, h, w], audio [B, 1, T_a].
        anchors: static video and mute audio latents for `SyncCFG`.
        static_anchor: with `static_video = "estimate"`, makes the static video from the step's clean estimate.
        driver_cache: where drivers' keys and values are kept, `device`, `host` or `off`; None chooses by free memory.
        batch_passes: whether a step's passes run as one batch; None chooses by free memory. Results do not change.
    """

    transformer: HarmonyTransformer
    plan: GuidancePlan
    positive: Conditions
    negative: Conditions | None
    given: AVLatents
    masks: AVLatents
    anchors: AVLatents | None = None
    static_anchor: Callable[[AVLatents], Tensor] | None = None
    driver_cache: str | None = None
    batch_passes: bool | None = None

    def __post_init__(self) -> None:
        self.role = self._role()
        placement = self.driver_cache or choose_placement(self._driver_bytes(), free_bytes(self.given.video.device))
        isolated = self.transformer.config.driver_isolation
        self.cache = DriverCache(placement) if isolated and placement != OFF else None

    def __call__(self, x: AVLatents, sigma: Tensor, step: int) -> AVLatents:
        x = self._restore(x)
        passes = [self._pass(name, x) for name in self.plan.passes(step)]
        predictions = {}
        for together in self._batches(passes):
            predictions.update(self._predict(together, float(sigma)))
        clean = self._restore(self.plan.combine(step, predictions))
        if self.static_anchor is not None:
            self.anchors = self.anchors._replace(video=self.static_anchor(clean))
        return clean

    def _pass(self, name: str, x: AVLatents) -> Pass:
        """In an anchored pass one stream is replaced by its anchor, clean at sigma 0."""
        role, masks, conditions, skip, driver = self.role, self.masks, self.positive, frozenset(), "given"
        if name == MUTE_AUDIO:
            role, driver = AUDIO_GIVEN, name
            x, masks = x._replace(audio=self.anchors.audio), masks._replace(audio=torch.zeros_like(masks.audio))
        elif name == STATIC_VIDEO:
            role, driver = VIDEO_GIVEN, name
            x, masks = x._replace(video=self.anchors.video), masks._replace(video=torch.zeros_like(masks.video))
        elif name == NEGATIVE_TEXT:
            conditions, driver = self.negative, name
        elif name in WITHOUT:
            conditions, driver = self.positive.without(WITHOUT[name]), name
        elif name == ISOLATED:
            role = ISOLATED
        elif name == SKIP_LAYER:
            (skip,) = (frozenset(g.layers) for g in self.plan.guidances if isinstance(g, SkipLayer))
        # An estimated static video changes every step, and a skipped layer stores nothing: neither is cached.
        cached = self.cache is not None and role in (AUDIO_GIVEN, VIDEO_GIVEN) and not skip
        if name == STATIC_VIDEO and self.static_anchor is not None:
            cached = False
        return Pass(name, x, masks, conditions, role, driver if cached else None, skip)

    def _batches(self, passes: list[Pass]) -> Iterator[list[Pass]]:
        """Passes that go through the transformer together: those that run the same layers on equal shapes."""
        video, audio = self.given
        config = self.transformer.config
        tokens = max(
            video[0, 0].numel() // (config.patch_size[1] * config.patch_size[2]), 0 if audio is None else audio.shape[2]
        )
        size = self.positive.video_context.element_size()
        needed = activation_bytes(config, tokens, len(passes) * len(video), size)
        batch = passes_fit_together(needed, video.device) if self.batch_passes is None else self.batch_passes
        kinds: dict[Hashable, list[Pass]] = {}
        for each in passes:
            references = each.conditions.reference_audio, each.conditions.reference_image
            shapes = tuple(None if reference is None else reference.shape for reference in references)
            kind = (each.skip_layers, shapes) if batch else each.name
            kinds.setdefault(kind, []).append(each)
        yield from kinds.values()

    def _predict(self, passes: list[Pass], sigma: float) -> dict[str, AVLatents]:
        """Clean estimates of passes that run as one batch, by name."""
        batch, dtype = len(passes[0].x.video), passes[0].conditions.video_context.dtype
        conditions = [each.conditions for each in passes]
        has_audio = passes[0].x.audio is not None
        drivers = tuple(each.driver for each in passes for _ in range(batch))
        velocity = self.transformer(
            _rows([each.x.video for each in passes]).to(dtype),
            _rows([each.x.audio for each in passes]).to(dtype) if has_audio else None,
            _rows([_latent_sigma(each.masks.video, sigma, each.x.video) for each in passes]),
            _rows([_latent_sigma(each.masks.audio, sigma, each.x.audio) for each in passes]) if has_audio else None,
            _texts([each.video_context for each in conditions]),
            _texts([each.audio_context for each in conditions]),
            _rows([each.transcript for each in conditions]),
            _rows([each.reference_audio for each in conditions]),
            roles=tuple(each.role for each in passes for _ in range(batch)),
            drivers=drivers,
            driver_cache=None if drivers == (None,) * len(drivers) else self.cache,
            skip_layers=passes[0].skip_layers,
            reference_image=_rows([each.reference_image for each in conditions]),
        )
        parts = zip(*((None,) * len(passes) if x is None else x.split(batch) for x in velocity), strict=True)
        return {
            each.name: each.x.map(
                lambda x, velocity, mask: x - sigma * mask * velocity.to(x.dtype), AVLatents(*part), each.masks
            )
            for each, part in zip(passes, parts, strict=True)
        }

    def _driver_bytes(self) -> int:
        """What a cache of every driver of this run would take."""
        video, audio = self.given
        if audio is None:
            return 0
        names = {name for step in range(self.plan.num_steps) for name in self.plan.passes(step)}
        driven = [AUDIO_GIVEN] * (MUTE_AUDIO in names) + [VIDEO_GIVEN] * (STATIC_VIDEO in names)
        driven += [self.role] * (1 + len(names & {NEGATIVE_TEXT, *WITHOUT}))
        config, size = self.transformer.config, self.positive.video_context.element_size()
        grid = tuple(n // p for n, p in zip(video.shape[2:], config.patch_size, strict=True))
        needed = {
            AUDIO_GIVEN: mute_audio_bytes(config, audio.shape[2], len(video), size),
            VIDEO_GIVEN: static_video_bytes(config, grid, len(video), size, self.positive.reference_audio is not None),
        }
        return sum(needed.get(role, 0) for role in driven)

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


def _rows(parts: list[Tensor | None]) -> Tensor | None:
    """Passes' inputs as one batch."""
    if parts[0] is None:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _texts(parts: list[Tensor | None]) -> Tensor | None:
    """The same for text features, which differ in length: padded with zeros, as the transformer pads them."""
    if parts[0] is None:
        return None
    longest = max(part.shape[1] for part in parts)
    return _rows([pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])
