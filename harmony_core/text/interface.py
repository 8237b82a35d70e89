"""What every text encoder is to the rest.

Legend: B texts, S tokens, C text width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    text_len: int

    def encode(self, texts: list[str], device: torch.device | str | None = None) -> tuple[Tensor, tuple[str, ...]]:
        """Features [B, S, C] of several texts, and notes on what was not understood.

        Args:
            device: where to compute, for weights that are only fetched when they are used; None = where they are.
        """
        raise NotImplementedError
