"""What the ablation compares: its rows, what each part is judged by, and how clips are made and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .hard_quality import KINDS, dubbed
from .quality import Clip, Generated, HeldOut

SMALL = {"dim": 96, "ffn_dim": 288, "num_heads": 3, "num_layers": 4, "speech": None}
APART = {"interaction": "none", "style_alignment": False, "style_pooling": "none"}
GLOBAL = APART | {"interaction": "global", "rope_alignment": "ovi", "cross_rope_scale": 1.0}
ALIGNED_GLOBAL = GLOBAL | {"audio_rope_scale": 0.125}  # video latents an audio latent, as Ovi aligns them
FRAMEWISE = {"style_pooling": "frame"}
JOINT_ONLY = {"kind": "split_batch", "audio_driven_share": 0.0, "video_driven_share": 0.0}
AUDIO_DRIVEN = JOINT_ONLY | {"audio_driven_share": 1.0}
EQUAL_COMPUTE = {"kind": "split_batch", "audio_driven_share": 0.125, "video_driven_share": 0.125}


@dataclass(frozen=True)
class Row:
    """One training run: what differs from the paper's model and objective, and how its clips are made.

    `share`: of the steps, for a row whose steps cost more.
    """

    title: str
    model: dict[str, Any] = field(default_factory=lambda: FRAMEWISE)
    objective: dict[str, Any] = field(default_factory=lambda: {"kind": "three_pass"})
    cases: tuple[str, ...] = ("joint",)
    share: float = 1.0

    def steps(self, steps: int) -> int:
        """Of this row, where the others have `steps`."""
        return max(1, round(self.share * steps))


TESTED = "joint", "audio_to_video", "video_to_audio"
REFERENCED = "joint_reference", "video_to_audio_dubbed"  # the ones that style alignment has a part in
LADDER = {  # the paper's: each adds a part to the one before
    "global": Row("global cross-attention", GLOBAL, JOINT_ONLY),
    "framewise": Row("frame-wise, style alignment", FRAMEWISE | {"rope_alignment": "none"}, JOINT_ONLY, TESTED),
    "rope": Row("+ RoPE alignment", FRAMEWISE, JOINT_ONLY, TESTED),
    "cts": Row("+ CTS, equal joint samples", cases=(*TESTED, "joint_synccfg")),
    "cts_equal_compute": Row("+ CTS, equal compute", FRAMEWISE, EQUAL_COMPUTE, (*TESTED, *REFERENCED)),
    "audio_driven": Row("+ RoPE alignment, audio-driven alone", FRAMEWISE, AUDIO_DRIVEN, ("audio_to_video",)),
}
QUESTIONS = {  # our own: each changes one thing of `cts_equal_compute`, the last of the row before it
    "no_style": Row(
        "without style alignment",
        FRAMEWISE | {"style_alignment": False, "style_pooling": "none"},
        EQUAL_COMPUTE,
        (*TESTED, *REFERENCED),
    ),
    "ovi": Row("Ovi's fusion, aligned positions", ALIGNED_GLOBAL, EQUAL_COMPUTE, TESTED),
    "not_isolated": Row("drivers listen", FRAMEWISE | {"driver_isolation": False}, EQUAL_COMPUTE, TESTED),
    "index": Row("aligned by index", FRAMEWISE | {"rope_alignment": "index"}, EQUAL_COMPUTE, TESTED),
    "window_0": Row("window of no neighbours", FRAMEWISE | {"a2v_window": 0, "v2a_window": 0}, EQUAL_COMPUTE, TESTED),
    "window_3": Row(
        "window of three neighbours", FRAMEWISE | {"a2v_window": 3, "v2a_window": 3}, EQUAL_COMPUTE, TESTED
    ),
    "three_pass_equal_time": Row("three passes, equal time", cases=TESTED, share=0.4),
    "stopped_drivers": Row(
        "the same, drivers stopped", objective={"kind": "three_pass", "stop_drivers": True}, cases=TESTED, share=0.4
    ),
}
ROWS = LADDER | QUESTIONS
CASES: dict[str, Callable[..., Iterable[tuple[HeldOut, Clip]]]] = {
    "joint": Generated(guided=False, kinds=KINDS),
    "joint_synccfg": Generated(kinds=KINDS),
    "audio_to_video": Generated(given=("audio",), guided=False, kinds=KINDS),
    "video_to_audio": Generated(given=("video",), guided=False, kinds=KINDS),
    "joint_reference": Generated(given=("reference_audio",), guided=False, kinds=KINDS),
    "video_to_audio_dubbed": dubbed,
}
CURVES = "audio_driven", "rope", "cts"  # which are measured on the way as well: the rows of the paper's figure 3
STEPS_CASE = "audio_to_video"  # whose clips are made on the way: the one that all of CURVES can make
PARTS = {  # what a part is judged by: the row with it, and the row without
    "frame-wise interaction and style alignment": ("framewise", "global"),
    "RoPE alignment": ("rope", "framewise"),
    "CTS, equal joint samples": ("cts", "rope"),
    "CTS, equal compute": ("cts_equal_compute", "rope"),
    "the paper's interaction, not Ovi's fusion": ("cts_equal_compute", "ovi"),
    "style alignment": ("cts_equal_compute", "no_style"),
    "driver isolation": ("cts_equal_compute", "not_isolated"),
    "positions by time, not by index": ("cts_equal_compute", "index"),
    "a window of one neighbour, not of none": ("cts_equal_compute", "window_0"),
    "a window of one neighbour, not of three": ("cts_equal_compute", "window_3"),
    "a task a clip, not three passes, in equal time": ("cts_equal_compute", "three_pass_equal_time"),
    "gradients through drivers, in equal steps": ("three_pass_equal_time", "stopped_drivers"),
}
SYNC_CFG = "SyncCFG, on CTS"
LOSS_METRICS = "video_loss", "audio_loss"
REFERENCES = "ground_truth", "shuffled", "round_trip"  # beside the rows in a table
