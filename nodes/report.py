"""Nodes that measure sync."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from comfy_api.latest import io, ui

from ..harmony_core.sync.measure import measure
from ..harmony_core.sync.plot import describe, sync_plot
from .host.clips import first_sound
from .host.notes import show
from .host.pixels import to_bytes, to_images


class HarmonySyncReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HarmonySyncReport",
            display_name="Harmony Sync Report",
            category="Harmony",
            description="Measures how far the sound lags behind the picture of any video, and draws both.",
            search_aliases=["av-align", "lag", "lip sync score", "measure sync"],
            is_output_node=True,
            inputs=[io.Video.Input("video", tooltip="Join pictures and sound with core's Create Video.")],
            outputs=[
                io.Float.Output(
                    display_name="lag_ms",
                    tooltip="Positive: the sound is late. NaN where it cannot be told; the report says why.",
                ),
                io.Float.Output(display_name="av_align", tooltip="0..1: how many events of picture and sound meet."),
                io.Image.Output(display_name="plot"),
                io.String.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, video: Any) -> io.NodeOutput:
        clip = video.get_components()
        if clip.audio is None:
            raise ValueError("The video has no sound to measure; join it with one in Create Video.")
        frames = to_bytes(clip.images)
        sound = first_sound(clip.audio)
        samples, rate = sound.samples, sound.sample_rate
        report = measure(frames, clip.frame_rate, samples, rate)
        plot = to_images(np.array(sync_plot(report, frames, samples, rate)))[None]
        line = describe(report)
        show(cls.hidden.unique_id, [line, *sound.notes])
        lag, score = (math.nan if value is None else float(value) for value in (report.lag_ms, report.av_align))
        shown = {**ui.PreviewImage(plot, cls=cls).as_dict(), "text": [line], "harmony_sync": [report.to_dict()]}
        return io.NodeOutput(lag, score, plot, line, ui=shown)
