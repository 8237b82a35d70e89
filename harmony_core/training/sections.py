"""The sections of a training config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..config import HarmonyConfig
from ..quoting import quoted
from ..toyworld import PLAIN, WORLDS
from .data.loader import OTHER_CLIP, SAME_CLIP, ReferenceRule

OBJECTIVES = THREE_PASS, SPLIT_BATCH, AUDIO_ALONE = "three_pass", "split_batch", "audio"
OPTIMIZERS = MUON, ADAMW, ADAMW_8BIT = "muon", "adamw", "adamw_8bit"


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a step optimises.

    `three_pass` is the paper's: joint, audio-driven and video-driven losses on the same clips, weighted 1, lambda_v,
    lambda_a. `split_batch` gives each clip one task by share, at a third of the cost. `audio` trains the sound alone
    (the paper's first two stages): no picture is read.

    `stop_drivers` ends the gradients of the driven tasks where the driver's tokens are read, so that it is run forward
    alone: cheaper, and not what the paper says.
    """

    kind: str = THREE_PASS
    lambda_v: float = 0.1  # weight of the audio-driven loss (on video)
    lambda_a: float = 0.3  # weight of the video-driven loss (on audio)
    audio_driven_share: float = 0.15  # split_batch only
    video_driven_share: float = 0.15
    shift: float = 5.0  # of the training noise levels
    text_dropout: float = 0.1
    reference: str = OTHER_CLIP  # or same_clip: where reference audio comes from (`ReferenceRule`)
    reference_share: float = 0.5  # of batches that carry reference audio
    reference_latents: tuple[int, int] = (8, 12)  # shortest and longest reference
    first_frame_share: float = 0.1  # of rows with the first video latent given
    prefix_share: float = 0.05  # of rows with a random prefix of both modalities given
    stop_drivers: bool = False

    @property
    def references(self) -> ReferenceRule | None:
        """None where no batch has any."""
        if self.reference_share == 0:
            return None
        return ReferenceRule(self.reference, self.reference_latents, self.reference_share)

    def check_model(self, model: HarmonyConfig) -> None:
        """Raises ValueError where rows of the model cannot be run apart, as `stop_drivers` needs."""
        if self.stop_drivers and (model.interaction == "global" or model.reads_transcript_across):
            kind = "UniAVGen's transcript" if model.reads_transcript_across else "interaction 'global'"
            raise ValueError(f"objective.stop_drivers is true, but rows with {kind} cannot be run apart; leave it out.")

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise ValueError(f"objective.kind is {quoted(self.kind)}, but must be one of {', '.join(OBJECTIVES)}.")
        for name, value in vars(self).items():
            if name.endswith(("share", "dropout")) and not 0 <= value <= 1:
                raise ValueError(f"objective.{name} is {value:g}, but must be between 0 and 1.")
            if name.startswith("lambda") and not 0 <= value < math.inf:
                raise ValueError(f"objective.{name} is {value:g}, but must be a number from 0.")
        for one, other in (("audio_driven_share", "video_driven_share"), ("first_frame_share", "prefix_share")):
            if getattr(self, one) + getattr(self, other) > 1:
                raise ValueError(
                    f"objective.{one} {getattr(self, one):g} and {other} {getattr(self, other):g} are more than all "
                    "clips together; lower one."
                )
        if self.stop_drivers and self.kind == AUDIO_ALONE:
            raise ValueError(f"objective.stop_drivers is true, but kind {AUDIO_ALONE} has no driver; leave it out.")
        if not 0 < self.shift < math.inf:
            raise ValueError(f"objective.shift is {self.shift:g}, but must be a number above 0.")
        if self.reference not in (SAME_CLIP, OTHER_CLIP):
            raise ValueError(
                f"objective.reference is {quoted(self.reference)}, but must be {SAME_CLIP} or {OTHER_CLIP}."
            )
        lengths = self.reference_latents
        if len(lengths) != 2 or not 0 < lengths[0] <= lengths[1]:
            raise ValueError(
                f"objective.reference_latents is {list(lengths)}, but must be a shortest and a longest length."
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which optimiser, and its rates: constant after a warm-up, then a linear decay to zero.

    `muon` has the matrices of the layers and AdamW the rest; `adamw` has all of them at `adamw_lr`; `adamw_8bit` too,
    with its moments in 8 bits (Dettmers et al. 2022, by bitsandbytes).
    """

    kind: str = MUON
    muon_lr: float = 0.02
    adamw_lr: float = 1.5e-3
    weight_decay: float = 0.0
    warmup_steps: int = 30
    decay_share: float = 0.4  # of the steps, at the end
    ema: float = 0.997
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in OPTIMIZERS:
            raise ValueError(f"optimizer.kind is {quoted(self.kind)}, but must be one of {', '.join(OPTIMIZERS)}.")
        for name, value in vars(self).items():
            if name != "kind" and not 0 <= value < math.inf:
                raise ValueError(f"optimizer.{name} is {value:g}, but must be a number from 0.")
        for name in ("decay_share", "ema"):
            if getattr(self, name) > 1:
                raise ValueError(f"optimizer.{name} is {getattr(self, name):g}, but must be between 0 and 1.")
        if self.max_grad_norm == 0:
            raise ValueError("optimizer.max_grad_norm is 0, with which nothing is learnt; 1 is usual.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on: `shards`, a folder that `harmony encode` made; without one, clips of the procedural world.

    `validation` clips, the last of the index, are never trained on; their loss is logged.
    """

    shards: str = ""
    world: str = PLAIN  # or free_speech, mixed, hard, unseen: a procedural world, as are the next three
    clips: int = 4000
    held_out: int = 128
    reference_seconds: float = 0.48
    validation: int = 0
    workers: int = 0  # processes that read ahead

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise ValueError(f"data.world is {quoted(self.world)}, but must be one of {', '.join(WORLDS)}.")
        check_counts(self, "data.", ("clips", "held_out"))
        check_counts(self, "data.", ("validation", "workers"), least=0)
        if not 0 < self.reference_seconds < math.inf:
            raise ValueError(f"data.reference_seconds is {self.reference_seconds:g}, but must be a number above 0.")


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Weights to start from, named as `harmony generate` names them: an embedded checkpoint, a Harmony checkpoint, or a
    transformer's files (Wan2.2's, Ovi's, UniAVGen's), with the name of their settings where they store none.

    The other parts are needed for sample clips alone, and only beside a transformer that comes without them.
    """

    model: str
    audio_model: str = ""
    preset: str = ""
    video_vae: str = ""
    audio_vae: tuple[str, ...] = ()
    text_encoder: str = ""
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("start.model is empty; name a checkpoint, or leave start out.")
        parts = {name: getattr(self, name) for name in ("video_vae", "audio_vae", "text_encoder", "tokenizer")}
        absent = [f"start.{name}" for name in ("video_vae", "text_encoder", "tokenizer") if not parts[name]]
        if any(parts.values()) and absent:
            raise ValueError(f"Sample clips of a transformer alone also need {', '.join(absent)}; name them, or none.")


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """Clips that show what a run has learnt: before its first step, every `every` steps (0 = never), and at its end.

    `prompts` is a file as `harmony generate --prompts` takes it.
    """

    prompts: str = ""
    every: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "samples.", ("every",), least=0)
        if self.every and not self.prompts:
            raise ValueError(f"samples.every is {self.every}, but there are no samples.prompts; name a file of them.")


def check_counts(config: Any, section: str, names: tuple[str, ...], least: int = 1) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{section}{name} is {getattr(config, name)}, but must be {least} or more.")
