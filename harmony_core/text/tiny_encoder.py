"""The small text encoder of the embedded checkpoint: a closed vocabulary of words.

Legend: B batch, S words, C text width.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from ..quoting import listed
from .interface import TextEncoder

PAD, UNKNOWN = 0, 1  # ids; word w has id index(w) + 2


class TinyTextEncoder(TextEncoder):
    """Word and position embeddings, and a convolution that binds neighbours ("red shirt")."""

    def __init__(self, vocabulary: tuple[str, ...], text_len: int, text_dim: int) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.text_len = text_len
        self.embed = nn.Embedding(len(self.vocabulary) + 2, text_dim, padding_idx=PAD)
        self.position = nn.Parameter(torch.randn(text_len, text_dim) * 0.1)
        self.mix = nn.Conv1d(text_dim, text_dim, kernel_size=3, padding=1)
        self._ids = {word: index + 2 for index, word in enumerate(self.vocabulary)}

    @property
    def config(self) -> dict:
        """Constructor arguments, as a checkpoint stores them."""
        text_len, text_dim = self.position.shape
        return {"vocabulary": list(self.vocabulary), "text_len": text_len, "text_dim": text_dim}

    def tokenize(self, text: str) -> tuple[Tensor, tuple[str, ...]]:
        """Ids [text_len] and notes on words that are unknown or beyond the limit."""
        words = re.findall(r"[a-z0-9']+", text.lower())
        kept = words[: self.text_len]
        notes = ()
        if len(words) > len(kept):
            notes += (f"The prompt has {len(words)} words; this checkpoint reads the first {self.text_len}.",)
        foreign = [word for word in re.findall(r"[^\W_]+", text.lower()) if re.search(r"[^a-z0-9]", word)]
        unknown = sorted({word for word in (*kept, *foreign[: self.text_len]) if word not in self._ids})
        if foreign and not words:
            notes += ("Nothing of this prompt is read: this checkpoint knows English words only.",)
        if unknown:
            notes += (f"Words this checkpoint does not know: {listed(unknown, 20)}.",)
        ids = [self._ids.get(word, UNKNOWN) for word in kept]
        return torch.tensor(ids + [PAD] * (self.text_len - len(ids)), dtype=torch.long), notes

    def forward(self, ids_BS: Tensor) -> Tensor:
        """Features [B, text_len, text_dim]; rows past the text are zero."""
        present_BS1 = (ids_BS != PAD).unsqueeze(-1)
        x_BSC = (self.embed(ids_BS) + self.position) * present_BS1
        return (x_BSC + self.mix(x_BSC.transpose(1, 2)).transpose(1, 2)) * present_BS1

    def encode(self, texts: list[str], device: torch.device | str | None = None) -> tuple[Tensor, tuple[str, ...]]:
        """Features of several texts, and every note once; `device` as in `UMT5TextEncoder.encode`."""
        ids, notes = zip(*(self.tokenize(text) for text in texts), strict=True)
        features = self(torch.stack(ids).to(device or self.position.device))
        return features, tuple(dict.fromkeys(note for each in notes for note in each))
