"""The recorded words: sixteen short words in six voices, loaded from `assets/words.npz`.

The recordings were synthesised once with espeak-ng by `record_words.py`. espeak-ng is a GPL program; the sound it
makes is not covered by that licence. Nothing here needs the program.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16000
WORDS_FILE = Path(__file__).parent.parent / "assets" / "words.npz"
WORDS = (
    "yes", "no", "go", "hello", "moon", "sun", "fly", "wow", "you", "shoe", "rain", "home", "zoo", "ice", "law", "me",
)  # fmt: skip
# Two voices for every kind of person, so that a caption alone never tells which voice it is: a reference does.
VOICES = {
    "man": ("man_deep", "man_bright"),
    "woman": ("woman_warm", "woman_clear"),
    "child": ("child_low", "child_high"),
}
PERSON_OF_VOICE = {voice: person for person, voices in VOICES.items() for voice in voices}


@cache
def _recordings() -> dict[str, np.ndarray]:
    with np.load(WORDS_FILE) as file:
        samples, lengths = file["samples"].astype(np.float32) / 32767, file["lengths"]
        keys = str(file["keys"]).split(",")
    recordings = dict(zip(keys, np.split(samples, np.cumsum(lengths)[:-1]), strict=True))
    for recording in recordings.values():
        recording.flags.writeable = False
    return recordings


def recording(voice: str, word: str) -> np.ndarray:
    """One word in one voice: float32 [samples] at 16 kHz, peak about 0.6, at most 0.36 s; read-only."""
    return _recordings()[f"{voice}/{word}"]


def word_seconds(voice: str, word: str) -> float:
    """Length of one recorded word in seconds."""
    return len(recording(voice, word)) / SAMPLE_RATE
