"""UniAVGen's recorded cases: its toy weights under our names, and what each case gives the transformer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harmony_core.checkpoints.files import load_transformer
from harmony_core.config import HarmonyConfig, SpeechConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.inputs import AudioInput, AVInput, Rows, VideoInput
from harmony_core.model.roles import AUDIO_GIVEN, ISOLATED, JOINT, VIDEO_GIVEN
from harmony_core.presets import preset

FIXTURES = Path(os.environ.get("HARMONY_FIXTURES", Path(__file__).parents[1] / "fixtures")) / "uniavgen"
META = json.loads((FIXTURES / "meta.json").read_text())
TOLERANCES = META["tolerances"]
INPUTS, OUTPUTS = load_file(FIXTURES / "inputs.safetensors"), load_file(FIXTURES / "outputs.safetensors")


def toy_config(**changes: Any) -> HarmonyConfig:
    toy = META["config"]
    same = ("dim", "ffn_dim", "num_heads", "num_layers", "freq_dim", "text_dim", "text_len", "audio_dim")
    speech = SpeechConfig(
        vocab="f5-characters",
        vocab_size=toy["transcript_vocab"],
        reading="cross",
        min_len=toy["min_transcript"],
        max_len=4096,
        dim=toy["transcript_dim"],
        num_blocks=toy["transcript_blocks"],
    )
    return preset("uniavgen").with_(
        **{name: toy[name] for name in same},
        audio_ffn_dim=toy["audio_ffn_dim"],
        audio_num_heads=toy["audio_num_heads"],
        interaction_layers=tuple(toy["fused_layers"]),
        negative_skip_layers=(1,),
        speech=speech,
        **changes,
    )


def load(dtype: torch.dtype = torch.float32, **changes: Any) -> HarmonyTransformer:
    return load_transformer(FIXTURES / "weights.safetensors", dtype, config=toy_config(**changes))[1]


def tokens(name: str) -> Tensor:
    """Recorded ids are before the filler's row is put first."""
    return (INPUTS[name] + 1).long()


def replaced(latents: Tensor, given: Tensor | None, axis: int) -> Tensor:
    """The first latents those of what is given, all of it: how many of them are clean is said apart."""
    if given is None:
        return latents
    count = given.shape[axis]
    return torch.cat((given, latents.narrow(axis, count, latents.shape[axis] - count)), dim=axis)


def case_inputs(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> AVInput:
    """One row."""
    t = case["t"] / 1000
    video = replaced(INPUTS[case["video"]], INPUTS[case["cond_video"]], 1)
    audio = replaced(INPUTS[case["audio"]], INPUTS.get(case.get("cond_audio", "")), 0)
    sigma_v = torch.full((1, video.shape[1]), t, dtype=torch.float64)
    sigma_v[:, : case["video_cond"]] = 0
    sigma_a = torch.full((1, len(audio)), t, dtype=torch.float64)
    sigma_a[:, : case["audio_cond"]] = 0
    voice = INPUTS[case["reference_audio"]].T[None].to(dtype) if "reference_audio" in case else None
    context = INPUTS[case["context"]][None].to(dtype)
    image = INPUTS[case["reference_image"]][None].to(dtype)
    return AVInput(
        VideoInput(video[None].to(dtype), sigma_v, context, image),
        AudioInput(audio.T[None].to(dtype), sigma_a, context, tokens(case["transcript"])[None], voice),
    )


def case_rows(case: dict[str, Any], **more: Any) -> Rows:
    flags = {name for name in ("zero_con", "no_v2a", "no_a2v") if case.get(name)}
    role = {"zero_con": ISOLATED, "no_v2a": AUDIO_GIVEN, "no_a2v": VIDEO_GIVEN}[flags.pop()] if flags else JOINT
    assert not flags
    skip = frozenset([case["skip_layer"]]) if "skip_layer" in case else frozenset()
    return Rows(roles=(role,), skip_layers=skip, **more)
