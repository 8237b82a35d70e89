"""Key table of UniAVGen. Its `text_embedding` is the transcript encoder; Wan's stands under `text_embedding_video`."""

from __future__ import annotations

from .wan import MODULATION_KEY, PATCH_KEY, Rules

_SHARED = (
    "blocks.{n}.{attn}.{qkvo}.{p}",
    "blocks.{n}.{attn}.{norm}.weight",
    "blocks.{n}.norm3.{p}",
    "blocks.{n}.ffn.{seq}.{p}",
    MODULATION_KEY,
)

UNIAVGEN: Rules = (
    (PATCH_KEY, PATCH_KEY),
    ("text_embedding_video.{seq}.{p}", "text_embedding.{seq}.{p}"),
    *((key, key) for key in ("time_embedding.{seq}.{p}", "time_projection.1.{p}", "head.modulation", "head.head.{p}")),
    *((key, key) for key in _SHARED),
    ("audio_embedding.{seq}.{p}", "audio.patch_embedding.{seq}.{p}"),
    ("audio_padding", "audio.padding"),
    ("time_embedding_audio.{seq}.{p}", "audio.time_embedding.{seq}.{p}"),
    ("time_projection_audio.1.{p}", "audio.time_projection.1.{p}"),
    ("head_audio.modulation", "audio.head.modulation"),
    ("head_audio.head.{p}", "audio.head.head.{p}"),
    *(("audio_" + key, "audio." + key) for key in _SHARED),
    ("text_embedding.text_embed.weight", "speech.text_embed.weight"),
    ("text_embedding.text_blocks.{n}.{conv}.{p}", "speech.text_blocks.{n}.{conv}.{p}"),
    ("text_embedding.text_blocks.{n}.grn.{grn}", "speech.text_blocks.{n}.grn.{grn}"),
    ("text_proj.weight", "speech.proj.weight"),
    ("{side}_blocks.{n}.{qkvo}.{p}", "interactions.{n}.{side}.{qkvo}.{p}"),
    ("{side}_blocks.{n}.{norm}.weight", "interactions.{n}.{side}.{norm}.weight"),
    ("a2v_blocks.{n}.mask_head.modulation", "interactions.{n}.a2v.mask_head.modulation"),
    ("a2v_blocks.{n}.mask_head.head.{p}", "interactions.{n}.a2v.mask_head.head.{p}"),
)
