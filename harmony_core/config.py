"""Model configuration: what a checkpoint file says about itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from .quoting import quoted
from .strict import build

INTERACTIONS = ("framewise", "global", "masked", "none")
ROPE_ALIGNMENTS = ("none", "index", "ovi", "timestamp")
STYLE_POOLINGS = ("none", "frame")
AUDIO_EMBEDDINGS = ("linear", "swiglu_conv", "mlp")
AUDIO_ROPES = ("temporal", "all")
REFERENCES = ("prepended", "appended", "leading")
READINGS = ("self", "cross")
SCHEDULES = ("simple", "linear")
PROMPT_FORMATS = ("separate", "ovi", "ovi-suffix")

# What a stored config must say: sizes, and the clips that the checkpoint was trained on.
REQUIRED = {"dim", "ffn_dim", "num_heads", "num_layers", "seconds", "height", "width"}


# The largest of sizes that must be 1 or more: far above every model, and no run of a wrong file fills the memory.
LARGEST = {
    "dim": 2**16,
    "ffn_dim": 2**20,
    "num_heads": 2**12,
    "num_layers": 2**10,
    "freq_dim": 2**14,
    "text_dim": 2**16,
    "text_len": 2**16,
    "video_channels": 2**12,
    "audio_channels": 2**12,
    "height": 2**14,
    "width": 2**14,
    "sample_rate": 2**20,
    "temporal_stride": 2**8,
    "spatial_stride": 2**8,
    "steps": 10**4,
}
LARGEST_OF_SPEECH = {
    "vocab_size": 2**20,
    "max_len": 2**16,
    "min_len": 2**16,
    "dim": 2**14,
    "num_blocks": 2**10,
    "conv_mult": 2**6,
}
MAX_PATCH, MAX_RATE, MAX_LATENTS, MAX_SCALE = 64, 10**5, 10**7, 1000.0
RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}|/0*[1-9][0-9]{0,8})?")
RANGES = (  # a field, its smallest value, its largest
    ("eps", 0.0, 1.0),
    ("reference_seconds", 0.01, 60.0),
    ("reference_silence", 0.0, 60.0),
    ("audio_ffn_conv_dim", 0, 2**20),
    ("audio_dim", 0, LARGEST["dim"]),
    ("audio_ffn_dim", 0, LARGEST["ffn_dim"]),
    ("audio_num_heads", 0, LARGEST["num_heads"]),
    ("window_margin", 0, MAX_LATENTS),
    ("negative_isolated_share", 0.0, 1.0),
    ("a2v_window", 0, MAX_LATENTS),
    ("v2a_window", 0, MAX_LATENTS),
    ("cross_rope_scale", 1e-6, 1e6),
    ("audio_rope_scale", 1e-6, 1e6),
    ("shift", 1e-3, 1000.0),
    *(
        (f"{stream}_{what}_scale", -MAX_SCALE, MAX_SCALE)
        for stream in ("video", "audio")
        for what in ("sync", "text", "reference", "negative")
    ),
)


def check_sizes(config: object, largest: Mapping[str, int]) -> None:
    """Raises ValueError for a size that is below 1 or above its largest."""
    for name, most in largest.items():
        value = getattr(config, name)
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be 1 or more.")
        if value > most:
            raise ValueError(f"{name} is {value}, but must be at most {most}.")


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Transcript encoder (F5-TTS style text embedding, paper 3.2.2).

    reading: `self` makes speech tokens of the audio sequence, padded with filler to `max_len`. `cross` (UniAVGen) puts
    a transcript in the place of the audio's text: of its own length, padded to `min_len`, read at positions of its own.
    """

    vocab: str = "f5"  # name of a vocabulary in text/transcripts.py
    vocab_size: int = 2545
    reading: str = "self"
    min_len: int = 1
    max_len: int = 512
    dim: int = 512
    num_blocks: int = 4
    conv_mult: int = 2

    def __post_init__(self) -> None:
        check_sizes(self, LARGEST_OF_SPEECH)
        if self.reading not in READINGS:
            raise ValueError(f"reading is {quoted(self.reading)}, but must be one of {', '.join(READINGS)}.")

    @property
    def fixed_len(self) -> int:
        """Tokens that a shorter transcript is filled to."""
        return self.max_len if self.reading == "self" else self.min_len


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

    # Sizes
    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    audio_dim: int = 0  # of the audio branch; 0 = as the video's
    audio_ffn_dim: int = 0
    audio_num_heads: int = 0
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

    # How the streams meet
    interaction: str = "framewise"
    interaction_layers: tuple[int, ...] = ()  # that have one; none listed = all
    rope_alignment: str = "index"
    cross_rope_scale: float = 1.0  # multiplies both sides' positions in cross-modal RoPE; 1 is the paper's
    audio_rope: str = "temporal"  # pairs that audio positions rotate: the temporal ones of a video head, or "all"
    audio_rope_scale: float = 1.0  # audio self-attention positions (Ovi: 0.19676)
    a2v_window: int = 1  # video latents either side whose audio a frame may hear
    v2a_window: int = 1  # video latents either side that an audio latent may see
    window_margin: int = 2  # interaction "masked": frames either side whose audio a video latent hears
    published_rounding: bool = False  # "masked": V2A's positions and the schedule in bfloat16, as published clips had
    style_alignment: bool = True
    style_pooling: str = "none"
    driver_isolation: bool = True
    # "appended" (DreamID-Omni): after the target, at its noise level. "leading" (UniAVGen): an image before the video,
    # clean, and a voice before the sound, whose sequence has one noise level: 0 as soon as a part of it is given.
    references: str = "prepended"
    voice_hears_video: bool = True  # False: where a voice is followed, the sound is deaf to the picture
    mute_reads_transcript: bool = True  # False: beside silence no words are read, in SyncCFG's pass of mute audio
    speech: SpeechConfig | None = None

    # Clips it was trained on
    fps: str = "24"
    seconds: str = "121/24"  # a clip's default length and size
    height: int = 704
    width: int = 1280
    sample_rate: int = 16000
    audio_latent_rate: str = "125/4"
    temporal_stride: int = 4
    spatial_stride: int = 16
    num_audio_latents: tuple[tuple[int, int], ...] = ()  # (T_v, T_a) pairs that override the formula (Ovi)
    reference_seconds: float = 0.48  # how much of a reference voice is heard
    reference_silence: float = 0.0  # seconds of it behind that voice

    # Sampling
    schedule: str = "simple"  # ComfyUI's; "linear": evenly spaced in 1000..1, then shifted (UniAVGen)
    shift: float = 5.0
    steps: int = 40
    video_sync_scale: float = 3.0
    audio_sync_scale: float = 2.0
    video_text_scale: float = 1.0
    audio_text_scale: float = 1.0
    video_reference_scale: float = 1.0  # of appended references
    audio_reference_scale: float = 1.0
    video_negative_scale: float = 1.0  # away from negative texts, deaf streams and left-out layers in one (UniAVGen)
    audio_negative_scale: float = 1.0
    negative_skip_layers: tuple[int, ...] = ()
    negative_isolated_share: float = 0.5  # of the steps, from the first, in which that negative's streams are deaf
    prompt_format: str = "separate"  # a caption per modality; or Ovi's one caption for both (text/ovi_caption.py)
    negative_prompt: str = ""  # of text guidance, where a request names none
    negative_audio_prompt: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("interaction", INTERACTIONS),
            ("rope_alignment", ROPE_ALIGNMENTS),
            ("style_pooling", STYLE_POOLINGS),
            ("audio_patch_embedding", AUDIO_EMBEDDINGS),
            ("audio_rope", AUDIO_ROPES),
            ("references", REFERENCES),
            ("schedule", SCHEDULES),
            ("prompt_format", PROMPT_FORMATS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {quoted(getattr(self, name))}, but must be one of {', '.join(allowed)}.")
        check_sizes(self, LARGEST)
        self._check_numbers()
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
        self._check_widths()
        if self.rope_alignment == "timestamp" and self.temporal_stride != 4:
            raise ValueError(
                f"rope_alignment 'timestamp' needs a temporal stride of 4, not {self.temporal_stride}; use 'index'."
            )

    def _check_widths(self) -> None:
        """Sizes and kinds of the audio branch that go with the video's."""
        audio = self.audio_width
        if audio.dim != audio.num_heads * self.head_dim:
            raise ValueError(
                f"audio_dim {audio.dim} must be audio_num_heads ({audio.num_heads}) times the video's head size "
                f"({self.head_dim})."
            )
        outside = [layer for layer in self.interaction_layers if not 0 <= layer < self.num_layers]
        if outside:
            raise ValueError(f"interaction_layers has {outside[0]}, but the layers are 0 to {self.num_layers - 1}.")
        if self.interaction == "masked" and (self.style_alignment or self.references != "leading"):
            raise ValueError("interaction 'masked' has no style alignment and needs references 'leading'.")
        if self.interaction != "masked" and (self.references == "leading" or self.interaction_layers):
            raise ValueError("references 'leading' and interaction_layers need interaction 'masked'.")

    def _check_numbers(self) -> None:
        """Values that no run could use, which would end in an error far from here, or in none."""
        if self.freq_dim % 2:
            raise ValueError(f"freq_dim is {self.freq_dim}, but must be even: half of it are sines, half cosines.")
        if len(self.patch_size) != 3 or not all(1 <= size <= MAX_PATCH for size in self.patch_size):
            raise ValueError(f"patch_size is {self.patch_size}, but must be three sizes of 1 to {MAX_PATCH}.")
        for name in ("fps", "seconds", "audio_latent_rate"):
            text = getattr(self, name)
            if not RATE.fullmatch(text) or not 0 < Fraction(text) <= MAX_RATE:
                raise ValueError(
                    f"{name} is {text[:20]!r}, but must be a number above 0 and at most {MAX_RATE}, like '24', '12.5' "
                    "or '125/4'."
                )
        for name, lowest, highest in RANGES:
            value = getattr(self, name)
            if not lowest <= value <= highest:  # what is no number is in no range
                raise ValueError(f"{name} is {value}, but must be from {lowest:g} to {highest:g}.")
        for pair in self.num_audio_latents:
            if len(pair) != 2 or not all(1 <= each <= MAX_LATENTS for each in pair):
                raise ValueError(
                    f"num_audio_latents has {pair}, but must have pairs of 1 to {MAX_LATENTS} video and audio latents."
                )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def video_width(self) -> Width:
        return Width(self.dim, self.ffn_dim, self.num_heads)

    @property
    def audio_width(self) -> Width:
        video = self.video_width
        return Width(
            self.audio_dim or video.dim, self.audio_ffn_dim or video.ffn_dim, self.audio_num_heads or video.num_heads
        )

    @property
    def layers_with_interaction(self) -> tuple[int, ...]:
        """In order; the n-th interaction of a model is that of the n-th layer here."""
        if self.interaction == "none":
            return ()
        return self.interaction_layers or tuple(range(self.num_layers))

    @property
    def reads_transcript_across(self) -> bool:
        """Whether a transcript stands in the place of the audio branch's text."""
        return self.speech is not None and self.speech.reading == "cross"

    @property
    def starts_from_picture(self) -> bool:
        """Whether every clip starts from a picture, in whose shape, and has the one length that was trained
        (UniAVGen)."""
        return self.references == "leading"

    @property
    def audio_rope_dim(self) -> int:
        """Twice the pairs of a head that audio positions rotate."""
        return self.head_dim if self.audio_rope == "all" else self.rope_dims[0]

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
        if isinstance(values.get("speech"), dict):
            values = values | {"speech": build(SpeechConfig, values["speech"], "SpeechConfig")}
        return build(cls, values, "HarmonyConfig", required=REQUIRED)

    @classmethod
    def from_json(cls, text: str) -> HarmonyConfig:
        return cls.from_dict(json.loads(text))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    def with_(self, **changes: Any) -> HarmonyConfig:
        return replace(self, **changes)
