"""Our small text encoder as a ComfyUI CLIP, and captions as CONDITIONING."""

from __future__ import annotations

from typing import Any

import comfy.sd
import torch
from comfy.supported_models_base import ClipTarget
from torch import Tensor, nn

from ...harmony_core.text.ovi_caption import caption
from ...harmony_core.text.tiny_encoder import TinyTextEncoder

TOKENS = "harmony"
NO_WORDS = "harmony_no_words"  # in a CONDITIONING: what its encoder makes of an empty caption
NOTHING_SAID = {"harmony_transcript": "", "harmony_audio_caption": ""}


class TextStage(nn.Module):
    """What ComfyUI's CLIP asks of a text model."""

    def __init__(self, encoder: TinyTextEncoder, device: Any, *_: Any, **__: Any) -> None:
        super().__init__()
        self.encoder = encoder.to(device, torch.float32).eval()
        self.dtypes = {torch.float32}

    def set_clip_options(self, *_: Any, **__: Any) -> None:
        """There is one layer and one output, so nothing to choose."""

    def reset_clip_options(self, *_: Any, **__: Any) -> None:
        """See `set_clip_options`."""

    def encode_token_weights(self, tokens: dict[str, Any], *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Features [1, text_len, text_dim]; there is no pooled output."""
        ids = [token[0] for token in tokens[TOKENS][0]]
        with torch.no_grad():
            return self.encoder(torch.tensor([ids], device=self.encoder.position.device)).cpu(), None

    def load_sd(self, state_dict: dict[str, Tensor], *_: Any, **__: Any) -> Any:
        return self.encoder.load_state_dict(state_dict)


class Tokenizer:
    """What ComfyUI's CLIP asks of a tokenizer. Every word weighs the same."""

    def __init__(self, encoder: TinyTextEncoder) -> None:
        self.encoder = encoder

    def tokenize_with_weights(self, text: str, *_: Any, **__: Any) -> dict[str, Any]:
        ids, _ = self.encoder.tokenize(text)
        return {TOKENS: [[(token, 1.0) for token in ids.tolist()]]}

    def notes(self, text: str) -> tuple[str, ...]:
        """What of a text this encoder cannot read."""
        return self.encoder.tokenize(text)[1]

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        return {}


def bundle_clip(encoder: TinyTextEncoder) -> comfy.sd.CLIP:
    """The encoder as a CLIP."""
    target = ClipTarget(lambda **_: Tokenizer(encoder), TextStage)
    target.params["encoder"] = encoder
    return comfy.sd.CLIP(target, parameters=sum(weight.numel() for weight in encoder.parameters()))


def encode_captions(
    clip: Any, video_caption: str, audio_caption: str, transcript: str, prompt_format: str, language: str = "en"
) -> list[Any]:
    """CONDITIONING of the video caption, with the audio caption and the transcript beside it.

    A `prompt_format` of Ovi's makes one caption of all three, which both streams read. What an empty caption is
    travels along, so that samplers can do without a negative. Raises ValueError as `ovi.caption` does.
    """
    if prompt_format != "separate":
        video_caption = audio_caption = caption(video_caption, audio_caption, transcript, prompt_format)
        transcript = ""
    audio_context = clip.encode_from_tokens(clip.tokenize(audio_caption))
    no_words = clip.encode_from_tokens(clip.tokenize(""))
    extras = {
        "harmony_audio_context": audio_context,
        "harmony_audio_caption": audio_caption,
        "harmony_transcript": transcript,
        "harmony_language": language,
        NO_WORDS: no_words,
    }
    return clip.encode_from_tokens_scheduled(clip.tokenize(video_caption), add_dict=extras)


def without_words(conditioning: list[Any]) -> list[Any] | None:
    """The same CONDITIONING, references and all, but of an empty prompt; None where it does not tell what that is."""
    if not all(NO_WORDS in extra for _, extra in conditioning):
        return None
    return [
        [extra[NO_WORDS], {**extra, **NOTHING_SAID, "harmony_audio_context": extra[NO_WORDS]}]
        for _, extra in conditioning
    ]


def unread_words(clip: Any, *texts: str) -> list[str]:
    """What of these texts the encoder cannot read, each note once."""
    if not isinstance(clip.tokenizer, Tokenizer):
        return []
    return list(dict.fromkeys(note for text in texts for note in clip.tokenizer.notes(text)))
