"""Key tables of Ovi: one file, or split in a video and an audio file.

DreamID-Omni's state dict has Ovi's keys, so a file does not tell which of the two it is: it is taken for Ovi unless
`harmony convert --kind dreamid-omni` has written it with its config, or a preset is named.
"""

from __future__ import annotations

from .wan import BRANCH_KEYS, MODULATION_KEY, PATCH_KEY, Rules

_AUDIO_PATCH_KEYS = ("patch_embedding.0.{p}", "patch_embedding.2.{w}.weight")


def _branch(source: str, target: str, direction: str, modulation: str, patch: tuple[str, ...]) -> Rules:
    """One of Ovi's two streams. Its fusion reads the other stream, so it is our interaction *into* this one."""
    fusion = f"interactions.{{n}}.{direction}"
    return (
        *((source + key, target + key) for key in (*patch, *BRANCH_KEYS)),
        (f"{source}blocks.{{n}}.{modulation}", target + MODULATION_KEY),
        (f"{source}blocks.{{n}}.cross_attn.{{kv}}_fusion.{{p}}", f"{fusion}.{{kv}}.{{p}}"),
        (f"{source}blocks.{{n}}.cross_attn.pre_attn_norm_fusion.{{p}}", f"{fusion}.norm_ctx.{{p}}"),
        (f"{source}blocks.{{n}}.cross_attn.norm_k_fusion.weight", f"{fusion}.norm_k.weight"),
    )


OVI: Rules = (
    *_branch("video_model.", "", "a2v", "modulation.modulation", (PATCH_KEY,)),
    *_branch("audio_model.", "audio.", "v2a", "modulation.modulation", _AUDIO_PATCH_KEYS),
)

OVI_SPLIT: Rules = (
    *_branch("", "", "a2v", "modulation", (PATCH_KEY,)),
    *_branch("audio_model.", "audio.", "v2a", "modulation", _AUDIO_PATCH_KEYS),
)
