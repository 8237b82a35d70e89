"""Model configuration: what a checkpoint file says about itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

INTERACTIONS = ("framewise", "global", "none")
ROPE_ALIGNMENTS = ("index", "ovi", "timestamp")
STYLE_POOLINGS = ("none", "frame")
AUDIO_EMBEDDINGS = ("linear", "swiglu_conv")
REFERENCES = ("prepended", "appended")
PROMPT_FORMATS = ("separate", "ovi", "ovi-suffix")

# What a stored config must say: sizes, and the clips that the checkpoint was trained on.
REQUIRED = {"dim", "ffn_dim", "num_heads", "num_layers", "seconds", "height", "width"}


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Transcript encoder (F5-TTS style text embedding, paper 3.2.2)."""

    vocab: str = "f5"  # name of a vocabulary in text/transcripts.py
    vocab_size: int = 2545
    max_len: int = 512  # tokens; shorter transcripts are filler-padded to it
    dim: int = 512
    num_blocks: int = 4
    conv_mult: int = 2


@dataclass(frozen=True)
class Width:
    """Sizes of one branch's blocks."""

    dim: int
    ffn_dim: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class HarmonyConfig:
    """Everything that shapes a `HarmonyTransformer` and the clips it was trained on.

    Rates are decimal strings or "a/b" fractions, so that they survive JSON exactly.
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    freq_dim: int = 256
    text_dim: int = 4096
    text_len: int = 512
    eps: float = 1e-6
    patch_size: tuple[int, int, int] = (1, 2, 2)
    video_channels: int = 48
    audio_channels: int = 20
    audio: bool = True  # False: Wan alone
    audio_patch_embedding: str = "linear"
    audio_ffn_conv_dim: int = 0  # hidden width of Ovi's convolutional patch embedding

    interaction: str = "framewise"
    rope_alignment: str = "index"
    cross_rope_scale: float = 1.0  # multiplies both sides' positions in cross-modal RoPE; 1 is the paper's
    audio_rope_scale: float = 1.0  # audio self-attention positions (Ovi: 0.19676)
    a2v_window: int = 1  # video latents either side whose audio a frame may hear
    v2a_window: int = 1  # video latents either side that an audio latent may see
    style_alignment: bool = True
    style_pooling: str = "none"
    driver_isolation: bool = True
    references: str = "prepended"  # "appended" (DreamID-Omni): after the target, at its noise level
    speech: SpeechConfig | None = None

    fps: str = "24"
    seconds: str = "121/24"  # a clip's default length and size
    height: int = 704
    width: int = 1280
    sample_rate: int = 16000
    audio_latent_rate: str = "125/4"
    temporal_stride: int = 4
    spatial_stride: int = 16
    num_audio_latents: tuple[tuple[int, int], ...] = ()  # (T_v, T_a) pairs that override the formula (Ovi)

    shift: float = 5.0
    steps: int = 40
    video_sync_scale: float = 3.0
    audio_sync_scale: float = 2.0
    video_text_scale: float = 1.0
    audio_text_scale: float = 1.0
    video_reference_scale: float = 1.0  # of appended references
    audio_reference_scale: float = 1.0
    prompt_format: str = "separate"  # a caption per modality; or Ovi's one caption for both (text/ovi.py)
    negative_prompt: str = ""  # of text guidance, where a request names none
    negative_audio_prompt: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("interaction", INTERACTIONS),
            ("rope_alignment", ROPE_ALIGNMENTS),
            ("style_pooling", STYLE_POOLINGS),
            ("audio_patch_embedding", AUDIO_EMBEDDINGS),
            ("references", REFERENCES),
            ("prompt_format", PROMPT_FORMATS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(allowed)}.")
        for name in ("dim", "ffn_dim", "num_heads", "num_layers", "freq_dim", "text_dim", "text_len", "video_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more.")
        if self.dim % self.num_heads or self.head_dim % 2:
            raise ValueError(f"dim {self.dim} must be num_heads ({self.num_heads}) times an even head size.")
        if self.interaction != "none" and not self.audio:
            raise ValueError(f"interaction {self.interaction!r} needs an audio branch; set interaction to 'none'.")
        if (self.interaction == "global") != (self.rope_alignment == "ovi"):
            raise ValueError(
                f"interaction {self.interaction!r} does not go with rope_alignment {self.rope_alignment!r}: "
                "'global' and 'ovi' belong together."
            )
        if self.interaction == "global" and (self.speech is not None or self.style_alignment):
            raise ValueError("interaction 'global' has no speech tokens and no style alignment; leave both off.")
        if self.references == "appended" and self.interaction != "global":
            raise ValueError(f"references 'appended' needs interaction 'global', not {self.interaction!r}.")
        if self.rope_alignment == "timestamp" and self.temporal_stride != 4:
            raise ValueError(
                f"rope_alignment 'timestamp' needs a temporal stride of 4, not {self.temporal_stride}; use 'index'."
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def video_width(self) -> Width:
        return Width(self.dim, self.ffn_dim, self.num_heads)

    @property
    def audio_width(self) -> Width:
        """The same: both branches are equally wide, so far."""
        return self.video_width

    @property
    def takes_reference_audio(self) -> bool:
        """Ovi was trained without a voice to follow."""
        return self.interaction != "global" or self.references == "appended"

    @property
    def rope_dims(self) -> tuple[int, int, int]:
        """Sizes of the temporal, height and width parts of a head (Wan's split)."""
        side = 2 * (self.head_dim // 6)
        return self.head_dim - 2 * side, side, side

    def grid(self, video_shape: Sequence[int]) -> tuple[int, int, int]:
        """Tokens of a video latent [..., T_v, h, w]: frames, patches high, patches wide."""
        frames, height, width = (n // p for n, p in zip(video_shape[-3:], self.patch_size, strict=True))
        return frames, height, width

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HarmonyConfig:
        """Strict: an unknown or missing key is an error that names it."""
        values = dict(values)
        _check_keys(cls, values, required=REQUIRED)
        if values.get("speech") is not None:
            if not isinstance(values["speech"], dict):
                raise ValueError(f"HarmonyConfig.speech is {values['speech']!r}, but must be settings or null.")
            _check_keys(SpeechConfig, values["speech"], required=set())
            values["speech"] = SpeechConfig(**values["speech"])
        for name in ("patch_size", "num_audio_latents"):
            if name in values:
                values[name] = _tuples(values[name])
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> HarmonyConfig:
        return cls.from_dict(json.loads(text))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    def with_(self, **changes: Any) -> HarmonyConfig:
        return replace(self, **changes)


def _check_keys(cls: type, values: dict[str, Any], required: set[str]) -> None:
    known = {field.name for field in fields(cls)}
    unknown, missing = sorted(set(values) - known), sorted(required - set(values))
    if unknown or missing:
        parts = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise ValueError(f"{cls.__name__} does not fit ({'; '.join(parts)}). Known keys: {', '.join(sorted(known))}.")
    hints = get_type_hints(cls)
    for name, value in values.items():
        kind = hints[name]
        if kind in (int, float, str, bool) and not isinstance(value, int | float if kind is float else kind):
            raise ValueError(f"{cls.__name__}.{name} is {value!r}, but must be of type {kind.__name__}.")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


# Published with Wan2.2 as its negative prompt.
_WAN_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"  # noqa: RUF001
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，"  # noqa: RUF001
    "倒着走"
)

_WAN_5B = HarmonyConfig(
    dim=3072, ffn_dim=14336, num_heads=24, num_layers=30, audio=False, interaction="none", style_alignment=False
)

_OVI_11B = _WAN_5B.with_(
    audio=True,
    interaction="global",
    rope_alignment="ovi",
    audio_patch_embedding="swiglu_conv",
    audio_ffn_conv_dim=8192,
    audio_rope_scale=0.19676,
    style_alignment=False,
    driver_isolation=False,
    num_audio_latents=((31, 157), (61, 314)),
    height=704,  # 720, in whole patches of 32 pixels
    width=704,
    steps=50,
    video_sync_scale=1.0,
    audio_sync_scale=1.0,
    video_text_scale=4.0,
    audio_text_scale=3.0,
    prompt_format="ovi",
    negative_prompt="jitter, bad hands, blur, distortion",
    negative_audio_prompt="robotic, muffled, echo, distorted",
)

PRESETS: dict[str, HarmonyConfig] = {
    "wan2.2-ti2v-5b": _WAN_5B.with_(
        steps=50,
        video_sync_scale=1.0,
        audio_sync_scale=1.0,
        video_text_scale=5.0,
        negative_prompt=_WAN_NEGATIVE,
        driver_isolation=False,
    ),
    "harmony-5b": _WAN_5B.with_(audio=True, interaction="framewise", style_alignment=True, speech=SpeechConfig()),
    "ovi-11b": _OVI_11B,
    "ovi-11b-960": _OVI_11B.with_(height=960, width=960, prompt_format="ovi-suffix"),
    "dreamid-omni": _OVI_11B.with_(
        references="appended",
        audio_rope_scale=0.197265625,  # 31 / 157 as it is there, in bfloat16
        # There v = neg + 3 (pos - neg) + 1.5 (pos - no_image), a = neg + 4 (pos - neg) + 2 (pos - no_audio). So the
        # factors of what is added to pos are 3 - 1, 1.5, 4 - 1 and 2; a scale is its factor + 1.
        video_text_scale=3.0,
        audio_text_scale=4.0,
        video_reference_scale=2.5,
        audio_reference_scale=3.0,
    ),
    "harmony-tiny": HarmonyConfig(
        dim=160,
        ffn_dim=480,
        num_heads=5,
        num_layers=6,
        freq_dim=64,
        text_dim=64,
        text_len=20,
        video_channels=24,
        audio_channels=20,
        rope_alignment="timestamp",
        cross_rope_scale=8.0,
        style_pooling="frame",
        speech=SpeechConfig(vocab="letters", vocab_size=28, max_len=24, dim=96, num_blocks=2),
        fps="12.5",
        seconds="2",
        height=64,
        width=64,
        audio_latent_rate="25",
        spatial_stride=8,
        shift=3.0,
        steps=25,
        video_sync_scale=1.5,
        audio_sync_scale=1.5,
        video_text_scale=2.0,
        audio_text_scale=3.0,
    ),
}


def preset(name: str) -> HarmonyConfig:
    """The named preset; a wrong name is an error that lists them."""
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}. Presets: {', '.join(PRESETS)}.")
    return PRESETS[name]
