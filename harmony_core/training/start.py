"""The models that a run begins with: made anew, or from published or trained weights, and which of them is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..autoencoders.interface import AudioAutoencoder, VideoAutoencoder
from ..checkpoints import Bundle, load_bundle
from ..checkpoints.bundle import absent_companions, load_companions, resolve
from ..checkpoints.files import ModelFile, open_model
from ..checkpoints.parts import load_audio_vae, load_text_encoder, load_video_vae
from ..checkpoints.transfer import branch_of, transfer
from ..checkpoints.weight_files import open_files
from ..config import HarmonyConfig
from ..diffusion.latents import AVLatents
from ..model import HarmonyTransformer
from ..model.initialize import initialize
from ..model.inputs import AudioInput, AVInput, Rows, VideoInput, picture_before
from ..text.interface import TextEncoder
from ..text.tiny_encoder import TinyTextEncoder
from . import uniavgen
from .adapters import add_lora
from .config import ALL, AUDIO, TrainingConfig
from .data.batch import Voice
from .data.encode import fingerprint, vocabulary_fingerprint
from .data.shards import Shards
from .frozen import FLOAT32, store_frozen
from .sections import ObjectiveConfig, StartConfig
from .tasks import NoisedBatch

UNREAD = "audio.padding"  # published with UniAVGen for batches of unequal sounds, which are rows of their own here


@dataclass
class Models:
    """What a run trains and what it makes its samples with; parts that were not named are None.

    `origin` says of each branch of the transformer where its weights come from.
    """

    config: HarmonyConfig
    transformer: HarmonyTransformer
    text_encoder: TextEncoder | None = None
    video_vae: VideoAutoencoder | None = None
    audio_vae: AudioAutoencoder | None = None
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle | None:
        """All together, where there is enough to make clips."""
        if self.video_vae is None or self.text_encoder is None:
            return None
        return Bundle(self.config, self.transformer, self.video_vae, self.audio_vae, self.text_encoder)

    def check(self, shards: Shards, objective: ObjectiveConfig) -> None:
        """Whether these are the models that the clips were encoded for, and can be trained so. Raises ValueError; see
        `Shards.check`."""
        found = shards.settings
        objective.check_model(self.config)
        if self.config.starts_from_picture:
            uniavgen.check_objective(objective)
        if not self.config.audio:
            raise ValueError(
                "This model makes no sound, and a video model alone is not trained here; set preset to harmony-5b, "
                "which takes its weights."
            )
        if found.text == "ids" and not isinstance(self.text_encoder, TinyTextEncoder):
            raise ValueError(
                f"The clips in {shards.folder} have ids of words for a small text encoder that is trained as well, but "
                "there is none to start from; name the checkpoint that encoded them by start.model."
            )
        known: dict[str, Any] = {"spoken_references": self.config.reads_transcript_across}
        names = ("text_len", "video_channels", "audio_channels", "sample_rate", "audio_latent_rate")
        known |= {name: getattr(self.config, name) for name in (*names, "temporal_stride", "patch_size")}
        known["transcript_len"] = 0 if self.config.speech is None else self.config.speech.max_len
        for name, part in (("video_autoencoder", self.video_vae), ("audio_autoencoder", self.audio_vae)):
            if part is not None:
                known[name] = fingerprint(part)
        if isinstance(self.text_encoder, TinyTextEncoder):
            known["text_encoder"] = vocabulary_fingerprint(self.text_encoder)
        shards.check(replace(found, **known))


class TrainedModel(nn.Module):
    """What accelerate prepares: the transformer, and its text encoder where texts come as ids."""

    def __init__(
        self, transformer: HarmonyTransformer, text_encoder: TinyTextEncoder | None, stop_drivers: bool = False
    ) -> None:
        super().__init__()
        self.stop_drivers = stop_drivers
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(
        self,
        batch: NoisedBatch,
        video_text: Tensor,
        audio_text: Tensor,
        transcript: Tensor | None,
        reference: Tensor | None,
        voices: Sequence[Voice | None] = (),
    ) -> AVLatents:
        """Predicted velocities. `voices`: in the place of a reference, one a row or none (`ClipBatch`)."""
        texts = video_text, audio_text
        if self.text_encoder is not None:
            texts = self.text_encoder(video_text), self.text_encoder(audio_text)
        picture = picture_before(batch.noisy.video) if self.transformer.config.starts_from_picture else None
        video = VideoInput(batch.noisy.video, batch.sigmas.video, texts[0], picture)
        audio = AudioInput(batch.noisy.sound, batch.sigmas.sound, texts[1], transcript, reference)
        if self.transformer.config.reads_transcript_across:
            return uniavgen.velocities(self.transformer, AVInput(video, audio), batch.roles, voices)
        return AVLatents(*self.transformer(video, audio, Rows(batch.roles, stop_drivers=self.stop_drivers)))

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that are not frozen, by name."""
        return ((name, each) for name, each in self.named_parameters() if each.requires_grad)


def branch_of_parameter(name: str) -> str:
    """`video`, `audio` (with speech), `interactions` or `text`, of a parameter of `TrainedModel`."""
    part, _, key = name.partition(".")
    if part == "text_encoder":
        return "text"
    return branch_of(key).replace("speech", AUDIO)


def fresh(config: TrainingConfig) -> HarmonyTransformer:
    """The transformer of `config.preset` with first weights that follow the seed."""
    transformer = HarmonyTransformer(config.transformer)
    initialize(transformer, torch.Generator().manual_seed(config.seed))
    return transformer


def start_models(config: TrainingConfig) -> Models:
    """The models of a run on shards.

    Raises:
        CheckpointError: weights that cannot be read, or of which none fits the preset.
    """
    start = config.start
    # What is trained becomes float32 afterwards; published weights have no more than bfloat16 holds.
    dtype = torch.float32 if config.frozen == FLOAT32 else torch.bfloat16
    if start is None:
        transformer = fresh(config)
        branches = dict.fromkeys(branch_of(name) for name in transformer.state_dict())
        return Models(transformer.config, transformer, origin=dict.fromkeys(branches, "its own first weights"))
    if config.preset == "" and _is_bundle(start):
        bundle = load_bundle(start.model, dtype)
        models = Models(bundle.config, bundle.transformer, bundle.text_encoder, bundle.video_vae, bundle.audio_vae)
        models.origin = dict.fromkeys(dict.fromkeys(map(branch_of, bundle.transformer.state_dict())), start.model)
        return models
    files = [resolve(start.model), *([Path(start.audio_model)] if start.audio_model else [])]
    if config.preset == "":
        opened = open_model(files, preset=start.preset or None)
        transformer = opened.build(dtype)
        models = Models(opened.config, transformer)
        models.origin = dict.fromkeys(dict.fromkeys(map(branch_of, transformer.state_dict())), opened.files.name)
    else:
        transformer = fresh(config)
        width = transformer.config.video_width
        opened = open_model(files, head_dim=width.dim // width.num_heads, preset=start.preset or None)
        models = Models(transformer.config, transformer, origin=transfer(transformer, opened))
    if _is_bundle(start):
        _, models.video_vae, models.audio_vae, models.text_encoder = load_companions(start.model)
    return _with_companions(models, start)


def planned_models(config: TrainingConfig) -> Models:
    """The transformer of a run on the meta device, for what its shapes tell. Raises as `start_models`."""
    start = config.start
    if config.preset:
        size = config.transformer
    else:
        assert start is not None  # TrainingConfig has seen to it
        files = open_files([resolve(start.model), *([start.audio_model] if start.audio_model else [])])
        size = files.config or ModelFile.of(files, preset=start.preset or None).config
    return Models(size, HarmonyTransformer(size, device="meta"))


def _is_bundle(start: StartConfig) -> bool:
    """Whether the file has autoencoders and text encoder too."""
    return not absent_companions(open_files(resolve(start.model)))


def _with_companions(models: Models, start: StartConfig) -> Models:
    if start.video_vae:
        models.video_vae = load_video_vae(Path(start.video_vae))
        models.text_encoder = load_text_encoder(
            Path(start.text_encoder), start.tokenizer, text_len=models.config.text_len
        )
    if start.audio_vae:
        models.audio_vae = load_audio_vae([Path(each) for each in start.audio_vae])
    return models


def choose_trained(models: Models, config: TrainingConfig, ids: bool) -> TrainedModel:
    """The model that is trained, everything else of it frozen. `ids`: its text encoder is part of it."""
    encoder = models.text_encoder if ids else None
    assert encoder is None or isinstance(encoder, TinyTextEncoder)
    model = TrainedModel(models.transformer, encoder, config.objective.stop_drivers)
    if config.activation_checkpointing:
        checkpoint_layers(model.transformer)
    if config.lora is not None:
        model.requires_grad_(False)
        torch.manual_seed(config.seed)  # of the adapters' first weights
        add_lora(model.transformer, config.lora)
    else:
        for name, parameter in model.named_parameters():
            read = not name.endswith(UNREAD)
            parameter.requires_grad_(read and config.train in (ALL, branch_of_parameter(name)))
    if config.frozen != FLOAT32:
        store_frozen(model, config.frozen, config.frozen_on)
    return model.train()


def checkpoint_layers(transformer: HarmonyTransformer) -> None:
    """Keep of every block and interaction its input alone, and compute it again for the gradients."""
    for branch in transformer.branches:
        for block in branch.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for interaction in getattr(transformer, "interactions", ()):
        interaction.forward = partial(checkpoint, interaction.forward, use_reentrant=False)
