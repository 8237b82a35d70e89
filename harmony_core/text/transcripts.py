"""Transcripts to token ids. Id 0 is the filler; character c has id index(c) + 1."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import SpeechConfig

VOCABULARIES: dict[str, tuple[str, ...]] = {"letters": tuple(" abcdefghijklmnopqrstuvwxyz'")}


def vocabulary(name: str) -> tuple[str, ...]:
    """The named vocabulary; a wrong name is an error that lists them."""
    if name not in VOCABULARIES:
        raise ValueError(f"Unknown transcript vocabulary {name!r}. Vocabularies: {', '.join(VOCABULARIES)}.")
    return VOCABULARIES[name]


def tokenize_transcript(text: str, speech: SpeechConfig) -> tuple[Tensor, tuple[str, ...]]:
    """Token ids [max_len], filler-padded, and notes on what was left out.

    Raises:
        ValueError: more characters than the checkpoint takes.
    """
    cleaned = " ".join(text.lower().split())
    if not cleaned:  # silence needs no vocabulary
        return torch.zeros(speech.max_len, dtype=torch.long), ()
    ids = {character: index + 1 for index, character in enumerate(vocabulary(speech.vocab))}
    unknown = sorted({character for character in cleaned if character not in ids})
    kept = " ".join("".join(character for character in cleaned if character in ids).split())
    notes = (f"The transcript's {' '.join(unknown)} is left out: this checkpoint does not know it.",) if unknown else ()
    if len(kept) > speech.max_len:
        raise ValueError(
            f"The transcript has {len(kept)} characters, but this checkpoint takes {speech.max_len}; shorten it."
        )
    tokens = [ids[character] for character in kept]
    return torch.tensor(tokens + [0] * (speech.max_len - len(tokens)), dtype=torch.long), notes
