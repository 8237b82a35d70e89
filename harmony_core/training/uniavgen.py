"""UniAVGen's own tasks: which rows follow a voice, and what a row of them reads.

Its training code is not published. The tasks are those of its sampler's positive pass (joint, joint behind a voice,
audio to video, video to audio), and the losses ours. What cannot be known is left out rather than guessed: what its
face masks were supervised with (they learn from the velocities alone here), in which proportions the tasks were drawn
(the objective's shares), and whether positions were rounded to bfloat16 in training (`config.published_rounding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..diffusion.latents import AVLatents
from ..model import HarmonyTransformer
from ..model.inputs import AVInput, Rows, pick_rows, same_length
from ..model.roles import ISOLATED, JOINT, put_rows, role_with_voice
from ..model.speech import FILLER
from ..text.transcripts import join_words
from .data.batch import Voice
from .data.loader import OTHER_CLIP
from .sections import ObjectiveConfig

LED = (JOINT, ISOLATED)  # roles of rows that may follow a voice: the published driven tasks have none


def check_objective(objective: ObjectiveConfig) -> None:
    """Raises ValueError for one that gives other parts of a clip than the picture that it starts from, or a voice
    without its words."""
    needed: dict[str, Any] = {"first_frame_share": 1.0, "prefix_share": 0.0}
    if objective.reference_share:
        needed["reference"] = OTHER_CLIP
    wrong = [name for name, value in needed.items() if getattr(objective, name) != value]
    if wrong:
        told = ", ".join(f"objective.{name} {needed[name]} (it is {getattr(objective, name)})" for name in wrong)
        raise ValueError(
            f"UniAVGen's tasks begin with a picture and give no other part, and a voice is heard whole: set {told}; "
            "training/configs/uniavgen.yaml has a run of them."
        )


def velocities(
    transformer: HarmonyTransformer, inputs: AVInput, roles: Sequence[str], voices: Sequence[Voice | None]
) -> AVLatents:
    """Predicted velocities of rows, each as its task's positive pass sends it.

    Voices differ in length and a pass is of one length: rows go through with those whose voice is as long. So processes
    may make different numbers of passes, which what communicates within a pass (sharded weights) does not allow.

    Args:
        inputs: of all rows; the transcript is words, FILLER behind them.
        voices: one a row, or none at all; rows of other roles than `LED` do not hear theirs.
    """
    config, audio = transformer.config, inputs.audio
    assert config.speech is not None
    assert audio is not None
    assert audio.transcript is not None
    heard = [voice if role in LED else None for role, voice in zip(roles, voices or [None] * len(roles), strict=True)]
    transcripts = [
        join_words(own[own != FILLER].tolist(), [] if voice is None else voice.words.tolist(), config.speech)
        for own, voice in zip(audio.transcript, heard, strict=True)
    ]
    lengths = [0 if voice is None else voice.latents.shape[1] for voice in heard]
    video, sound = torch.zeros_like(inputs.video.latents), torch.zeros_like(audio.latents)
    for length in sorted(set(lengths)):
        rows = tuple(row for row, each in enumerate(lengths) if each == length)
        own_voices = [voice.latents for voice in (heard[row] for row in rows) if voice is not None]
        own_audio = replace(
            pick_rows(audio, rows),
            transcript=torch.cat(same_length([transcripts[row][None] for row in rows])).to(audio.latents.device),
            reference=torch.stack(own_voices) if own_voices else None,
        )
        own_roles = tuple(role_with_voice(roles[row], config) if length else roles[row] for row in rows)
        found = transformer(pick_rows(inputs.video, rows), own_audio, Rows(own_roles))
        video, sound = (total + put_rows(x, rows, len(roles)) for total, x in zip((video, sound), found, strict=True))
    return AVLatents(video, sound)
