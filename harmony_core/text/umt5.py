"""umT5, the text encoder of Wan2.2 and Ovi, through transformers.

Legend: B batch, S tokens, C text width.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .interface import TextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel


def clean(text: str) -> str:
    """A prompt as Wan reads it: HTML entities resolved twice, white space collapsed.

    Wan also repairs wrongly decoded text with ftfy first; without that package installed, such text stays as it is.
    """
    try:
        import ftfy  # pyright: ignore[reportMissingImports] (optional, in no extra)
    except ImportError:
        repaired = text
    else:
        repaired = ftfy.fix_text(text)
    return " ".join(html.unescape(html.unescape(repaired)).split())


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """umT5's tokeniser from a local folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def encoder_config(shapes: Mapping[str, tuple[int, ...]], num_layers: int) -> UMT5Config:
    """The encoder's config from tensor shapes (Hugging Face names)."""
    from transformers import UMT5Config

    layer = "encoder.block.0.layer."
    vocab_size, width = shapes["shared.weight"]
    buckets, heads = shapes[layer + "0.SelfAttention.relative_attention_bias.weight"]
    return UMT5Config(
        vocab_size=vocab_size,
        d_model=width,
        d_kv=shapes[layer + "0.SelfAttention.q.weight"][0] // heads,
        d_ff=shapes[layer + "1.DenseReluDense.wi_0.weight"][0],
        num_layers=num_layers,
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
    )


class UMT5TextEncoder(TextEncoder):
    """Prompts to features, zero after the end of each text.

    Args:
        model: transformers' UMT5EncoderModel.
        tokenizer: umT5's.
        text_len: tokens of a prompt, its end mark included; longer prompts are cut (Wan: 512).
    """

    def __init__(self, model: UMT5EncoderModel, tokenizer: PreTrainedTokenizerBase, text_len: int = 512) -> None:
        super().__init__()
        self.model, self.tokenizer, self.text_len = model.eval().requires_grad_(False), tokenizer, text_len

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Ids and mask [B, text_len], and a note on prompts that were cut."""
        cleaned = [clean(text) for text in texts]
        found = self.tokenizer(
            cleaned, max_length=self.text_len, padding="max_length", truncation=True, return_tensors="pt"
        )
        lengths = [len(self.tokenizer(text).input_ids) for text in cleaned]
        notes = tuple(
            f"The prompt has {length} tokens; the text encoder reads the first {self.text_len}."
            for length in lengths
            if length > self.text_len
        )
        return found.input_ids, found.attention_mask, notes

    def forward(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """Features [B, S, C]; rows past the text are zero, as the transformer's padding is."""
        features = self.model(input_ids=ids_BS, attention_mask=mask_BS).last_hidden_state
        return features * mask_BS.unsqueeze(-1).to(features)

    @torch.no_grad()
    def encode(self, texts: list[str], device: torch.device | str | None = None) -> tuple[Tensor, tuple[str, ...]]:
        """Features of several texts [B, text_len, C], and every note once.

        Args:
            device: where to compute, for weights that are only fetched when they are used.
        """
        ids, mask, notes = self.tokenize(texts)
        device = device or self.model.shared.weight.device
        return self(ids.to(device), mask.to(device)), tuple(dict.fromkeys(notes))
