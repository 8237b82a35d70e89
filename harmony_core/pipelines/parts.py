"""A pipeline's parts from published files: transformer, autoencoders, text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..checkpoints import Bundle, load_transformer
from ..checkpoints.components import load_audio_vae, load_text_encoder, load_video_vae
from ..config import preset


@dataclass(frozen=True, kw_only=True)
class PartFiles:
    """Files of each part; several where a part is split (Ovi's two, MMAudio's autoencoder and vocoder).

    `preset` names the settings of a transformer file that stores none and that its shapes do not tell: `ovi-11b-960`
    and `dreamid-omni` have Ovi's keys.
    """

    model: Sequence[Path]
    video_vae: Path | None = None
    audio_vae: Sequence[Path] = ()
    text_encoder: Path | None = None
    tokenizer: Path | None = None
    preset: str | None = None


def load_parts(files: PartFiles, dtype: torch.dtype) -> Bundle:
    """Load every part on the CPU, memory-mapped where it already has its dtype: transformer and text encoder in
    `dtype`, autoencoders in float32.

    Raises:
        ValueError: a part is missing, one that the model has no use for is given, or CheckpointError for a wrong file.
    """
    required = {"--video-vae": files.video_vae, "--text-encoder": files.text_encoder, "--tokenizer": files.tokenizer}
    absent = [option for option, path in required.items() if path is None]
    if absent:
        raise ValueError(f"A transformer alone makes no clip; also give {', '.join(absent)}.")
    config, transformer = load_transformer(
        list(files.model), dtype, config=None if files.preset is None else preset(files.preset)
    )
    if config.audio and not files.audio_vae:
        raise ValueError(f"{files.model[0].name} makes sound; also give --audio-vae.")
    if files.audio_vae and not config.audio:
        raise ValueError(f"{files.model[0].name} makes no sound; leave --audio-vae out.")
    return Bundle(
        config=config,
        transformer=transformer,
        video_vae=load_video_vae(files.video_vae),
        audio_vae=load_audio_vae(list(files.audio_vae)) if config.audio else None,
        text_encoder=load_text_encoder(files.text_encoder, files.tokenizer, dtype, text_len=config.text_len),
        model_card={"files": [path.name for path in files.model]},
    )
