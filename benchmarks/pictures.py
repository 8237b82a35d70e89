"""The README's pictures of what the embedded checkpoint makes.

    python -m benchmarks.pictures [--output docs/images]

samples.png: six clips, every third frame above a spectrogram. sync_map.png: for a ball and a face, frames, then what
the sound attends to (v2a), then what it changes (a2v).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harmony_core.benchmarks.sheet import contact_sheet
from harmony_core.model.inputs import AudioInput, VideoInput
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.sync.attention_map import SyncMap, draw_sync_map, middle_layers
from harmony_core.text.transcripts import tokenize_transcript

SAMPLES = (
    ("a red ball bounces on metal", "a ball hits metal", "", 3),
    ("a blue ball bounces on wood", "a ball hits wood", "", 1),
    ("a green ball bounces on glass", "a ball hits glass", "", 5),
    ("a woman with black hair in a red shirt speaks", "a woman says three words", "hello yes moon", 2),
    ("a man with brown hair in a blue shirt speaks", "a man says two words", "no wow", 4),
    ("a child with blond hair in a green shirt speaks", "a child says four words", "sun fly go me", 6),
)
MAPPED = (
    ("a red ball bounces on wood", "a ball hits wood", "", 3),
    ("a woman with blond hair talks", "a woman says two words", "hello moon", 3),
)
NOISE = 0.6  # put onto the clip before its attention is read, as Harmony Sync Map does
SIDE, FRAMES = 160, slice(2, 22, 3)


def request(video: str, audio: str, transcript: str, seed: int) -> GenerateRequest:
    return GenerateRequest(prompt=video, audio_prompt=audio, transcript=transcript, seed=seed)


def samples(pipeline: HarmonyPipeline) -> Image.Image:
    clips = pipeline.batch([request(*each) for each in SAMPLES])
    captions = [video + (f': "{transcript}"' if transcript else "") for video, _, transcript, _ in SAMPLES]
    rows = [(caption, clip.frames, clip.samples[0]) for caption, clip in zip(captions, clips, strict=True)]
    return contact_sheet(rows, every=3, scale=2)


@torch.no_grad()
def sync_maps(pipeline: HarmonyPipeline) -> Image.Image:
    config, strips = pipeline.config, []
    generator = torch.Generator().manual_seed(0)
    for video, audio, transcript, seed in MAPPED:
        clip = pipeline(request(video, audio, transcript, seed))
        noisy = [
            torch.lerp(latents, torch.randn(latents.shape, generator=generator), NOISE)
            for latents in (clip.latents_video, clip.latents_audio)
        ]
        sigmas = [torch.full((1, latents.shape[2]), NOISE) for latents in noisy]
        features, _ = pipeline.text_encoder.encode([video, audio])
        tokens, _ = tokenize_transcript(transcript, config.speech)
        frames = np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))) for frame in clip.frames])
        grid = config.grid(noisy[0].shape)
        strips.append(frames[FRAMES])
        for direction in ("v2a", "a2v"):
            with SyncMap(pipeline.transformer, direction, middle_layers(config.num_layers)) as seen:
                pipeline.transformer(
                    VideoInput(noisy[0], sigmas[0], features[:1]),
                    AudioInput(noisy[1], sigmas[1], features[1:], tokens[None]),
                )
            strength = seen.strength(grid)
            print(f"{video}, {direction}: strongest {float(strength.max()):.2f}")
            strips.append(draw_sync_map(frames, strength)[FRAMES])
    edge = ((0, 0), (2, 2), (2, 2), (0, 0))
    rows = [np.concatenate(list(np.pad(strip, edge, constant_values=250)), axis=1) for strip in strips]
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    output = parser.parse_args().output
    pipeline = HarmonyPipeline.from_file("harmony-tiny")
    samples(pipeline).save(output / "samples.png")
    sync_maps(pipeline).save(output / "sync_map.png")


if __name__ == "__main__":
    main()
