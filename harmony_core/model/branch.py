"""What the video and the audio transformer have in common, and a stream of tokens on its way through one.

Legend: B batch, C channels, T latent positions of a branch (audio: its tokens), L tokens, S context tokens,
K distinct noise levels, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import HarmonyConfig, Width
from ..ops.rope import RopeTable
from .blocks import Attention, Beside, Block, Reading
from .embeddings import Head, SwiGLUConvEmbedding, timestep_embedding


class Branch(nn.Module):
    """Embeddings, blocks and head of one modality, at a width of its own."""

    def __init__(
        self, config: HarmonyConfig, width: Width, out_dim: int, operations: Any, text: bool = True, **factory: Any
    ) -> None:
        super().__init__()
        dim = width.dim
        self.config = config
        if text:
            self.text_embedding = embedding_mlp(config.text_dim, dim, operations, **factory)
        self.time_embedding = nn.Sequential(
            operations.Linear(config.freq_dim, dim, **factory), nn.SiLU(), operations.Linear(dim, dim, **factory)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), operations.Linear(dim, 6 * dim, **factory))
        self.blocks: nn.ModuleList = nn.ModuleList(
            Block(width, config.eps, operations, **factory) for _ in range(config.num_layers)
        )
        self.head = Head(dim, out_dim, config.eps, operations, **factory)

    def embed_time(self, sigma_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Time embedding [B, T, D] and its projection [B, T, 6, D], computed once per distinct sigma."""
        sigma_K, index_BT = self.distinct(sigma_BT)
        e_KD = self.time_embedding(timestep_embedding(sigma_K, self.config.freq_dim).to(dtype))
        e_K6D = self.time_projection(e_KD).unflatten(-1, (6, -1))
        return e_KD[index_BT], e_K6D[index_BT]

    @staticmethod
    def distinct(sigma_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct levels [K], and which of them each latent has. Without values (the meta device) a level is one."""
        if sigma_BT.is_meta:
            return sigma_BT.new_zeros(1), torch.zeros_like(sigma_BT, dtype=torch.long)
        return torch.unique(sigma_BT, return_inverse=True)

    def embed_text(self, context_BSC: Tensor) -> Tensor:
        """Zero-pad to `text_len` first: padding rows become a constant that is attended to, as in Wan."""
        length, limit = context_BSC.shape[1], self.config.text_len
        if length > limit:
            raise ValueError(f"The text has {length} tokens, but this model takes {limit}; shorten the prompt.")
        return self.text_embedding(nn.functional.pad(context_BSC, (0, 0, 0, limit - length)))


def embedding_mlp(dim_in: int, dim: int, operations: Any, **factory: Any) -> nn.Sequential:
    """Of text features, and of what a model embeds in the same way."""
    return nn.Sequential(
        operations.Linear(dim_in, dim, **factory),
        nn.GELU(approximate="tanh"),
        operations.Linear(dim, dim, **factory),
    )


class AudioBranch(Branch):
    """The audio transformer: one token per latent."""

    def __init__(self, config: HarmonyConfig, operations: Any, **factory: Any) -> None:
        width, reads_text = config.audio_width, not config.reads_transcript_across
        super().__init__(config, width, config.audio_channels, operations, reads_text, **factory)
        dim = config.audio_width.dim
        if config.audio_patch_embedding == "linear":
            self.patch_embedding = operations.Conv1d(config.audio_channels, dim, kernel_size=1, **factory)
        elif config.audio_patch_embedding == "mlp":
            self.patch_embedding = embedding_mlp(config.audio_channels, dim, operations, **factory)
            # Published for batches of unequal sounds, which no pass here has; kept, so that a file stays whole.
            self.padding = nn.Parameter(torch.empty(dim, **factory))
        else:
            self.patch_embedding = nn.Sequential(
                operations.Conv1d(config.audio_channels, dim, kernel_size=7, padding=3, **factory),
                nn.SiLU(),
                SwiGLUConvEmbedding(dim, config.audio_ffn_conv_dim, operations, **factory),
            )

    def embed(self, latents_BCT: Tensor) -> Tensor:
        if self.config.audio_patch_embedding == "mlp":
            return self.patch_embedding(latents_BCT.transpose(1, 2))
        return self.patch_embedding(latents_BCT).transpose(1, 2)


@dataclass
class Stream:
    """One branch's tokens on their way through the layers, and what stays fixed meanwhile."""

    x_BLD: Tensor
    e_BTD: Tensor
    e_BT6D: Tensor
    context_BSD: Tensor
    rope: RopeTable
    reading: Reading | None = None  # of a context that has positions

    def rows(self, take: Callable[[Tensor], Tensor]) -> Stream:
        """Some of its rows, as `take` takes them from a tensor."""
        batch = {name: take(getattr(self, name)) for name in ("x_BLD", "e_BTD", "e_BT6D", "context_BSD")}
        cos, sin = (take(each) if len(each) > 1 else each for each in self.rope)  # one row may stand for all
        return replace(self, **batch, rope=(cos, sin))

    def through(self, block: nn.Module, attention: Attention) -> None:
        """Through a whole block."""
        text = {"context_BSD": self.context_BSD, "reading": self.reading}
        self.x_BLD = block(self.x_BLD, self.e_BT6D, attention, rope=self.rope, **text)

    def attend(self, block: nn.Module, attention: Attention) -> None:
        """Through the first half of a block."""
        self.x_BLD = block(self.x_BLD, self.e_BT6D, attention, rope=self.rope)

    def finish(self, block: nn.Module, attention: Attention, beside: Beside) -> None:
        """Through the second half."""
        self.x_BLD = block(self.x_BLD, self.e_BT6D, attention, context_BSD=self.context_BSD, beside=beside)

    def add(self, residual_BLD: Tensor) -> None:
        """What it meets behind a block."""
        self.x_BLD = self.x_BLD + residual_BLD


class StoppedStream:
    """A stream with neighbouring rows that no gradient passes through, which are run apart from the others."""

    def __init__(self, stream: Stream, stopped: slice) -> None:
        self.e_BTD, self._stopped = stream.e_BTD, stopped
        self._still, self._moving = stream.rows(self._take_still), stream.rows(self._take_moving)

    @property
    def x_BLD(self) -> Tensor:  # noqa: N802 (as a stream's)
        before, behind = self._moving.x_BLD.tensor_split([self._stopped.start])
        return torch.cat((before, self._still.x_BLD, behind))

    def through(self, block: nn.Module, attention: Attention) -> None:
        self._moving.through(block, attention)
        with torch.no_grad():
            self._still.through(block, attention)

    def attend(self, block: nn.Module, attention: Attention) -> None:
        self._moving.attend(block, attention)
        with torch.no_grad():
            self._still.attend(block, attention)

    def finish(self, block: nn.Module, attention: Attention, beside: Beside) -> None:
        assert beside.residual_BLD is not None
        self._moving.finish(block, attention, Beside(self._take_moving(beside.residual_BLD)))
        with torch.no_grad():
            self._still.finish(block, attention, Beside(self._take_still(beside.residual_BLD)))

    def add(self, residual_BLD: Tensor) -> None:
        self._moving.add(self._take_moving(residual_BLD))
        with torch.no_grad():
            self._still.add(self._take_still(residual_BLD))

    def _take_still(self, x: Tensor) -> Tensor:
        return x[self._stopped]

    def _take_moving(self, x: Tensor) -> Tensor:
        return torch.cat((x[: self._stopped.start], x[self._stopped.stop :]))
