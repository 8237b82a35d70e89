"""From the transformer's velocities to one guided clean estimate, with masks (docs/architecture.md).

Legend: B batch, T_v / T_a latent positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..model import HarmonyTransformer, roles
from ..model.driver_cache import DriverCache
from ..model.inputs import AVInput, Input, Rows, join_rows
from ..model.memory import (
    OFF,
    activation_bytes,
    choose_placement,
    free_bytes,
    mute_audio_bytes,
    passes_fit_together,
    static_video_bytes,
)
from ..model.roles import AUDIO_GIVEN, GIVEN, VIDEO_GIVEN
from .guidance import JOINT, PASSES, GuidancePlan
from .latents import AVLatents


@dataclass(frozen=True)
class Pass:
    """One prediction of a step: what the transformer sees, and which stream of it is the driver.

    `inputs` gives the texts and references; latents and noise levels are those of `x` under `masks`.
    """

    name: str
    x: AVLatents
    masks: AVLatents
    inputs: AVInput
    role: str
    driver: Hashable  # its name in the driver cache; None = not kept
    skip_layers: frozenset[int]

    def at(self, sigma: float) -> AVInput:
        """The transformer's input at a step's noise level."""

        def side(inputs: Input, x: Tensor, mask: Tensor) -> Input:
            return replace(inputs, latents=x.to(inputs.context.dtype), sigma=_latent_sigma(mask, sigma, x))

        (video, audio), x, masks = self.inputs, self.x, self.masks
        return AVInput(side(video, x.video, masks.video), None if audio is None else side(audio, x.sound, masks.sound))


@dataclass
class Denoiser:
    """`denoise(x, sigma, step)` for a solver. Latents keep their dtype; the transformer runs in the texts'.

    Args:
        positive: texts, references, and as latents what is given: it replaces x wherever `masks` are 0 (1 = generate).
        negative: the same with the texts to guide away from; None where no pass reads them.
        masks: broadcastable to the latents: video [B, 1, T_v, h, w], audio [B, 1, T_a].
        anchors: static video and mute audio latents for `SyncCFG`.
        static_anchor: with `static_video = "estimate"`, makes the static video from the step's clean estimate.
        silent_transcript: token ids that the pass with mute audio reads in the place of the words; None = the words.
        driver_cache: where drivers' keys and values are kept, `device`, `host` or `off`; None chooses by free memory.
        batch_passes: whether a step's passes run as one batch; None chooses by free memory. Results do not change.
    """

    transformer: HarmonyTransformer
    plan: GuidancePlan
    positive: AVInput
    negative: AVInput | None
    masks: AVLatents
    anchors: AVLatents | None = None
    static_anchor: Callable[[AVLatents], Tensor] | None = None
    silent_transcript: Tensor | None = None
    driver_cache: str | None = None
    batch_passes: bool | None = None

    def __post_init__(self) -> None:
        video, audio = self.positive
        self.given = AVLatents(video.latents, None if audio is None else audio.latents)
        self.role = self._role()
        self.voice = audio is not None and audio.reference is not None
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
        if self.static_anchor is not None and self.anchors is not None:
            self.anchors = self.anchors._replace(video=self.static_anchor(clean))
        return clean

    def _pass(self, name: str, x: AVLatents) -> Pass:
        change, role, masks = PASSES[name], self.role, self.masks
        inputs = self.negative if change.negative_text else self.positive
        assert inputs is not None, f"{name} needs negative texts"
        if change.without is not None:
            inputs = inputs.without(change.without)
        if change.anchor is not None:
            stream, role = change.anchor, GIVEN[change.anchor]
            x = x._replace(**{stream: getattr(self.anchors, stream)})
            masks = masks._replace(**{stream: torch.zeros_like(getattr(masks, stream))})
        if change.anchor == "audio" and self.silent_transcript is not None:
            inputs = inputs.saying(self.silent_transcript)
        if change.isolated:
            role = roles.ISOLATED
        skip = self.plan.skipped_layers if change.skips_layers else frozenset()
        # An estimated static video changes every step, and a skipped interaction stores nothing: neither is cached.
        moves = change.anchor == "video" and self.static_anchor is not None
        hollow = not skip.isdisjoint(self.transformer.config.layers_with_interaction)
        driver = None
        if self.cache is not None and role in GIVEN.values() and not hollow and not moves:
            driver = name if change.changes_driver or skip else "given"
        if self.voice and not change.negative_text:  # of the rows; such sound is made, so nothing of it is kept
            role = roles.role_with_voice(role, self.transformer.config)
        return Pass(name, x, masks, inputs, role, driver, skip)

    def _batches(self, passes: list[Pass]) -> Iterator[list[Pass]]:
        """Passes that go through the transformer together: those that run the same layers on equal shapes."""
        video, audio = self.given
        config, context = self.transformer.config, self.positive.video.context
        tokens = max(math.prod(config.grid(video.shape)), 0 if audio is None else audio.shape[2])
        needed = activation_bytes(config, tokens, len(passes) * len(video), context.element_size())
        batch = passes_fit_together(needed, video.device) if self.batch_passes is None else self.batch_passes
        kinds: dict[Hashable, list[Pass]] = {}
        for each in passes:
            references = [side.reference for side in each.inputs if side is not None]
            shapes = tuple(None if reference is None else reference.shape for reference in references)
            kind = (each.skip_layers, shapes) if batch else each.name
            kinds.setdefault(kind, []).append(each)
        yield from kinds.values()

    def _predict(self, passes: list[Pass], sigma: float) -> dict[str, AVLatents]:
        """Clean estimates of passes that run as one batch, by name."""
        batch = len(passes[0].x.video)
        drivers = tuple(each.driver for each in passes for _ in range(batch))
        rows = Rows(
            roles=tuple(each.role for each in passes for _ in range(batch)),
            drivers=drivers,
            cache=None if drivers == (None,) * len(drivers) else self.cache,
            skip_layers=passes[0].skip_layers,
        )
        velocity = self.transformer(*join_rows([each.at(sigma) for each in passes]), rows)
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
        if audio is None or self.positive.audio is None:
            return 0
        names = {name for step in range(self.plan.num_steps) for name in self.plan.passes(step)}
        changes = [PASSES[name] for name in names if name == JOINT or PASSES[name].changes_driver]
        driven = [self.role if change.anchor is None else GIVEN[change.anchor] for change in changes]
        config, size = self.transformer.config, self.positive.video.context.element_size()
        grid, reference = config.grid(video.shape), self.positive.audio.reference
        needed = {
            AUDIO_GIVEN: mute_audio_bytes(config, audio.shape[2], len(video), size),
            VIDEO_GIVEN: static_video_bytes(config, grid, len(video), size, reference is not None),
        }
        return sum(needed.get(role, 0) for role in driven)

    def _restore(self, x: AVLatents) -> AVLatents:
        return x.map(lambda x, given, mask: x * mask + given * (1 - mask), self.given, self.masks)

    def _role(self) -> str:
        """A stream is the driver only if its mask is 0 everywhere."""
        if self.masks.audio is None:
            return roles.JOINT
        if not self.masks.audio.any():
            return AUDIO_GIVEN
        return roles.JOINT if self.masks.video.any() else VIDEO_GIVEN


def _latent_sigma(mask: Tensor, sigma: float, latents: Tensor) -> Tensor:
    """Noise level per latent: sigma times the mask's mean over space and channels. [B, T], float64."""
    mask = mask.double().expand(len(latents), *mask.shape[1:])
    return sigma * mask.transpose(1, 2).flatten(2).mean(-1)
