"""UniAVGen's sound: a normalised log mel in, Qwen2.5-Omni's vocoder out. The mel itself is the latent.

Legend: B batch, M mel bands, L mel frames, N samples.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .audio import MelConverter
from .interface import AudioAutoencoder
from .lengths import check_num_samples
from .vocoder import Vocoder, anti_alias_filter

SAMPLE_RATE, HOP, TOP_HZ, NUM_MELS = 24000, 240, 8000.0, 80
MEL_MEAN, MEL_STD = -5.1753, 2.1544
PEAK = 0.999146  # that sounds are scaled to before they are read
LOUDEST_DB, RANGE_DB = 20.0, 115.0  # what the vocoder takes for 0 dB, and from there down
QWEN_VOCODER = {
    "num_mels": NUM_MELS,
    "upsample_rates": [5, 3, 2, 2, 2, 2],
    "upsample_kernel_sizes": [11, 7, 4, 4, 4, 4],
    "upsample_initial_channel": 1536,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "plain_end": True,
}


class MelCodec(AudioAutoencoder):
    """Latents [B, 80, L] at 100 Hz of sound at 24 kHz. Silence is one constant in all of them.

    Args:
        vocoder: arguments of `Vocoder`.
    """

    def __init__(self, vocoder: dict[str, Any] | None = None) -> None:
        super().__init__()
        vocoder = vocoder or QWEN_VOCODER
        self.config = {"vocoder": vocoder}
        self.latent_channels, self.sample_rate, self.samples_per_latent = NUM_MELS, SAMPLE_RATE, HOP
        self.mel_converter = MelConverter(NUM_MELS, SAMPLE_RATE, HOP, TOP_HZ)
        self.vocoder = Vocoder(**vocoder)
        for name, buffer in self.vocoder.named_buffers():
            if name.endswith("filter"):
                buffer.copy_(anti_alias_filter())

    def mel(self, waveform_BN: Tensor) -> Tensor:
        """Natural logarithm of the mel spectrogram, [B, M, N / 240]."""
        return self.mel_converter(waveform_BN) * math.log(10)

    def encode(self, waveform_BN: Tensor) -> Tensor:
        """A waveform, scaled to its peak first unless it is silent, to latents [B, 80, N / 240].

        Raises:
            ValueError: N is no multiple of 240.
        """
        check_num_samples(waveform_BN.shape[-1], HOP)
        waveform_BN = waveform_BN.to(self.mel_converter.hann_window.device)
        loudest_B1 = waveform_BN.abs().amax(dim=-1, keepdim=True)
        scaled_BN = torch.where(loudest_B1 > 0, waveform_BN * (PEAK / loudest_B1), waveform_BN)
        return (self.mel(scaled_BN) - MEL_MEAN) / MEL_STD

    def decode(self, latents_BCT: Tensor) -> Tensor:
        """Latents to a waveform [B, 240 T] in -1..1."""
        mel_BML = latents_BCT.to(self.vocoder.conv_pre.weight) * MEL_STD + MEL_MEAN
        return self.vocoder(vocoder_scale(mel_BML))


def vocoder_scale(mel_BML: Tensor) -> Tensor:
    """Log mel to the decibels, brought to -1..1, that the vocoder reads."""
    decibels = (mel_BML * (20 / math.log(10))).clamp(min=-RANGE_DB) - LOUDEST_DB
    return (2 * (decibels + RANGE_DB) / RANGE_DB - 1).clamp(-1, 1)
