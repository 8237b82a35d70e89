"""UniAVGen at toy size in its own layout, and the parts that go with it: real classes, random weights."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from harmony_core.checkpoints.parts import PartFiles
from harmony_core.config import SpeechConfig
from harmony_core.media import AudioClip, VideoClip
from harmony_core.presets import preset
from tests.checkpoints.uniavgen_cases import FIXTURES
from tests.host.toy_weights import save_uniavgen
from tests.published import TEXT_DIM

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
RATE = 24000
OBJECTIVE = {"first_frame_share": 1, "prefix_share": 0, "text_dropout": 0.3}  # that its tasks can be trained by
GREETING = {"prompt": "a red ball", "transcript": "Hi there"}
SPEECH = SpeechConfig(vocab="f5-characters", reading="cross", min_len=10, max_len=4096, dim=16, num_blocks=1)
TOY = preset("uniavgen").with_(  # heads of 128, so that the file tells its sizes
    dim=256,
    ffn_dim=96,
    num_heads=2,
    audio_dim=128,
    audio_ffn_dim=64,
    audio_num_heads=1,
    num_layers=3,
    interaction_layers=(0, 2),
    freq_dim=32,
    text_dim=TEXT_DIM,
    speech=SPEECH,
)


def toy_files(parts: dict[str, Path], folder: Path) -> PartFiles:
    """A file as it is published, without settings, and the parts."""
    path = folder / "uniavgen.safetensors"
    save_uniavgen(TOY, [path])
    return files_with(path, parts)


def files_with(model: Path, parts: dict[str, Path]) -> PartFiles:
    """A transformer's file and the parts that go with it."""
    return PartFiles(
        model=[model],
        video_vae=parts["video_vae"],
        audio_vae=[FIXTURES / "vocoder_weights.safetensors"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
    )


def sound(seconds: float, pitch: float = 9.0) -> AudioClip:
    return AudioClip(np.sin(np.arange(int(RATE * seconds)) / pitch, dtype=np.float32)[None] / 2, RATE)


def film(frames: int = 81) -> VideoClip:
    """Pixels that change, from `PICTURE` on."""
    moved = [np.roll(PICTURE, shift, axis=1) for shift in range(frames)]
    return VideoClip(np.stack(moved), Fraction(16))
