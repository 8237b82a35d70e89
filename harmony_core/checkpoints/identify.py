"""What a weight file is, by its keys: our own files, and the published ones that go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import HarmonyConfig
from .bundle import count_tensors, describe_files, resolve
from .files import FP8_FORMATS, ModelFile
from .layout import map_keys
from .lora import LORA_MARKS, lora_ranks
from .ovi import OVI_SPLIT
from .parts import (
    AUDIO_LAYOUTS,
    AUDIO_PARTS,
    MEL_VOCODER,
    TEXT_LAYOUTS,
    VIDEO_VAE_LAYOUTS,
    audio_part,
    is_mel_vocoder,
    mel_codec_of,
    which,
)
from .weight_files import WeightFiles, open_files, plain_sources

LORA_EXTRAS = (".alpha", ".dora_scale", ".diff", ".diff_b")
WHOLE = "harmony generate --model FILE"
TRANSFORMER_USE = f"{WHOLE} --video-vae ... --audio-vae ... --text-encoder ... --tokenizer ..."
VIDEO_ONLY_USE = f"{WHOLE} --video-vae ... --text-encoder ... --tokenizer ... (video without sound)"
AUDIO_TITLES = {
    ("vae.", "vocoder."): ("MMAudio's autoencoder and vocoder in one file", "--audio-vae FILE"),
    ("vae.",): ("MMAudio's autoencoder", "--audio-vae FILE --audio-vae VOCODER"),
    ("vocoder.",): ("MMAudio's vocoder (BigVGAN)", "--audio-vae AUTOENCODER --audio-vae FILE"),
}


def identify(name: str | Path) -> dict[str, Any]:
    """As `bundle.describe`, for any file that the package can use: also `for`, the option that takes it.

    Raises:
        CheckpointError: unreadable, or nothing that is known here.
    """
    path = resolve(name)
    files = open_files(path)
    if files.settings is not None:
        facts = describe_files(files, path)
        audio = HarmonyConfig.from_dict(facts["config"]).audio
        return facts | {"for": WHOLE if len(facts["parts"]) > 1 else _transformer_use(audio)}
    layout, use, config = _recognise(files)
    packed = sorted({layer.form for layer in files.quantised.values()} - set(FP8_FORMATS))
    if packed:
        use = f"Harmony Model Loader in ComfyUI, which computes with {', '.join(packed)}"
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "layout": layout,
        "for": use,
        "parts": {"weights": count_tensors(files.entries.values())},
        "config": config,
        "model_card": {},
    }


def _recognise(files: WeightFiles) -> tuple[str, str, dict[str, Any]]:
    """(layout, what takes it, config)."""
    if files.entries and all(key.endswith(LORA_EXTRAS) or any(m in key for m in LORA_MARKS) for key in files.entries):
        return "LoRA", "Harmony LoRA in ComfyUI, --lora", {"rank": lora_ranks(files)}
    names, _ = plain_sources(files)
    shapes = files.shapes(names)
    for layouts, use in (
        (VIDEO_VAE_LAYOUTS, "--video-vae FILE"),
        (TEXT_LAYOUTS, "--text-encoder FILE --tokenizer FOLDER"),
    ):
        layout = which(shapes, layouts)
        if layout is not None:
            return layout.title, use, {}
    if is_mel_vocoder(names):
        mel_codec_of(shapes, files.name)
        return f"{MEL_VOCODER}, which is UniAVGen's", "--audio-vae FILE", {}
    found = tuple(part for part, layout in AUDIO_LAYOUTS.items() if not layout.complaint(audio_part(shapes, part)))
    known = tuple(start for part, starts in AUDIO_PARTS for start in (part, *starts))
    if found and all(key.startswith(known) for key in names):
        return *AUDIO_TITLES[found], {}
    half = _half_of_ovi(names)
    if half is not None:
        return half, "harmony generate --model VIDEO_HALF --audio-model AUDIO_HALF, and the parts", {}
    opened = ModelFile.of(files)
    opened.check()
    return opened.keys.layout.title, _transformer_use(opened.config.audio), opened.config.to_dict()


def _half_of_ovi(names: dict[str, str]) -> str | None:
    """A split Ovi's file, which lacks what is in the other."""
    _, strange = map_keys(OVI_SPLIT, names)
    if not strange and "audio_model.head.modulation" in names and "head.modulation" not in names:
        return "audio half of a split Ovi"
    if not strange and "head.modulation" in names and "blocks.0.cross_attn.k_fusion.weight" in names:
        return None if "audio_model.head.modulation" in names else "video half of a split Ovi"
    return None


def _transformer_use(audio: bool) -> str:
    return TRANSFORMER_USE if audio else VIDEO_ONLY_USE
