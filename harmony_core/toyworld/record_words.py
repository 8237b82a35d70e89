"""Build-time only: record every word in every voice with espeak-ng into `assets/words.npz`.

    python -m harmony_core.toyworld.record_words

Needs the program espeak-ng on PATH; the shipped file came from 1.51. Nothing else in the package runs this module.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave

import numpy as np

from .words import PERSON_OF_VOICE, SAMPLE_RATE, WORDS, WORDS_FILE

# espeak-ng variant, pitch (0..99), words a minute, and how much faster it is played back, which raises the formants
# of the children with their pitch. Median pitch: 85, 140, 158, 233, 286 and 421 Hz.
ESPEAK_VOICES = {
    "man_deep": ("m7", 30, 200, 1.0),
    "man_bright": ("boris", 85, 200, 1.0),
    "woman_warm": ("steph", 40, 210, 1.0),
    "woman_clear": ("linda", 55, 200, 1.0),
    "child_low": ("f2", 75, 175, 1.2),
    "child_high": ("f5", 99, 175, 1.25),
}
LONGEST_S = 0.36
LOUDNESS = 0.14  # RMS of the loudest 100 ms
PEAK = 0.6


def speak(word: str, variant: str, pitch: int, rate: int, speed: float) -> np.ndarray:
    """One word from espeak-ng: float64 [samples] at 16 kHz."""
    command = ["espeak-ng", "-v", f"en-us+{variant}", "-p", str(pitch), "-s", str(rate), "--stdout", word]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(-1), dtype="<i2") / 32768
        return resample(samples, file.getframerate() * speed)


def resample(samples: np.ndarray, rate: float) -> np.ndarray:
    """Band-limited resampling to 16 kHz through the Fourier transform."""
    seconds = len(samples) / rate
    spectrum = np.fft.rfft(samples)
    length = round(seconds * SAMPLE_RATE)
    return np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(samples))


def frame_rms(samples: np.ndarray, seconds: float) -> np.ndarray:
    """RMS in a sliding window of `seconds`, one value a sample."""
    width = round(seconds * SAMPLE_RATE)
    return np.sqrt(np.convolve(samples**2, np.ones(width) / width, mode="same").clip(0))


def tidy(samples: np.ndarray) -> np.ndarray:
    """Trim the silence, cut at LONGEST_S, fade both ends, and bring to LOUDNESS (peaks held under PEAK)."""
    level = frame_rms(samples, 0.01)
    loud = np.flatnonzero(level > 0.06 * level.max())
    samples = samples[loud[0] : loud[-1] + 1][: round(LONGEST_S * SAMPLE_RATE)].copy()
    rise, fall = round(0.004 * SAMPLE_RATE), round(0.03 * SAMPLE_RATE)
    samples[:rise] *= np.linspace(0, 1, rise)
    samples[-fall:] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, fall))
    samples *= LOUDNESS / frame_rms(samples, 0.1).max()
    return samples * min(1.0, PEAK / np.abs(samples).max())


def main() -> None:
    """Write `assets/words.npz`: `samples` int16 [all], `lengths` int32 [words], `keys` "voice/word,...", `about`."""
    if shutil.which("espeak-ng") is None:
        raise SystemExit("record_words needs the program espeak-ng on PATH; install it with your package manager.")
    recordings = {
        f"{voice}/{word}": np.round(tidy(speak(word, *ESPEAK_VOICES[voice])) * 32767).astype(np.int16)
        for voice in PERSON_OF_VOICE
        for word in WORDS
    }
    version = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    np.savez_compressed(
        WORDS_FILE,
        samples=np.concatenate(list(recordings.values())),
        lengths=np.array([len(samples) for samples in recordings.values()], dtype=np.int32),
        keys=np.array(",".join(recordings)),
        about=np.array(
            "Synthesised with " + version.split("  Data")[0] + ", a GPL program whose output is not GPL. 16 kHz."
        ),
    )


if __name__ == "__main__":
    main()
