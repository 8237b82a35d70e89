"""The word recogniser: right on what was rendered, at chance on other clips' words."""

from __future__ import annotations

import numpy as np
import pytest

from harmony_core.benchmarks.quality import held_out
from harmony_core.toyworld.measures.words import heard_words, word_accuracy


def test_rendered_words_are_heard():
    faces = [each.clip for each in held_out(24, 0.48) if each.clip.scene.kind == "face"]
    heard = [heard_words(clip.audio) for clip in faces]
    right = [word_accuracy(words, clip.scene.words) for words, clip in zip(heard, faces, strict=True)]
    wrong = [word_accuracy(words, clip.scene.words) for words, clip in zip(heard[1:], faces, strict=False)]
    assert np.mean(right) > 0.95
    assert np.mean(wrong) < 0.3


def test_silence_has_no_words():
    assert heard_words(np.zeros(32000, np.float32)) == ()


@pytest.mark.parametrize(
    ("heard", "accuracy"),
    [
        (("yes", "no", "moon"), 1.0),
        (("yes", "moon"), 2 / 3),
        (("yes", "sun", "moon"), 2 / 3),
        (("yes", "no", "no", "moon"), 2 / 3),
        ((), 0.0),
        (("go", "go", "go", "go", "go", "go", "go"), 0.0),
    ],
)
def test_accuracy_is_one_minus_the_error_rate(heard: tuple[str, ...], accuracy: float):
    assert word_accuracy(heard, ("yes", "no", "moon")) == pytest.approx(accuracy)
