"""Which checkpoint layouts exist, as data, and which one a set of keys is.

Everything here works on names and shapes alone, so that a file is judged before any of its weights are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from .errors import CheckpointError
from .ovi import OVI, OVI_SPLIT
from .uniavgen import UNIAVGEN
from .wan import DIFFUSERS, WAN, Rules

Shapes = Mapping[str, tuple[int, ...]]
T = TypeVar("T")

# What the fields of a rule stand for.
FIELDS: Mapping[str, str] = {
    "n": "[0-9]{1,4}",
    "m": "[0-9]{1,4}",
    "seq": "[02]",
    "p": "weight|bias",
    "qkvo": "[qkvo]",
    "qkv": "[qkv]",
    "kv": "[kv]",
    "w": "w[123]",
    "attn": "self_attn|cross_attn",
    "norm": "norm_q|norm_k",
    "side": "a2v|v2a|style",
    "ln": "norm_x|norm_ctx",
    "conv": "dwconv|norm|pwconv1|pwconv2",
    "grn": "gamma|beta",
}

_HARMONY_KEYS = (
    *(key for key, _ in WAN),
    *("audio." + key for key, _ in WAN),
    "audio.patch_embedding.0.{p}",
    "audio.patch_embedding.2.{w}.weight",
    "audio.patch_embedding.2.{p}",
    "audio.padding",
    "interactions.{n}.a2v.mask_head.modulation",
    "interactions.{n}.a2v.mask_head.head.{p}",
    "interactions.{n}.{side}.{qkvo}.{p}",
    "interactions.{n}.{side}.{norm}.weight",
    "interactions.{n}.{side}.{ln}.{p}",
    "speech.text_embed.weight",
    "speech.text_blocks.{n}.{conv}.{p}",
    "speech.text_blocks.{n}.grn.{grn}",
    "speech.proj.{p}",
)


@dataclass(frozen=True)
class Layout:
    """A naming of the transformer's weights.

    `needs` are keys without which a file is not this layout; `preset` gives the settings that shapes cannot tell.
    """

    name: str
    title: str
    rules: Rules
    needs: tuple[str, ...]
    preset: str


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "uniavgen",
        "UniAVGen",
        UNIAVGEN,
        ("patch_embedding.weight", "head_audio.modulation", "a2v_blocks.0.mask_head.modulation"),
        "uniavgen",
    ),
    Layout(
        "harmony",
        "Harmony",
        tuple((key, key) for key in _HARMONY_KEYS),
        ("patch_embedding.weight", "head.modulation", "audio.head.modulation"),
        "harmony-5b",
    ),
    Layout(
        "wan",
        "Wan2.2-TI2V-5B in its original (ComfyUI's) layout",
        WAN,
        ("patch_embedding.weight", "head.modulation"),
        "wan2.2-ti2v-5b",
    ),
    Layout(
        "wan-diffusers",
        "Wan2.2-TI2V-5B in diffusers' layout",
        DIFFUSERS,
        ("patch_embedding.weight", "scale_shift_table", "proj_out.weight"),
        "wan2.2-ti2v-5b",
    ),
    Layout(
        "ovi",
        "Ovi in one file (DreamID-Omni has the same keys)",
        OVI,
        ("video_model.patch_embedding.weight", "video_model.head.modulation", "audio_model.head.modulation"),
        "ovi-11b",
    ),
    Layout(
        "ovi-split",
        "Ovi split into a video and an audio file (give both)",
        OVI_SPLIT,
        ("patch_embedding.weight", "head.modulation", "audio_model.head.modulation"),
        "ovi-11b",
    ),
)

PREFIXES = ("model.diffusion_model.", "diffusion_model.")
OTHER_PARTS = ("vae.", "audio_vae.", "text_encoders.")  # of a bundle, beside a prefixed transformer
SCALE_SUFFIXES = (".weight_scale", ".scale_weight")  # scaled fp8: ComfyUI's, and the older style
# Not weights: settings, which are read apart, and what quantised matrix products would use.
MARKERS = ("harmony_config", ".comfy_quant", ".input_scale", ".scale_input", "scaled_fp8")
QUANTISED_WHOLE = "scaled_fp8"  # says of a file in the older style that its layers have scales
BESIDE_WEIGHT = ("weight_scale", "scale_weight", "input_scale", "scale_input")  # of a layer in scaled fp8
QUANT_KEY = ".comfy_quant"  # tells of a layer how it is quantised, as JSON; its other keys belong to that format
PER_NUMBER = {"nvfp4": 2, "convrot_w4a4": 2, "asym_w4a8_int8": 2}  # values of a row in one stored number
PADDED = {"nvfp4": 16, "mxfp8": 32}  # rows and columns are stored in multiples of it
PLAIN_KEYS = ("weight", "bias", "weight_scale", "scale_weight")  # of a quantised layer, that other files have too


@dataclass(frozen=True)
class KeyMap:
    """How a file's keys become a HarmonyTransformer's.

    Attributes:
        sources: our key -> key in the file.
        scales: our key -> key of the scale that its fp8 weight is multiplied by.
    """

    layout: Layout
    sources: dict[str, str]
    scales: dict[str, str]


@dataclass(frozen=True)
class _Fit:
    layout: Layout
    sources: dict[str, str]
    strange: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def complaint(self) -> str:
        return offending({"unexpected": self.strange, "missing": self.absent})


def recognise(keys: Iterable[str], name: str) -> KeyMap:
    """Recognise a file by its keys.

    Raises:
        CheckpointError: no known layout; names the first offending keys and the nearest layout.
    """
    stripped = strip_prefix(keys)
    weights, scales = split_scales(stripped, name)
    fits = [_fit(layout, weights) for layout in LAYOUTS]
    nearest = min(fits, key=lambda fit: len(fit.strange) + len(fit.absent))
    if nearest.complaint:
        raise CheckpointError(
            f"{name} has no layout that is known here. The nearest is {nearest.layout.title}: {nearest.complaint}."
        )
    sources = nearest.sources
    return KeyMap(
        nearest.layout,
        {target: stripped[source] for target, source in sources.items()},
        {target: stripped[scales[source]] for target, source in sources.items() if source in scales},
    )


def rename(tensors: Mapping[str, T], keys: KeyMap) -> dict[str, T]:
    """A file's tensors under our names, with what stands beside the weights of quantised layers. The rest is left out.

    For hosts that compute with quantised weights; `files.read_tensors` multiplies scales in.
    """
    names = {source: target for target, source in keys.sources.items()}
    layers = {source.removesuffix(".weight"): target.removesuffix(".weight") for source, target in names.items()}
    quantised = quantised_layers(tensors)
    found = {}
    for key, value in tensors.items():
        layer, _, last = key.rpartition(".")
        if key in names:
            found[names[key]] = value
        elif layer in layers and (layer in quantised or last in BESIDE_WEIGHT):
            found[f"{layers[layer]}.{last}"] = value
        elif last == QUANTISED_WHOLE:
            found[QUANTISED_WHOLE] = value
    return found


def strip_prefix(keys: Iterable[str]) -> dict[str, str]:
    """Transformer keys without their common prefix -> keys in the file; a bundle's other parts are left out."""
    keys = list(keys)
    prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in keys)), "")
    if not prefix:
        return {key: key for key in keys}
    return {key.removeprefix(prefix): key for key in keys if not key.startswith(OTHER_PARTS)}


def quantised_layers(keys: Iterable[str]) -> set[str]:
    """The layers of which a file tells how they are quantised."""
    return {key.removesuffix(QUANT_KEY) for key in keys if key.endswith(QUANT_KEY)}


def unpacked(shape: tuple[int, ...], form: str) -> tuple[int, ...]:
    """Of a weight that a format stores in this shape. Formats that pad leave their padding in it."""
    return *shape[:-1], *(size * PER_NUMBER.get(form, 1) for size in shape[-1:])


def padded(shape: tuple[int, ...], form: str) -> tuple[int, ...]:
    """The shape in which a format of `PADDED` stores a weight, unpacked."""
    return tuple(-(-size // PADDED[form]) * PADDED[form] for size in shape)


def weight_keys(keys: Iterable[str], quantised: Iterable[str] = ()) -> list[str]:
    """Keys without `MARKERS`, and of quantised layers without what belongs to their format alone.

    Args:
        quantised: layers beside those of which a key tells it.
    """
    keys = list(keys)
    layers = quantised_layers(keys) | set(quantised)

    def is_weight(key: str) -> bool:
        layer, _, last = key.rpartition(".")
        return not key.endswith(MARKERS) and (layer not in layers or last in PLAIN_KEYS)

    return [key for key in keys if is_weight(key)]


def split_scales(keys: Iterable[str], name: str) -> tuple[list[str], dict[str, str]]:
    """Of `weight_keys`: weights, and for each scaled one (`X.weight`) the key of its scale.

    Raises:
        CheckpointError: a scale without its weight.
    """
    keys = weight_keys(keys)
    scales = {
        key.removesuffix(suffix) + ".weight": key for suffix in SCALE_SUFFIXES for key in keys if key.endswith(suffix)
    }
    weights = [key for key in keys if not key.endswith(SCALE_SUFFIXES)]
    orphans = sorted(set(scales) - set(weights))
    if orphans:
        raise CheckpointError(f"{name} has a scale for {orphans[0]}, but not that weight.")
    return weights, scales


def map_keys(rules: Rules, keys: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """({our key: key in the file}, keys that no rule knows)."""
    compiled = _compile(rules)
    sources, strange = {}, []
    for key in keys:
        for pattern, target in compiled:
            match = pattern.fullmatch(key)
            if match:
                sources[target.format(**match.groupdict())] = key
                break
        else:
            strange.append(key)
    return sources, strange


@lru_cache(maxsize=32)
def _compile(rules: Rules) -> tuple[tuple[re.Pattern, str], ...]:
    def pattern(source: str) -> re.Pattern:
        parts = re.split(r"\{(\w+)\}", source)
        texts = (f"(?P<{part}>{FIELDS[part]})" if index % 2 else re.escape(part) for index, part in enumerate(parts))
        return re.compile("".join(texts))

    return tuple((pattern(source), target) for source, target in rules)


def _fit(layout: Layout, keys: list[str]) -> _Fit:
    sources, strange = map_keys(layout.rules, keys)
    present = set(keys)
    return _Fit(layout, sources, tuple(strange), tuple(key for key in layout.needs if key not in present))


def offending(problems: Mapping[str, Iterable[str]]) -> str:
    """ "2 missing, first a.b, a.c; 1 unexpected, first d" for whatever there is, else ""."""
    parts = []
    for kind, keys in problems.items():
        keys = list(keys)
        if keys:
            parts.append(f"{len(keys)} {kind}, first {', '.join(keys[:3])}")
    return "; ".join(parts)


def check_keys(expected: Shapes, found: Shapes, name: str, title: str) -> None:
    """Every key there, none too many, every shape right.

    Raises:
        CheckpointError: names the first offending keys and `title`.
    """
    wrong = [
        f"{key} {list(found[key])} instead of {list(expected[key])}"
        for key in expected
        if key in found and tuple(found[key]) != tuple(expected[key])
    ]
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": wrong,
    }
    complaint = offending(problems)
    if complaint:
        raise CheckpointError(f"{name} does not fit {title}: {complaint}.")
