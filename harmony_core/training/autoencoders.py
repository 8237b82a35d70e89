"""Training of the two autoencoders of the embedded checkpoint: plain loops, seeded, on one device.

Legend: B batch, C channels, F frames, H and W pixels, N samples, K frequency bins, L spectrogram frames.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoencoders.mel import FLOOR
from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..pixels import from_pixels
from .muon import Muon

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int, float], None]
"""Called after every step with what is trained ("video" or "audio"), steps done, steps in all, the loss."""

MOVES = 16  # grey levels of 255 by which a pixel must change from one frame to the next to count as moving


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """How the autoencoders are trained. Learning rates fall to zero along a half cosine over the steps."""

    seed: int = 0
    clips: int = 1500  # rendered for them
    video_steps: int = 2400
    video_batch: int = 16  # single frames
    moving_weight: float = 4.0  # extra weight of pixels that move
    detail_weight: float = 2.0  # extra weight of pixels beside an edge: eyes, outlines, the floor's pattern
    edge_weight: float = 0.5  # of the loss on differences of neighbouring pixels
    audio_steps: int = 550
    audio_batch: int = 12  # crops
    audio_crop: int = 40  # latents
    latent_noise: float = 0.08  # deviation of the noise that the decoders learn to bear; latents have 1
    matrix_lr: float = 0.02
    other_lr: float = 2e-3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "clips" or name.endswith(("_steps", "_batch", "_crop")):
                if value < 1:
                    raise ValueError(f"autoencoders.{name} is {value}, but must be 1 or more.")
            elif not 0 <= value < math.inf:
                raise ValueError(f"autoencoders.{name} is {value:g}, but must be a number from 0.")


def train_video_vae(
    config: AutoencoderTraining,
    videos: np.ndarray,
    vae: TinyVideoVAE | None = None,
    progress: Progress | None = None,
    decoder_only: bool = False,
) -> TinyVideoVAE:
    """Train on single frames of clips.

    Args:
        videos: uint8 [clips, F, H, W, 3].
        vae: continue with this one instead of a fresh default.
        progress: called after every step.
        decoder_only: leave the encoder and the latents' scale as they are, so that encoded clips stay valid.

    Returns:
        The autoencoder in eval mode, its latents normalised over the clips.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vae = (vae or TinyVideoVAE()).train()
    ever_moves = np.ptp(videos, axis=1).max(-1) > MOVES  # [clips, H, W]
    optimisers = _optimisers(vae.decoder if decoder_only else vae, config)

    def latents_of(frames_BCHW: Tensor) -> Tensor:
        if not decoder_only:
            return _normalised(vae.encode_frames(frames_BCHW))
        with torch.no_grad():
            raw = vae.encode_frames(frames_BCHW)
            return (raw - vae.latent_mean[:, None, None]) / vae.latent_std[:, None, None]

    def loss_of_batch() -> Tensor:
        clip = rng.integers(len(videos), size=config.video_batch)
        frame = rng.integers(videos.shape[1], size=config.video_batch)
        frames_BCHW = _as_frames(videos[clip, frame])
        before = np.where(frame > 0, frame - 1, 1)
        moves = np.abs(videos[clip, frame].astype(np.int16) - videos[clip, before]).max(-1) > MOVES
        motion_BHW = torch.from_numpy(moves + 0.5 * ever_moves[clip]).float()
        weight_B1HW = 1 + config.moving_weight * motion_BHW[:, None] + config.detail_weight * _detail(frames_BCHW)
        latents = latents_of(frames_BCHW)
        decoded_BCHW = vae.decode_frames(latents + config.latent_noise * torch.randn_like(latents))
        return _picture_loss(decoded_BCHW - frames_BCHW, weight_B1HW, config.edge_weight)

    _run("video", config.video_steps, optimisers, loss_of_batch, progress)
    vae.eval()
    if decoder_only:
        return vae
    step = max(len(videos) // 256, 1)
    with torch.no_grad():
        _set_latent_scale(vae, torch.cat([vae.encode_frames(_as_frames(video[::4])) for video in videos[::step]]))
    return vae


def train_audio_vae(
    config: AutoencoderTraining,
    waveforms: np.ndarray,
    vae: TinyAudioVAE | None = None,
    progress: Progress | None = None,
) -> TinyAudioVAE:
    """Train on crops of clips at random offsets and levels.

    Args:
        waveforms: float32 [clips, N].
        vae: continue with this one instead of a fresh default.
        progress: called after every step.

    Returns:
        The autoencoder in eval mode, its latents normalised over the clips.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vae = (vae or TinyAudioVAE()).train()
    length = config.audio_crop * vae.samples_per_latent
    padded = np.pad(waveforms, ((0, 0), (length // 4, length // 4)))
    optimisers = _optimisers(vae, config)

    def loss_of_batch() -> Tensor:
        clip = rng.integers(len(padded), size=config.audio_batch)
        start = rng.integers(padded.shape[1] - length + 1, size=config.audio_batch)
        crops = np.stack([padded[c, s : s + length] for c, s in zip(clip, start, strict=True)])
        gain = np.exp(rng.uniform(math.log(0.6), math.log(1.2), size=(config.audio_batch, 1)))
        waveform_BN = torch.from_numpy(crops * gain.astype(np.float32))
        with torch.no_grad():
            target_BKL = vae.spectrogram.log_magnitude(waveform_BN)
            mel_BML = vae.mel(waveform_BN)
        latents = _normalised(vae.encode_mel(mel_BML))
        decoded_BKL = vae.decode_spectrum(latents + config.latent_noise * torch.randn_like(latents))
        return _spectrum_loss(vae, decoded_BKL, target_BKL, mel_BML)

    _run("audio", config.audio_steps, optimisers, loss_of_batch, progress)
    vae.eval()
    whole = waveforms.shape[1] // vae.samples_per_latent * vae.samples_per_latent
    with torch.no_grad():
        mels = vae.mel(torch.from_numpy(waveforms[:256, :whole]))
        _set_latent_scale(vae, vae.encode_mel(mels))
    return vae


@torch.no_grad()
def reconstruction_report(
    video_vae: TinyVideoVAE, audio_vae: TinyAudioVAE, videos: np.ndarray, waveforms: np.ndarray
) -> dict[str, float]:
    """How much of held-out clips survives encoding and decoding.

    `psnr` and `psnr_moving` in dB over all pixels and over those that moved since the frame before; `mel_l1` between
    the log-mels (natural log) of the sound before and after the whole round trip, `spectrum_l1` before Griffin-Lim.
    """
    squared, moving_squared, moving = 0.0, 0.0, 0
    for video in videos:
        pixels_BCFHW = _as_frames(video).transpose(0, 1)[None]
        decoded = video_vae.decode(video_vae.encode(pixels_BCFHW))
        error_FHW = ((decoded - pixels_BCFHW)[0] / 2).square().mean(0)
        moves = np.abs(np.diff(video.astype(np.int16), axis=0)).max(-1) > MOVES
        squared += error_FHW.mean().item() / len(videos)
        moving_squared += error_FHW[1:][torch.from_numpy(moves)].sum().item()
        moving += int(moves.sum())
    mel_l1, spectrum_l1 = 0.0, 0.0
    for waveform in waveforms:
        waveform_BN = torch.from_numpy(waveform)[None]
        latents = audio_vae.encode(waveform_BN)
        magnitude_BKL = audio_vae.decode_magnitude(latents)
        before, after = audio_vae.mel(waveform_BN), audio_vae.mel(audio_vae.decode(latents))
        inverted = audio_vae.spectrogram.magnitude_to_log_mel(magnitude_BKL)
        mel_l1 += (before - after).abs().mean().item() / len(waveforms)
        spectrum_l1 += (before - inverted).abs().mean().item() / len(waveforms)
    return {
        "psnr": -10 * math.log10(squared),
        "psnr_moving": -10 * math.log10(moving_squared / max(moving, 1)),
        "mel_l1": mel_l1,
        "spectrum_l1": spectrum_l1,
    }


def _as_frames(pixels_BHWC: np.ndarray) -> Tensor:
    """uint8 pixels to -1..1, channels first."""
    return from_pixels(pixels_BHWC)


def _detail(frames_BCHW: Tensor) -> Tensor:
    """1 where a pixel's 3x3 surroundings span more than a tenth of the range, else 0: [B, 1, H, W]."""
    highest, lowest = F.max_pool2d(frames_BCHW, 3, 1, 1), -F.max_pool2d(-frames_BCHW, 3, 1, 1)
    return ((highest - lowest).amax(1, keepdim=True) > 0.2).float()


def _normalised(raw: Tensor) -> Tensor:
    """Latents normalised per channel over the batch."""
    axes = [axis for axis in range(raw.ndim) if axis != 1]
    mean, std = raw.mean(axes, keepdim=True), raw.std(axes, keepdim=True)
    return (raw - mean) / (std + 1e-5)


def _set_latent_scale(vae: TinyVideoVAE | TinyAudioVAE, raw: Tensor) -> None:
    axes = [axis for axis in range(raw.ndim) if axis != 1]
    vae.latent_mean.copy_(raw.mean(axes))
    vae.latent_std.copy_(raw.std(axes))


def _picture_loss(error_BCHW: Tensor, weight_B1HW: Tensor, edge_weight: float) -> Tensor:
    """Weighted absolute error, plus that of the differences between neighbours, which keeps edges sharp."""
    across, down = error_BCHW.diff(dim=3), error_BCHW.diff(dim=2)
    edges = (across.abs() * weight_B1HW[..., 1:]).mean() + (down.abs() * weight_B1HW[..., 1:, :]).mean()
    return ((error_BCHW.abs() * weight_B1HW).mean() + edge_weight * edges) / weight_B1HW.mean()


def _spectrum_loss(vae: TinyAudioVAE, decoded_BKL: Tensor, target_BKL: Tensor, mel_BML: Tensor) -> Tensor:
    """Absolute error of the log spectrum and of the log-mel that it gives; what is louder weighs more."""
    decoded_mel_BML = vae.spectrogram.magnitude_to_log_mel(decoded_BKL.clamp(max=3).exp())
    spectrum_error = (decoded_BKL - target_BKL).abs() * _loudness_weight(target_BKL)
    mel_error = (decoded_mel_BML - mel_BML).abs() * _loudness_weight(mel_BML)
    return spectrum_error.mean() + mel_error.mean()


def _loudness_weight(level: Tensor) -> Tensor:
    """From 0.5 at the floor to 4 at full scale."""
    return 0.5 + 3.5 * (1 - level / math.log(FLOOR))


def _optimisers(vae: nn.Module, config: AutoencoderTraining) -> list[torch.optim.Optimizer]:
    """Muon for the wide convolutions, AdamW for the rest."""
    params = list(vae.parameters())
    wide = [p for p in params if p.ndim > 1 and min(p.shape[:2]) >= 32]
    wide_ids = {id(p) for p in wide}
    rest = [p for p in params if id(p) not in wide_ids]
    adamw = torch.optim.AdamW(rest, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=0.0)
    return [Muon(wide, lr=config.matrix_lr), adamw]


def _run(
    name: str,
    steps: int,
    optimisers: list[torch.optim.Optimizer],
    loss_of_batch: Callable[[], Tensor],
    progress: Progress | None,
) -> None:
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            o, lambda step: min(1.0, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        for o in optimisers
    ]
    started, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        loss = loss_of_batch()
        loss.backward()
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
        recent += (loss.item() - recent) / min(step, 50)
        if step % 100 == 0 or step == steps:
            logger.info("%s step %d/%d loss %.4f, %.0f s", name, step, steps, recent, time.monotonic() - started)
        if progress is not None:
            progress(name, step, steps, loss.item())
