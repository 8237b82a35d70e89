"""Training configuration: one strict YAML file a run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import HarmonyConfig
from ..geometry import as_fraction
from ..presets import preset
from ..quoting import quoted, shortened
from ..strict import build
from .autoencoders import AutoencoderTraining

OBJECTIVES = ("three_pass", "split_batch")
MUON, ADAMW, ADAMW_8BIT = OPTIMIZERS = ("muon", "adamw", "adamw_8bit")
TITLE = "Training config"
MOST_THREADS = 1024
MAY_CHANGE = ("steps", "threads", "log_every", "save_every")  # from one part of a run to the next


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a step optimises.

    `three_pass` is the paper's: joint, audio-driven and video-driven losses on the same clips, weighted 1, lambda_v,
    lambda_a. `split_batch` gives each clip one task by share, at a third of the cost.
    """

    kind: str = "three_pass"
    lambda_v: float = 0.1  # weight of the audio-driven loss (on video)
    lambda_a: float = 0.3  # weight of the video-driven loss (on audio)
    audio_driven_share: float = 0.15  # split_batch only
    video_driven_share: float = 0.15
    shift: float = 5.0  # of the training noise levels
    text_dropout: float = 0.1
    reference_share: float = 0.5  # of batches that carry reference audio
    reference_latents: tuple[int, int] = (8, 12)  # shortest and longest reference
    first_frame_share: float = 0.1  # of rows with the first video latent given
    prefix_share: float = 0.05  # of rows with a random prefix of both modalities given

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
        if not 0 < self.shift < math.inf:
            raise ValueError(f"objective.shift is {self.shift:g}, but must be a number above 0.")
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
    """Clips of the procedural world."""

    clips: int = 4000
    held_out: int = 128
    reference_seconds: float = 0.48

    def __post_init__(self) -> None:
        _check_counts(self, "data.", ("clips", "held_out"))
        if not 0 < self.reference_seconds < math.inf:
            raise ValueError(f"data.reference_seconds is {self.reference_seconds:g}, but must be a number above 0.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything a run needs."""

    preset: str
    steps: int
    batch_size: int
    seed: int = 0
    threads: int = 1
    model: dict[str, Any] = field(default_factory=dict)  # changes to the preset
    data: DataConfig = field(default_factory=DataConfig)
    autoencoders: dict[str, Any] = field(default_factory=dict)  # AutoencoderTraining fields
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    log_every: int = 20
    save_every: int = 200

    def __post_init__(self) -> None:
        _check_counts(self, "", ("steps", "batch_size", "threads", "log_every", "save_every"))
        if self.threads > MOST_THREADS:
            raise ValueError(f"threads is {self.threads}, but must be at most {MOST_THREADS}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, but must be from 0 to {2**32 - 1}.")
        # What these hold is checked now, not after an hour.
        transformer, _ = self.transformer, self.autoencoder_training
        channels = "video_channels", "audio_channels"
        tiny = preset("harmony-tiny")  # made for the autoencoders that are trained here
        if transformer.speech is None or any(getattr(transformer, name) != getattr(tiny, name) for name in channels):
            raise ValueError(
                f"preset {self.preset!r} with model {quoted(self.model)} does not go with the autoencoders that are "
                f"trained here: it needs speech, video_channels {tiny.video_channels} and audio_channels "
                f"{tiny.audio_channels}, as harmony-tiny has."
            )
        held = int(as_fraction(self.data.reference_seconds) * as_fraction(transformer.audio_latent_rate))
        if self.objective.reference_share and self.objective.reference_latents[1] > held:
            raise ValueError(
                f"objective.reference_latents is {list(self.objective.reference_latents)}, but data.reference_seconds "
                f"{self.data.reference_seconds:g} holds {held} latents; lower the one or raise the other."
            )

    @property
    def transformer(self) -> HarmonyConfig:
        base = preset(self.preset).to_dict()
        changes = dict(self.model)
        if isinstance(base["speech"], dict) and isinstance(changes.get("speech"), dict):
            changes["speech"] = base["speech"] | changes["speech"]
        return HarmonyConfig.from_dict(base | changes)

    @property
    def autoencoder_training(self) -> AutoencoderTraining:
        values = {"seed": self.seed} | self.autoencoders
        return build(AutoencoderTraining, values, TITLE, "autoencoders.", text_numbers=True)

    @classmethod
    def from_yaml(cls, path: Path, overrides: list[str]) -> TrainingConfig:
        """Read `path`, then apply `section.key=value` overrides. Unknown keys and impossible values are errors."""
        if not path.is_file():
            raise ValueError(f"There is no training config at {path}; harmony_core/training/configs has examples.")
        values = _from_yaml(path.read_bytes(), str(path))
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds no settings; harmony_core/training/configs has examples.")
        for override in overrides:
            name, separator, text = override.partition("=")
            if not separator:
                raise ValueError(f"Override {quoted(override)} must have the form section.key=value.")
            *sections, key = name.split(".")
            target = values
            for section in sections:
                target = target.setdefault(section, {})
                if not isinstance(target, dict):
                    raise ValueError(
                        f"Override {quoted(override)}: {shortened(section)} is a setting, not a section of settings."
                    )
            target[key] = _from_yaml(text, f"override {quoted(override)}")
        return build(cls, values, TITLE, text_numbers=True)

    def same_run(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the one that it continues, presets and defaults resolved."""
        resolved = {"model": self.transformer.to_dict(), "autoencoders": asdict(self.autoencoder_training)}
        return {name: value for name, value in (asdict(self) | resolved).items() if name not in MAY_CHANGE}


def _from_yaml(text: str | bytes, name: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # PyYAML lets Python's own through
        raise ValueError(f"{name} is no YAML: {shortened(str(error), 300)}") from error


def _check_counts(config: Any, section: str, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{section}{name} is {getattr(config, name)}, but must be 1 or more.")
