"""The sound of a scene: impacts, words, ticks. Mono float32 at 16 kHz in -1..1."""

from __future__ import annotations

import numpy as np

from .scenes import BOUNCE_SECONDS, FPS, NUM_FRAMES, SECONDS, BallScene, FaceScene, Scene
from .words import SAMPLE_RATE, WORDS, recording

NUM_SAMPLES = round(SECONDS * SAMPLE_RATE)
TAIL_S = 0.3
# Resonances of each floor: (Hz, decay in s, weight).
_MODES = {
    "wood": ((310, 0.030, 1.0), (690, 0.022, 0.8), (1180, 0.014, 0.5)),
    "metal": ((1150, 0.080, 0.6), (1930, 0.100, 0.9), (2870, 0.075, 0.7), (4350, 0.050, 0.4)),
    "rubber": ((85, 0.055, 1.2), (150, 0.030, 0.6)),
    "glass": ((3350, 0.045, 0.7), (4720, 0.055, 0.8), (6150, 0.040, 0.6), (7350, 0.025, 0.4)),
}
# The knock itself: (lowest Hz, highest Hz, decay in s, weight) of a burst of noise.
_KNOCKS = {
    "wood": (200, 2600, 0.010, 0.9),
    "metal": (900, 7500, 0.004, 0.5),
    "rubber": (40, 700, 0.012, 0.5),
    "glass": (2500, 7900, 0.006, 0.6),
}


def _band_noise(rng: np.random.Generator, num_samples: int, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * ((frequency >= low) & (frequency <= high)), num_samples)
    return noise / noise.std()


def impact(material: str, pitch: float, strength: float, rng: np.random.Generator) -> np.ndarray:
    """One impact of `strength` 0..1: float64 [TAIL_S * 16 kHz], silent again at its end."""
    num_samples = round(TAIL_S * SAMPLE_RATE)
    t = np.arange(num_samples) / SAMPLE_RATE
    sound = np.zeros(num_samples)
    for frequency, decay, weight in _MODES[material]:
        frequency = min(frequency * pitch, 7900)
        sound += weight * rng.uniform(0.85, 1.15) * np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t)
    low, high, decay, weight = _KNOCKS[material]
    sound += weight * 0.6 * np.exp(-t / decay) * _band_noise(rng, num_samples, low, high)
    fade = np.clip((TAIL_S - t) / 0.12, 0, 1)
    sound *= np.clip(t / 0.0008, 0, 1) * (0.5 - 0.5 * np.cos(np.pi * fade))
    energy = np.sqrt((sound[: SAMPLE_RATE // 20] ** 2).mean())
    # Low tones sound weaker at equal energy.
    level = {"rubber": 0.24, "wood": 0.17, "metal": 0.16, "glass": 0.14}[material]
    return sound * (level * strength / energy)


def _tick(rng: np.random.Generator) -> np.ndarray:
    t = np.arange(round(0.03 * SAMPLE_RATE)) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 5200 * t) + 0.6 * np.sin(2 * np.pi * 6900 * t)
    return 0.28 * np.exp(-t / 0.004) * tone * np.clip(t / 0.0005, 0, 1) * rng.uniform(0.9, 1.1)


def _add(audio: np.ndarray, sound: np.ndarray, seconds: float) -> None:
    start = round(seconds * SAMPLE_RATE)
    audio[start : start + len(sound)] += sound[: max(0, len(audio) - start)]


def scene_rng(scene: Scene) -> np.random.Generator:
    """The generator of what a scene leaves open, such as an impact's noise: a function of the scene alone."""
    times = scene.impact_times if isinstance(scene, BallScene) else scene.tick_times
    marks = (*times, scene.x)
    return np.random.default_rng([round(mark * 10_000) for mark in marks])


def impact_strengths(scene: BallScene) -> tuple[float, ...]:
    """Impact speed over the highest possible one, which is proportional to the flight before it."""
    flights = dict(zip(scene.bounce_times[1:], np.diff(scene.bounce_times), strict=True))
    return tuple(float(flights[t]) / BOUNCE_SECONDS[1] for t in scene.impact_times)


def speech_audio(scene: FaceScene) -> np.ndarray:
    """The words alone: float64 [32000]."""
    audio = np.zeros(NUM_SAMPLES)
    for word, seconds in zip(scene.words, scene.word_times, strict=True):
        _add(audio, scene.loudness * recording(scene.voice, word), seconds)
    return audio


def scene_audio(scene: Scene) -> np.ndarray:
    """Everything that is heard: float32 [32000]."""
    rng = scene_rng(scene)
    if isinstance(scene, BallScene):
        audio = np.zeros(NUM_SAMPLES)
        for seconds, strength in zip(scene.impact_times, impact_strengths(scene), strict=True):
            _add(audio, impact(scene.material, scene.pitch, strength, rng), seconds)
    else:
        audio = speech_audio(scene)
        for seconds in scene.tick_times:
            _add(audio, _tick(rng), seconds)
    return np.clip(audio, -1, 1).astype(np.float32)


def mouth_openness(scene: FaceScene) -> np.ndarray:
    """How far the mouth is open in each frame, 0..1, from the loudness of the words around it: float32 [25].

    A frame shows the moment of its own timestamp i / fps. The RMS is taken over a Hann window two frames wide.
    """
    step = round(SAMPLE_RATE / float(FPS))
    window = np.hanning(2 * step + 1)
    power = np.pad(speech_audio(scene) ** 2, step)
    rms = [np.sqrt((power[i * step : (i + 2) * step + 1] * window).sum() / window.sum()) for i in range(NUM_FRAMES)]
    return np.clip((np.array(rms) / 0.2) ** 0.7, 0, 1).astype(np.float32)


def reference_audio(scene: Scene, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A sample of the scene's voice or material that is not in the scene: float32 [seconds * 16 kHz].

    Another word of the same voice, or another impact on the same floor; silence for a still scene.
    """
    audio = np.zeros(round(seconds * SAMPLE_RATE))
    if isinstance(scene, BallScene):
        if scene.impact_times:
            strength = rng.uniform(BOUNCE_SECONDS[0] / BOUNCE_SECONDS[1], 1.0)
            _add(audio, impact(scene.material, scene.pitch, strength, rng), 0.02)
    elif scene.words:
        others = [word for word in WORDS if word not in scene.words]
        _add(audio, scene.loudness * recording(scene.voice, others[rng.integers(len(others))]), 0.02)
    return np.clip(audio, -1, 1).astype(np.float32)
