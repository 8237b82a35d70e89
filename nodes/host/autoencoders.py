"""Our small autoencoders as ComfyUI VAEs, and any VAE pair as what a clip needs of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import ceil
from typing import Any

import comfy.model_management
import comfy.sd
import torch
from comfy.model_patcher import CoreModelPatcher
from torch import Tensor, nn
from torch.nn.functional import pad

from ...harmony_core.autoencoders.interface import AudioAutoencoder
from ...harmony_core.autoencoders.mel import Spectrogram
from ...harmony_core.autoencoders.tiny import (
    FRAMES_PER_LATENT,
    PIXELS_PER_LATENT,
    ResidualBlock,
    TinyVideoVAE,
)
from ...harmony_core.autoencoders.vocoder import ResidualStack
from ...harmony_core.config import HarmonyConfig
from ...harmony_core.geometry import as_fraction
from ...harmony_core.presets import PRESETS
from .av_models import native_audio
from .interrupts import stop_before

VIDEO_DIM = 3  # of a video autoencoder's latents: time, height, width
WAN22_CHANNELS, MMAUDIO_CHANNELS = 48, 20
LTX_VIDEO_CHANNELS, LTX_AUDIO_CHANNELS = 128, 8
DECODE_BYTES_PER_PIXEL = 400  # activations of the widest decoder stage
DECODE_BYTES_PER_SAMPLE = 60
VOCODER_BYTES_PER_SAMPLE = 1000  # of a full-size BigVGAN, whose activations run at twice the rate
STOPPABLE = ResidualBlock, Spectrogram, ResidualStack
AUDIO_MARGIN_S = 1  # of sound that a chunk hears on either side of its own

# Only the lengths of this one are read: LTX-2 is ComfyUI's own model.
LTX2 = PRESETS["wan2.2-ti2v-5b"].with_(
    video_channels=LTX_VIDEO_CHANNELS,
    audio_channels=LTX_AUDIO_CHANNELS,
    temporal_stride=8,
    spatial_stride=32,
    patch_size=(1, 1, 1),
    fps="25",
    seconds="121/25",
    width=768,
    height=512,
    sample_rate=24000,
    audio_latent_rate="25",
)
# by a core autoencoder's number of latent dimensions and channels
CLIPS = {
    (VIDEO_DIM, WAN22_CHANNELS): PRESETS["harmony-5b"],
    (1, MMAUDIO_CHANNELS): PRESETS["harmony-5b"],
    (VIDEO_DIM, LTX_VIDEO_CHANNELS): LTX2,
    (2, LTX_AUDIO_CHANNELS): LTX2,
}


class VideoStage(nn.Module):
    """TinyVideoVAE for frame counts that ComfyUI may pass."""

    def __init__(self, model: TinyVideoVAE) -> None:
        super().__init__()
        self.model = model

    def encode(self, video_BCFHW: Tensor, *_: Any, **__: Any) -> Tensor:
        frames = video_BCFHW.shape[2]
        return self.model.encode(video_BCFHW[:, :, : frames - (frames - 1) % FRAMES_PER_LATENT])

    def decode(self, latents: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.model.decode(latents)


class AudioStage(nn.Module):
    """An audio autoencoder of ours with ComfyUI's channel axis: [B, 1, N]."""

    def __init__(self, model: AudioAutoencoder) -> None:
        super().__init__()
        self.model = model

    def encode(self, waveform_BCN: Tensor, *_: Any, **__: Any) -> Tensor:
        missing = -waveform_BCN.shape[-1] % self.model.samples_per_latent
        return self.model.encode(pad(waveform_BCN.mean(1), (0, missing)))

    def decode(self, latents: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.model.decode(latents)[:, None]


class BundleVAE(comfy.sd.VAE):
    """What both have in common. `harmony` tells the nodes which lengths belong to it."""

    def __init__(self, stage: VideoStage | AudioStage, harmony: HarmonyConfig) -> None:
        with _without_empty_vae_warning():
            super().__init__(sd={})
        self.harmony = harmony
        self.first_stage_model = stage.eval()
        stop_before(part for part in stage.modules() if isinstance(part, STOPPABLE))
        self.latent_channels = stage.model.latent_channels
        self.working_dtypes = [torch.float32]
        self.vae_dtype = torch.float32
        self.device = comfy.model_management.vae_device()
        self.output_device = comfy.model_management.intermediate_device()
        self.first_stage_model.to(self.vae_dtype)
        comfy.model_management.archive_model_dtypes(self.first_stage_model)
        self.patcher = CoreModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=comfy.model_management.vae_offload_device()
        )
        self.model_size()

    def get_sd(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """What ComfyUI saves: under the bundle's names, and as files keep it (some weights lie channels last)."""
        return {key: value.contiguous() for key, value in self.first_stage_model.model.state_dict().items()}


class BundleVideoVAE(BundleVAE):
    def __init__(self, model: TinyVideoVAE, harmony: HarmonyConfig) -> None:
        super().__init__(VideoStage(model), harmony)
        self.tiny = model
        stride, size = FRAMES_PER_LATENT, PIXELS_PER_LATENT
        self.latent_dim = 3
        self.upscale_ratio = (lambda frames: max(0, frames * stride - stride + 1), size, size)
        self.upscale_index_formula = (stride, size, size)
        self.downscale_ratio = (lambda frames: (frames + stride - 1) // stride, size, size)
        self.downscale_index_formula = (stride, size, size)
        self.memory_used_encode = lambda shape, _: DECODE_BYTES_PER_PIXEL * shape[2] * shape[3] * shape[4]
        self.memory_used_decode = lambda shape, _: (
            DECODE_BYTES_PER_PIXEL * stride * shape[2] * size * size * shape[3] * shape[4]
        )

    def preview(self, latents_BCTHW: Tensor) -> Tensor:
        """A picture [B,3,1,H,W] in -1..1 of a latent frame's last slot; quick enough for every step."""
        slot = latents_BCTHW[:, -self.tiny.config["channels"] :, 0]
        return self.tiny.decode_frames(slot.to(self.tiny.latent_mean)).unsqueeze(2)


class BundleAudioVAE(BundleVAE):
    def __init__(
        self, model: AudioAutoencoder, harmony: HarmonyConfig, bytes_per_sample: int = DECODE_BYTES_PER_SAMPLE
    ) -> None:
        super().__init__(AudioStage(model), harmony)
        self.latent_dim = 1
        self.output_channels = 1
        self.crop_input = False
        self.audio_sample_rate = model.sample_rate
        self.upscale_ratio = self.downscale_ratio = model.samples_per_latent
        self.process_input = self.process_output = lambda audio: audio
        self.memory_used_encode = lambda shape, _: DECODE_BYTES_PER_SAMPLE * shape[2]
        self.memory_used_decode = lambda shape, _: bytes_per_sample * shape[2] * model.samples_per_latent

    def vae_encode_crop_pixels(self, pixels: Tensor, *_: Any, **__: Any) -> Tensor:
        """[B, N, channels] to mono: ComfyUI would keep the first channel alone."""
        return pixels.mean(-1, keepdim=True)


def vae_config(vae: Any) -> HarmonyConfig | None:
    """Which checkpoint's lengths belong to an autoencoder; None if neither Harmony nor LTX-2 uses it."""
    return vae.harmony if isinstance(vae, BundleVAE) else CLIPS.get((vae.latent_dim, vae.latent_channels))


def clip_config(vae: Any, audio_vae: Any) -> HarmonyConfig:
    """Which checkpoint's lengths belong to a pair of autoencoders.

    Raises:
        ValueError: a pair that no model uses, or the wrong way round.
    """
    check_pair(vae, audio_vae)
    config, own = vae_config(vae), vae_config(audio_vae)
    # Several models have Wan2.2's video autoencoder, so there the sound's says which.
    shared = not isinstance(vae, BundleVAE) and own is not None and own.video_channels == vae.latent_channels
    if config is None or own is None or not (own == config or shared):
        raise ValueError(
            f"A VAE of {vae.latent_channels} channels and an audio VAE of {audio_vae.latent_channels} do not belong "
            "together; take both from HarmonyCheckpointLoader, or Wan2.2's VAE and MMAudio's 16 kHz one (UniAVGen: its "
            "vocoder, from Harmony Audio VAE Loader), or LTX-2's."
        )
    return own


def check_pair(vae: Any, audio_vae: Any) -> None:
    """Raises ValueError unless the first autoencoder is of pictures and the second of sound."""
    for name, each in (("vae", vae), ("audio_vae", audio_vae)):
        if each.first_stage_model is None:  # core's Load Checkpoint found nothing that it knows
            raise ValueError(
                f"There is no autoencoder in what is connected to the {name} input; take the {name} of Harmony "
                "Checkpoint Loader (core's Load Checkpoint does not find a Harmony file's), or core's Load VAE."
            )
    if vae.latent_dim != VIDEO_DIM or audio_vae.latent_dim == VIDEO_DIM:
        kinds = ["a video" if each.latent_dim == VIDEO_DIM else "no video" for each in (vae, audio_vae)]
        raise ValueError(
            f"vae holds {kinds[0]} autoencoder and audio_vae {kinds[1]} autoencoder; connect the model's video VAE to "
            "vae and its audio VAE to audio_vae (are the two swapped?)."
        )


def audio_latent_rate(audio_vae: Any) -> Fraction:
    """Audio latents per second. Raises ValueError for an autoencoder that no model uses."""
    native = native_audio(audio_vae)
    if native is not None:
        return native.audio_rate
    config = vae_config(audio_vae)
    if config is None:
        raise ValueError(
            f"An audio VAE of {audio_vae.latent_channels} channels belongs to no Harmony model; "
            "use the checkpoint's own, MMAudio's 16 kHz one, or Harmony Audio VAE Loader's."
        )
    return as_fraction(config.audio_latent_rate)


def output_rate(audio_vae: Any) -> int:
    """Samples per second of what an audio autoencoder decodes to."""
    return int(getattr(audio_vae, "audio_sample_rate_output", audio_vae.audio_sample_rate))


def encode_frames(vae: Any, images_FHWC: Tensor) -> Tensor:
    """Pictures in 0..1, one clip whose length the autoencoder takes, to latents [1,C,T_v,h,w]."""
    return vae.encode(images_FHWC[..., :3])


def encode_waveform(audio_vae: Any, waveform_BCN: Tensor, num_latents: int) -> Tensor:
    """A waveform at the VAE's own rate, cut or followed by silence, to exactly `num_latents` latents."""
    unit = audio_vae.downscale_ratio if audio_vae.crop_input else 1  # else ComfyUI crops at both ends
    needed = ceil(num_latents * audio_vae.audio_sample_rate / audio_latent_rate(audio_vae))
    heard_BCN = waveform_BCN[..., :needed]
    samples = ceil(needed / unit) * unit
    latents = audio_vae.encode(pad(heard_BCN, (0, samples - heard_BCN.shape[-1])).movedim(1, -1))
    native = native_audio(audio_vae)
    return latents.narrow(native.audio_time if native else 2, 0, num_latents)


def decode_frames(vae: Any, latents: Tensor, chunk: int = 0, tile: int = 0) -> Tensor:
    """Latents to pictures in 0..1, [B,F,H,W,3].

    Args:
        chunk: latents decoded at once, 0 for all. Exact where latents are independent (ours); not needed by Wan2.2,
            whose decoder goes latent by latent; others blend chunks that overlap by a quarter.
        tile: side in pixels of overlapping tiles that are blended; 0 for whole pictures.
    """
    if isinstance(vae, BundleVideoVAE) and chunk and not tile:
        starts = range(0, latents.shape[2], chunk)
        images = torch.cat([_decode_chunk(vae, latents, start, chunk) for start in starts], 1)
    elif tile or (chunk and vae.latent_channels != WAN22_CHANNELS):
        side = max(2, tile // _pixels_per_latent(vae)) if tile else max(latents.shape[3:])
        span = chunk if chunk and vae.latent_channels != WAN22_CHANNELS else latents.shape[2]
        images = vae.decode_tiled(
            latents, tile_x=side, tile_y=side, overlap=side // 4, tile_t=span, overlap_t=max(1, span // 4)
        )
    else:
        images = vae.decode(latents)
    return images if images.ndim == 5 else images.unflatten(0, (len(latents), -1))


def _pixels_per_latent(vae: Any) -> int:
    return vae.spacial_compression_decode()


def _decode_chunk(vae: BundleVideoVAE, latents: Tensor, start: int, chunk: int) -> Tensor:
    """One chunk's pictures. The latent before it goes first, since a clip's first latent holds one frame only."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    before = min(start, 1)
    images = vae.decode(latents[:, :, start - before : start + chunk])
    return images[:, before:]


def decode_waveform(audio_vae: Any, latents: Tensor, chunk_seconds: Fraction = Fraction(0)) -> tuple[Tensor, int]:
    """Latents to a waveform [B,C,N] and its rate in Hz.

    Args:
        chunk_seconds: decoded at once, 0 for all. For MMAudio's decoder, whose vocoder is wide: a chunk also hears a
            second on either side, and neighbours fade into each other. Ours and LTX-2's decode whole: one finds its
            phases over the whole clip, the other's first latent is shorter than the rest.
    """
    rate = output_rate(audio_vae)
    if not chunk_seconds or isinstance(audio_vae, BundleAudioVAE) or latents.ndim != 3:
        return _decode_audio(audio_vae, latents), rate
    latent_rate = audio_latent_rate(audio_vae)
    samples_per_latent = rate / latent_rate
    unit = samples_per_latent.denominator  # so many latents make whole samples: chunks begin between two
    chunk, margin = (ceil(seconds * latent_rate / unit) * unit for seconds in (chunk_seconds, AUDIO_MARGIN_S))
    waveform = _decode_audio(audio_vae, latents[..., : chunk + margin])
    for start in range(chunk, latents.shape[2], chunk):
        first = max(start - margin, 0)
        part = _decode_audio(audio_vae, latents[..., first : start + chunk + margin])
        part = part[..., int((start - first) * samples_per_latent) :]
        at, fade = int(start * samples_per_latent), min(int(unit * samples_per_latent), part.shape[-1])
        seam = waveform[..., at : at + fade].lerp(part[..., :fade], torch.linspace(0, 1, fade).to(part))
        waveform = torch.cat((waveform[..., :at], seam, part[..., fade:]), -1)
    return waveform, rate


def _decode_audio(audio_vae: Any, latents: Tensor) -> Tensor:
    comfy.model_management.throw_exception_if_processing_interrupted()
    return audio_vae.decode(latents).movedim(-1, 1).float()


@contextmanager
def _without_empty_vae_warning() -> Iterator[None]:
    """ComfyUI's VAE warns when it is built without weights; ours get their model right afterwards."""

    def keep(record: logging.LogRecord) -> bool:
        return "No VAE weights detected" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
