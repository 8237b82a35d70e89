"""Driven generation from recordings unlike the training world's: does the result move in time with them?

    python -m benchmarks.unseen [--clips 16] [--output benchmarks/unseen.csv]

audio_to_video: hand claps (bursts of filtered noise at irregular times) drive a ball; sentences that espeak-ng speaks
in voices and words that no recording of the toy world has drive a face (skipped without the program).
video_to_audio: a ball of another colour and path, with its own gravity, filmed at 30 fps and 120x90, drives the sound.
Each is scored against the same pictures and sounds shuffled.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import subprocess
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from harmony_core.benchmarks.quality import bootstrap_interval
from harmony_core.media import AudioClip, VideoClip, fit_audio
from harmony_core.pipelines import GenerateRequest, Generation, HarmonyPipeline
from harmony_core.toyworld.measures.impacts import impact_scores
from harmony_core.toyworld.measures.mouths import mouth_correlation

SECONDS, FPS, RATE = 2.0, 12.5, 16000
SENTENCES = ("good morning", "seven apples", "one two three", "see you later", "open the door", "winter is cold")
VOICES = ("en-gb-scotland+m7", "en-us+f5", "en-gb+croak", "en-us+m2")


def claps(rng: np.random.Generator) -> AudioClip:
    """Three to five bursts of high-passed noise, 44.1 kHz stereo, 0.36 to 0.7 s apart."""
    rate = 44100
    samples = rng.normal(0, 2e-4, round(SECONDS * rate))
    at = rng.uniform(0.15, 0.45)
    while at < 1.75:
        burst = np.diff(rng.normal(0, 1, 3001)) * np.exp(-np.arange(3000) / 500)
        start = round(at * rate)
        samples[start : start + 3000] += 0.35 * burst
        at += rng.uniform(0.38, 0.68)
    return AudioClip(np.stack([samples, samples]).astype(np.float32).clip(-1, 1), rate, "claps")


def speech(index: int) -> AudioClip:
    """A sentence by espeak-ng in a voice that no recorded word has."""
    command = [
        "espeak-ng",
        "-v",
        VOICES[index % len(VOICES)],
        "-s",
        "150",
        "--stdout",
        SENTENCES[index % len(SENTENCES)],
    ]
    spoken = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        rate, samples = file.getframerate(), np.frombuffer(file.readframes(1 << 30), np.int16) / 32768
    padded = np.zeros(round(SECONDS * rate))
    samples = samples[: len(padded) - rate // 4]
    padded[rate // 4 : rate // 4 + len(samples)] = samples
    return AudioClip(padded[None].astype(np.float32), rate, "speech")


def strange_ball(rng: np.random.Generator) -> VideoClip:
    """A teal ball on a plain floor: 120x90 at 30 fps, with a gravity of its own."""
    fps, width, height, radius, floor = 30, 120, 90, 12, 74
    flight, phase = rng.uniform(0.45, 0.68), rng.uniform(0, 0.45)
    rows, columns = np.mgrid[:height, :width]
    frames = []
    for index in range(round(SECONDS * fps)):
        share = ((index / fps + phase) % flight) / flight
        centre = floor - radius - 44 * 4 * share * (1 - share)
        picture = np.full((height, width, 3), (236, 228, 214), np.float64)
        picture[rows >= floor] = (150, 104, 66)
        inside = np.clip(radius + 0.5 - np.hypot(rows - centre, columns - width / 2), 0, 1)[..., None]
        frames.append(picture * (1 - inside) + inside * np.array((30, 120, 200)))
    return VideoClip(np.stack(frames).astype(np.uint8), Fraction(fps), "strange ball")


def impacts(pictures: list[np.ndarray], sounds: list[np.ndarray]) -> Iterable[dict[str, float]]:
    return (impact_scores(p, s, FPS, RATE) for p, s in zip(pictures, sounds, strict=True))


def mouths(pictures: list[np.ndarray], sounds: list[np.ndarray]) -> Iterable[dict[str, float]]:
    return ({"mouth_r": mouth_correlation(p, s, FPS)} for p, s in zip(pictures, sounds, strict=True))


def given_sound(requests: list[GenerateRequest], made: list[Generation]) -> list[np.ndarray]:
    """The driving sounds as the model heard them, before the autoencoder."""
    return [
        fit_audio(request.audio, len(clip.samples[0]), clip.sample_rate)[0]
        for request, clip in zip(requests, made, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/unseen.csv"))
    parser.add_argument("--model", default="harmony-tiny")
    arguments = parser.parse_args()
    pipeline = HarmonyPipeline.from_file(arguments.model)
    prompts = {
        "claps": ("a red ball bounces on wood", "a ball hits wood"),
        "speech": ("a woman with black hair in a red shirt speaks", "a woman speaks"),
        "strange_ball": ("a blue ball bounces on wood", "a ball hits wood"),
    }
    rng = np.random.default_rng(7)
    rows = []
    for case, (prompt, audio_prompt) in prompts.items():
        if case == "speech" and shutil.which("espeak-ng") is None:
            print("speech: skipped, espeak-ng is not installed")
            continue
        requests = []
        for index in range(arguments.clips):
            media = {
                "claps": lambda: {"audio": claps(rng)},
                "speech": lambda index=index: {"audio": speech(index)},
                "strange_ball": lambda: {"video": strange_ball(rng)},
            }[case]()
            requests.append(
                GenerateRequest(prompt=prompt, audio_prompt=audio_prompt, seconds=SECONDS, seed=index, **media)
            )
        made = pipeline.batch(requests)
        pictures = [clip.frames for clip in made]
        sounds = [clip.samples[0] for clip in made] if case == "strange_ball" else given_sound(requests, made)
        score = mouths if case == "speech" else impacts
        for pairing, heard in (("driven", sounds), ("shuffled", sounds[1:] + sounds[:1])):
            scores = list(score(pictures, heard))
            for metric in scores[0]:
                values = [each[metric] for each in scores]
                low, high = bootstrap_interval(values, seed=0)
                numbers = {"mean": np.mean(values), "low": low, "high": high}
                row = {"case": case, "pairing": pairing, "metric": metric, "clips": len(values)}
                rows.append(row | {name: round(float(value), 4) for name, value in numbers.items()})
                print(rows[-1])
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
