"""What a model knows of one stream from the other, without sampling: its losses on held-out clips of a world.

Every model is given the same clips under the same noise, so that differences between models are taken clip by clip and
tell apart what sampled clips of short runs cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..checkpoints import Bundle
from ..diffusion.latents import AVLatents
from ..model.roles import AUDIO_GIVEN, ISOLATED, JOINT, VIDEO_GIVEN
from ..text.tiny_encoder import TinyTextEncoder
from ..toyworld import HARD, HELD_OUT_SEED
from ..training.data.toyworld import encode_clips, render_clips
from ..training.losses import row_losses
from ..training.sections import ObjectiveConfig
from ..training.start import TrainedModel
from ..training.tasks import TaskRow, draw_levels, noise_rows, seed_of

ROLES = {
    "isolated": ISOLATED,
    "joint": JOINT,
    "joint_reference": JOINT,
    "audio_to_video": AUDIO_GIVEN,
    "video_to_audio": VIDEO_GIVEN,
}
GIVEN = ("audio_to_video", "audio_loss"), ("video_to_audio", "video_loss")  # nothing to predict
LEVELS = 4  # noise levels a clip
CHUNK = 16
WHOLE = ObjectiveConfig(first_frame_share=0.0, prefix_share=0.0, shift=3.0)


@torch.no_grad()
def loss_rows(bundle: Bundle, clips: int, world: str = HARD) -> Iterator[dict[str, Any]]:
    """Rows of case, scene, metric and value: the mean squared error of the velocity of a clip's picture and sound, with
    both noised, also with a reference, each alone, or the other given."""
    video_vae, audio_vae, text_encoder = bundle.video_vae, bundle.audio_vae, bundle.text_encoder
    assert isinstance(video_vae, TinyVideoVAE)
    assert isinstance(audio_vae, TinyAudioVAE)
    assert isinstance(text_encoder, TinyTextEncoder)
    model = TrainedModel(bundle.transformer, text_encoder).eval()
    for first in range(0, clips, CHUNK):
        count = min(CHUNK, clips - first)
        rendered = render_clips(count, HELD_OUT_SEED + first, 0.48, lambda *_: None, world)
        tensors = encode_clips(rendered, video_vae, audio_vae, text_encoder, None)
        clean = AVLatents(tensors["video"].float(), tensors["audio"].float())
        for case, role in ROLES.items():
            reference = tensors["reference"].float() if case == "joint_reference" else None
            total = sum(_losses(model, clean, tensors, reference, role, first, level) for level in range(LEVELS))
            assert isinstance(total, Tensor)
            for clip, values in enumerate((total / LEVELS).T.tolist()):
                for metric, value in zip(("video_loss", "audio_loss"), values, strict=True):
                    if (case, metric) not in GIVEN:
                        where = {"case": case, "scene": HELD_OUT_SEED + first + clip, "metric": metric}
                        yield where | {"value": round(value, 6)}


def _losses(
    model: TrainedModel,
    clean: AVLatents,
    tensors: dict[str, Tensor],
    reference: Tensor | None,
    role: str,
    first: int,
    level: int,
) -> Tensor:
    """Of picture and sound, [2, B]."""
    count = len(clean.video)
    rows = [TaskRow(clip, role, role != VIDEO_GIVEN, role != AUDIO_GIVEN) for clip in range(count)]
    generator = torch.Generator().manual_seed(seed_of(first, level))
    levels = draw_levels(rows, clean.video.shape[2], clean.sound.shape[2], WHOLE, generator)
    seeds = [seed_of(first + clip, level) for clip in range(count)]
    batch = noise_rows(clean, rows, levels, range(count), seeds)
    losses = row_losses(model(batch, tensors["text"], tensors["audio_text"], None, reference), batch)
    return torch.stack([losses.video, losses.sound])
