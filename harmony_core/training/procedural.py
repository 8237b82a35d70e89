"""What a run on the procedural world makes first, in its own folder: small autoencoders, where it starts from nothing,
then encoded clips."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..checkpoints.write import write_safetensors
from ..pipelines.prompts import read_requests
from ..quoting import quoted
from ..text.tiny_encoder import TinyTextEncoder
from ..toyworld import HELD_OUT_SEED, VOCABULARY
from .autoencoders import reconstruction_report, train_audio_vae, train_video_vae
from .config import TrainingConfig
from .data.shards import Shards
from .data.toyworld import render_clips, write_toy_shards
from .run_folder import ProgressBar
from .start import Models, fresh, start_models

if TYPE_CHECKING:
    from accelerate import Accelerator

SHARDS = "shards"
AUTOENCODERS = "video_vae.safetensors", "audio_vae.safetensors"

logger = logging.getLogger(__name__)


def procedural_models(
    config: TrainingConfig, output: Path, accelerator: Accelerator, progress: ProgressBar
) -> tuple[Models, Shards]:
    """The models of the run and the clips that their autoencoders encoded. What `output` holds of it is taken from
    there.

    Raises:
        ValueError: weights to start from without the procedural world's autoencoders or text encoder, or prompts that
            cannot be read; CheckpointError for weights that do not fit.
    """
    from accelerate import PartialState

    models = None if config.start is None else start_models(config)
    if config.samples.prompts:  # what cannot be read is told now, not when there are autoencoders and clips
        read_requests(Path(config.samples.prompts), config.transformer if models is None else models.config)
    if models is None:
        models = _new_models(config, output, accelerator, progress)
    video_vae, audio_vae, text_encoder = models.video_vae, models.audio_vae, models.text_encoder
    if not (
        isinstance(video_vae, TinyVideoVAE)
        and isinstance(audio_vae, TinyAudioVAE)
        and isinstance(text_encoder, TinyTextEncoder)
    ):
        named = config.preset if config.start is None else config.start.model
        raise ValueError(
            f"Clips of the procedural world are made with harmony-tiny's kinds of autoencoders and text encoder, and "
            f"{quoted(named)} brings none; name the folder that harmony encode made of your clips by data.shards."
        )
    config.check_procedural_model(models.config)
    clips, parts = config.data, (video_vae, audio_vae, text_encoder)
    how_many = clips.clips, clips.reference_seconds
    shards = write_toy_shards(output / SHARDS, *how_many, models.config, *parts, PartialState(), progress, clips.world)
    return models, shards


def _new_models(config: TrainingConfig, output: Path, accelerator: Accelerator, progress: ProgressBar) -> Models:
    """Trained autoencoders, and a transformer and a text encoder with their first weights."""
    video_vae, audio_vae = _autoencoders(config, output, accelerator, progress)
    torch.manual_seed(config.seed)  # after the autoencoders, so that a resumed run starts from the same weights
    size = config.transformer
    text_encoder = TinyTextEncoder(VOCABULARY, size.text_len, size.text_dim)
    return Models(size, fresh(config), text_encoder, video_vae, audio_vae)


def _autoencoders(
    config: TrainingConfig, output: Path, accelerator: Accelerator, progress: ProgressBar
) -> tuple[TinyVideoVAE, TinyAudioVAE]:
    """Trained autoencoders: from the output folder if they are there, else trained now, one a process."""
    torch.manual_seed(config.seed)
    video_vae, audio_vae = TinyVideoVAE(), TinyAudioVAE()
    paths = [output / name for name in AUTOENCODERS]
    settings = config.autoencoder_training
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    mine = [index for index in missing if index % accelerator.num_processes == accelerator.process_index]
    if mine:
        clips = render_clips(settings.clips, 0, config.data.reference_seconds, progress, config.data.world)
        if 0 in mine:
            train_video_vae(settings, clips.videos, video_vae, progress)
            write_safetensors(paths[0], video_vae.state_dict())
        if 1 in mine:
            train_audio_vae(settings, clips.sounds.astype("float32"), audio_vae, progress)
            write_safetensors(paths[1], audio_vae.state_dict())
    accelerator.wait_for_everyone()
    for vae, path in zip((video_vae, audio_vae), paths, strict=True):
        vae.load_state_dict(load_file(path))
    if missing and accelerator.is_main_process:
        held_out = render_clips(
            config.data.held_out, HELD_OUT_SEED, config.data.reference_seconds, progress, config.data.world
        )
        report = reconstruction_report(video_vae, audio_vae, held_out.videos, held_out.sounds.astype("float32"))
        logger.info("autoencoders: %s", json.dumps(report))
        (output / "autoencoders.json").write_text(json.dumps(report, indent=1))
    return video_vae.eval(), audio_vae.eval()
