"""Films of a look and a voice that the embedded checkpoint does not know, to try a LoRA with.

    python -m tools.own_clips --clips 96 -o out/own

The procedural world, but what captions call red is turquoise, and the man speaks with a metallic voice (his own,
ring-modulated). Captions and transcripts are as ever: "a red ball", "a man says two words". As many clips again are of
other colours and persons and as they always were, so that a LoRA learns what is not to change.

The look has to be one that the autoencoder can show: the embedded checkpoint's knows six paints, turns turquoise into
teal, and shows nothing at all of a white ball.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from harmony_core.media import write_video
from harmony_core.toyworld import FPS, SAMPLE_RATE, BallScene, FaceScene, Scene, render, sample_scene
from harmony_core.toyworld.pictures import PAINTS

COLOUR, PERSON = "red", "man"
TURQUOISE = (40, 190, 200)
RING_HZ = 420.0
FIRST_SEED = 2_000_000  # neither trained on nor evaluated elsewhere


def is_new(scene: Scene) -> bool:
    """Whether the scene shows the look or has the voice."""
    return scene.colour == COLOUR if isinstance(scene, BallScene) else scene.person == PERSON and scene.shirt != COLOUR


def is_as_ever(scene: Scene) -> bool:
    """Whether nothing of the scene is new."""
    if isinstance(scene, BallScene):
        return scene.colour != COLOUR
    return scene.person != PERSON and scene.shirt != COLOUR


def new_voice(audio_N: np.ndarray) -> np.ndarray:
    """The same words at the same times and nearly as loud, in another voice."""
    ring = np.sin(2 * np.pi * RING_HZ * np.arange(len(audio_N)) / SAMPLE_RATE)
    return (audio_N * ring * np.sqrt(2)).clip(-1, 1).astype(np.float32)


def new_clip(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and sound of a scene in the new look and voice."""
    kept = PAINTS[COLOUR]
    PAINTS[COLOUR] = TURQUOISE
    try:
        clip = render(scene)
    finally:
        PAINTS[COLOUR] = kept
    speaks = isinstance(scene, FaceScene) and scene.person == PERSON
    return clip.video, new_voice(clip.audio) if speaks else clip.audio


def scenes(count: int, new: bool, first_seed: int = FIRST_SEED) -> list[Scene]:
    """Balls that bounce and faces that speak, in turn: of the new look and voice, or as ever."""
    found: dict[type, list[Scene]] = {BallScene: [], FaceScene: []}
    chosen, seed = is_new if new else is_as_ever, first_seed
    while min(map(len, found.values())) < (count + 1) // 2:
        scene = sample_scene(np.random.default_rng(seed))
        if scene.kind in ("ball", "face") and chosen(scene):
            found[type(scene)].append(scene)
        seed += 1
    return [scene for pair in zip(*found.values(), strict=False) for scene in pair][:count]


def write_clips(folder: Path, count: int) -> Path:
    """`count` films of the new and as many as ever, and the manifest that names them, for `harmony encode`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, scene in enumerate((*scenes(count, new=True), *scenes(count, new=False))):
        video, audio_N = new_clip(scene)
        write_video(folder / f"{number:03}.mp4", video, Fraction(FPS), audio_N[None], SAMPLE_RATE)
        row = {"video": f"{number:03}.mp4", "prompt": scene.video_caption, "audio_prompt": scene.audio_caption}
        rows.append(row | {"transcript": scene.transcript, "speaker": getattr(scene, "voice", "")})
    manifest = folder / "clips.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/own"))
    values = parser.parse_args()
    print(write_clips(values.output, values.clips))


if __name__ == "__main__":
    main()
