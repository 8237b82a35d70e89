from __future__ import annotations

from itertools import pairwise

import numpy as np

from harmony_core.toyworld import FPS
from harmony_core.toyworld.measures.mouths import mouth_correlation, mouth_opening

from .clips import clips, roughen


def test_mouths_correlate_with_their_own_speech_only() -> None:
    faces = clips("face")
    own = [mouth_correlation(clip.video, clip.audio, FPS) for clip in faces]
    other = [mouth_correlation(a.video, b.audio, FPS) for a, b in pairwise(faces)]
    assert min(own) > 0.97
    assert np.mean(other) < 0.6
    assert mouth_correlation(np.repeat(faces[0].video[:1], 25, axis=0), faces[0].audio, FPS) == 0
    assert np.corrcoef(mouth_opening(roughen(faces[0].video)), faces[0].mouth)[0, 1] > 0.97
