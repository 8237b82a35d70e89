"""Every pair of a request's settings, from a table."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from harmony_core.media import read_audio, read_video
from harmony_core.pipelines import GenerateRequest, HarmonyPipeline
from harmony_core.request import SETTINGS

PICTURE = np.full((64, 64, 3), 90, np.uint8)
# Two values or so of every setting, the second one unusual. None is the checkpoint's own.
VALUES: dict[str, tuple] = {
    "audio_prompt": ("a ball hits wood",),
    "transcript": ("hello",),
    "language": ("zh",),
    "reference_transcript": ("hello",),
    "clip_form": ("untrained",),
    "negative_prompt": ("blur",),
    "negative_audio_prompt": ("noise",),
    "image": (PICTURE,),
    "video": ("film",),
    "audio": ("sound",),
    "reference_audio": ("sound",),
    "reference_seconds": (0.1, 9.0),
    "reference_images": ((PICTURE,),),
    "seconds": (0.08, 0.5),
    "fps": (5, Fraction(30000, 1001)),
    "width": (32, 60),
    "height": (96,),
    "seed": (-1,),
    "steps": (1, 2),
    "shift": (1.0,),
    "solver": ("dpmpp_2m", "magic"),
    "video_sync_scale": (1.0, 3.0),
    "audio_sync_scale": (1.0, 0.0),
    "video_text_scale": (1.0,),
    "audio_text_scale": (1.0,),
    "video_negative_scale": (1.0, 2.0),
    "audio_negative_scale": (2.0,),
    "video_reference_scale": (1.0, 2.0),
    "audio_reference_scale": (2.0,),
    "static_video": ("estimate", "image", "grey"),
}


@pytest.mark.slow
def test_every_pair_of_settings_makes_a_clip_or_one_sentence(random_checkpoint: Path, synced_mp4: Path) -> None:
    """Both at once, over settings that take little time."""
    assert set(VALUES) | {"prompt"} == set(SETTINGS), "a new setting needs values here"
    media = {"film": read_video(synced_mp4, seconds=0.4, short_side=64), "sound": read_audio(synced_mp4, seconds=0.4)}
    pipeline = HarmonyPipeline.from_file(random_checkpoint)
    base = {"prompt": "a ball", "steps": 1, "seconds": 0.24}
    made, refused = 0, {}
    for one, other in combinations(VALUES, 2):
        for values in product(VALUES[one], VALUES[other]):
            settings = {
                name: media.get(value, value) if isinstance(value, str) else value
                for name, value in zip((one, other), values, strict=True)
            }
            try:
                clip = pipeline(GenerateRequest(**base | settings))
            except ValueError as error:
                refused[one, other, str(values)[:40]] = str(error)
            else:
                assert np.isfinite(clip.samples).all()
                made += 1
    assert made > 350
    assert all("\n" not in error and 20 < len(error) < 300 for error in refused.values()), refused
    unexpected = [
        (pair, error)
        for pair, error in refused.items()
        if not any(
            word in error
            for word in ("leave", "multiple", "magic", "no image is given", "is given, but this", "less than one frame")
        )
    ]
    assert unexpected == []
