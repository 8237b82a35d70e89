"""Training configuration: one strict YAML file a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import HarmonyConfig
from ..geometry import as_fraction
from ..presets import preset
from ..quoting import quoted, shortened
from ..strict import build
from .adapters import LoraConfig
from .autoencoders import AutoencoderTraining
from .frozen import BFLOAT16, DEVICE, FLOAT32, HOST, STORED
from .sections import (
    AUDIO_ALONE,
    DataConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SamplesConfig,
    StartConfig,
    check_counts,
)

TITLE = "Training config"
MOST_THREADS = 1024
BRANCHES = ALL, VIDEO, AUDIO, INTERACTIONS = "all", "video", "audio", "interactions"
PRECISIONS = FLOAT32, BFLOAT16
# from one part of a run to the next
MAY_CHANGE = ("steps", "threads", "log_every", "save_every", "keep", "trackers", "samples")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything a run needs.

    `preset`, with `model` over it, is the transformer; without one it is that of `start`. All of it is trained, or the
    branch that `train` names, or `lora` adapters of it.
    """

    steps: int
    batch_size: int
    preset: str = ""
    seed: int = 0
    threads: int = 1
    model: dict[str, Any] = field(default_factory=dict)  # changes to the preset
    start: StartConfig | None = None
    train: str = ALL
    lora: LoraConfig | None = None
    data: DataConfig = field(default_factory=DataConfig)
    autoencoders: dict[str, Any] = field(default_factory=dict)  # AutoencoderTraining fields
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    precision: str = FLOAT32  # bfloat16: computed in it, the weights that are trained stay float32
    frozen: str = FLOAT32  # beside a lora, how the linear layers are stored: float32, bfloat16 or float8
    frozen_on: str = DEVICE  # or host, from which a layer is copied whenever it is computed with
    accumulation: int = 1  # parts of a batch that are run one after the other
    activation_checkpointing: bool = False
    log_every: int = 20
    save_every: int = 200
    keep: int = 1  # states
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self, "", ("steps", "batch_size", "threads", "log_every", "save_every", "keep", "accumulation"))
        if self.threads > MOST_THREADS:
            raise ValueError(f"threads is {self.threads}, but must be at most {MOST_THREADS}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, but must be from 0 to {2**32 - 1}.")
        for name, known in (
            ("train", BRANCHES),
            ("precision", PRECISIONS),
            ("frozen", tuple(STORED)),
            ("frozen_on", (DEVICE, HOST)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {quoted(getattr(self, name))}, but must be one of {', '.join(known)}.")
        if self.frozen != FLOAT32 and self.lora is None:
            raise ValueError(
                f"frozen is {self.frozen}, but what is not trained is saved with the checkpoint; leave frozen out, or "
                "train a lora, whose file holds what is trained alone."
            )
        if self.frozen_on == HOST and self.frozen == FLOAT32:
            raise ValueError(
                f"frozen_on is {HOST}, but frozen is {FLOAT32}, of which nothing is stored apart; set frozen to "
                f"{BFLOAT16} or float8, or leave frozen_on out."
            )
        if self.lora is not None and self.train != ALL:
            raise ValueError(f"train is {self.train}, but a LoRA says what it trains by lora.targets; leave train out.")
        if self.objective.kind == AUDIO_ALONE and self.trained_branch in (VIDEO, INTERACTIONS):
            raise ValueError(
                f"objective.kind is {AUDIO_ALONE}, which teaches the sound alone, but what is trained is "
                f"{self.trained_branch}; change one of them."
            )
        if self.lora is not None and self.start is None:
            raise ValueError("lora needs weights to adapt; name them by start.model.")
        if self.preset == "" and (self.start is None or self.model):
            what = "model" if self.model else "start"
            raise ValueError(f"preset is empty, but {what} {'is' if self.model else 'is left out as well'}; name one.")
        if self.data.shards == "":
            self._check_procedural()

    def _check_procedural(self) -> None:
        """What the procedural world needs, which has its own small autoencoders, is checked now, not after an hour."""
        if self.data.validation >= self.data.clips:
            raise ValueError(
                f"data.validation is {self.data.validation}, but data.clips is {self.data.clips}, which leaves none to "
                "train on; lower the one or raise the other."
            )
        if self.start is not None:
            if self.autoencoders:
                raise ValueError(
                    f"autoencoders is {quoted(self.autoencoders)}, but {quoted(self.start.model)} brings its own and "
                    "they are not trained again; leave autoencoders out, or start."
                )
            return
        transformer, _ = self.transformer, self.autoencoder_training
        channels = "video_channels", "audio_channels"
        tiny = preset("harmony-tiny")
        if any(getattr(transformer, name) != getattr(tiny, name) for name in channels):
            raise ValueError(
                f"preset {self.preset!r} with model {quoted(self.model)} does not go with the autoencoders that are "
                f"trained here: it needs video_channels {tiny.video_channels} and audio_channels "
                f"{tiny.audio_channels}, as harmony-tiny has. To train on clips of yours, name data.shards."
            )
        self.check_procedural_model(transformer)

    def check_procedural_model(self, transformer: HarmonyConfig) -> None:
        """Raises ValueError for a model that the objective cannot train, and where clips of the procedural world hold
        shorter references than it draws."""
        self.objective.check_model(transformer)
        held = int(as_fraction(self.data.reference_seconds) * as_fraction(transformer.audio_latent_rate))
        if self.objective.reference_share and self.objective.reference_latents[1] > held:
            raise ValueError(
                f"objective.reference_latents is {list(self.objective.reference_latents)}, but data.reference_seconds "
                f"{self.data.reference_seconds:g} holds {held} latents; lower the one or raise the other."
            )

    @property
    def trained_branch(self) -> str:
        """`all`, or the one that is trained."""
        return self.train if self.lora is None else self.lora.targets

    @property
    def needs(self) -> tuple[str, ...]:
        """What a clip must have to teach what is trained."""
        if self.objective.kind == AUDIO_ALONE:
            return (AUDIO,)
        return {ALL: (), INTERACTIONS: (VIDEO, AUDIO)}.get(self.trained_branch, (self.trained_branch,))

    @property
    def transformer(self) -> HarmonyConfig:
        """That of `preset`, which has to be named."""
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
        resolved: dict[str, Any] = {"autoencoders": asdict(self.autoencoder_training)}
        if self.preset:
            resolved["model"] = self.transformer.to_dict()
        return {name: value for name, value in (asdict(self) | resolved).items() if name not in MAY_CHANGE}


def _from_yaml(text: str | bytes, name: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # PyYAML lets Python's own through
        raise ValueError(f"{name} is no YAML: {shortened(str(error), 300)}") from error
