"""Every shipped workflow, in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Callable

from . import large, tiny, uniavgen
from .graph import Graph

GRAPHS: dict[str, Callable[[], Graph]] = {
    make.__name__: make
    for make in (
        tiny.text_to_audio_video,
        tiny.simplest,
        tiny.beginner,
        tiny.image_to_audio_video,
        tiny.audio_to_video,
        tiny.video_to_audio,
        tiny.voice_clone,
        tiny.reroll_sound,
        tiny.low_memory,
        large.ovi_text_to_audio_video,
        large.ovi_image_to_audio_video,
        uniavgen.uniavgen_talking_person,
        uniavgen.uniavgen_voice,
        uniavgen.uniavgen_lip_sync,
        uniavgen.uniavgen_film_sound,
        large.wan22_video_only,
        large.ltx2_sync_cfg,
        large.ltx2_lip_sync,
        large.h3_lip_sync,
    )
}
