"""Which stream listens to which, row by row.

A row of the batch is `joint`, or one of its streams is the driver: given, clean, and (with driver isolation) deaf to
the other. Rows of one kind are handled together.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import HarmonyConfig
from .driver_cache import DriverCache

JOINT, AUDIO_GIVEN, VIDEO_GIVEN, ISOLATED = "joint", "audio_given", "video_given", "isolated"
GIVEN = {"video": VIDEO_GIVEN, "audio": AUDIO_GIVEN}  # the role of a row whose driver is this stream


def role_with_voice(role: str, config: HarmonyConfig) -> str:
    """What a row that follows a voice is to the model: sound that is made may be as deaf as sound that is given."""
    return AUDIO_GIVEN if role == JOINT and not config.voice_hears_video else role


@dataclass(frozen=True)
class RowGroup:
    """Rows of one role (and one driver). `video` / `audio`: where they lie in each stream; None = not run."""

    role: str
    driver: Hashable
    rows: tuple[int, ...]
    video: slice | None
    audio: slice | None

    def video_listens(self, isolation: bool) -> bool:
        """Whether sound reaches the video; `isolation`: the model's drivers are deaf."""
        return self.role != ISOLATED and not (self.role == VIDEO_GIVEN and isolation)

    def audio_listens(self, isolation: bool) -> bool:
        """Whether the picture reaches the sound."""
        return self.role != ISOLATED and not (self.role == AUDIO_GIVEN and isolation)

    @property
    def driven(self) -> bool:
        return self.role in (AUDIO_GIVEN, VIDEO_GIVEN)

    @property
    def cache_key(self) -> Hashable:
        return self.role, self.driver, len(self.rows)


@dataclass(frozen=True)
class RowGroups:
    """Groups of a batch and the batch rows that each stream runs."""

    groups: tuple[RowGroup, ...]
    video_rows: tuple[int, ...]
    audio_rows: tuple[int, ...]

    @classmethod
    def build(cls, roles: tuple[str, ...], drivers: tuple[Hashable, ...], cache: DriverCache | None) -> RowGroups:
        """Group rows by (role, driver); the driver stream of a group that the cache knows is not run."""
        members: dict[tuple[str, Hashable], list[int]] = {}
        for row, key in enumerate(zip(roles, drivers, strict=True)):
            members.setdefault(key, []).append(row)
        groups: list[RowGroup] = []
        video_rows: list[int] = []
        audio_rows: list[int] = []
        for (role, driver), rows in members.items():
            cached = cache is not None and cache.filled((role, driver, len(rows)))
            spans: list[slice | None] = []
            for stream_rows, given in ((video_rows, role == VIDEO_GIVEN), (audio_rows, role == AUDIO_GIVEN)):
                if given and cached:
                    spans.append(None)
                else:
                    spans.append(slice(len(stream_rows), len(stream_rows) + len(rows)))
                    stream_rows.extend(rows)
            groups.append(RowGroup(role, driver, tuple(rows), *spans))
        return cls(tuple(groups), tuple(video_rows), tuple(audio_rows))


def take_rows(x: Tensor, rows: tuple[int, ...]) -> Tensor:
    """x[rows] without a copy when that is all of x in order."""
    if rows == tuple(range(len(x))):
        return x
    return x[torch.tensor(rows, dtype=torch.long, device=x.device)]


def put_rows(x: Tensor, rows: tuple[int, ...], batch: int) -> Tensor:
    """The inverse of `take_rows`; rows that were not run are zero."""
    if rows == tuple(range(batch)):
        return x
    out = x.new_zeros(batch, *x.shape[1:])
    out[torch.tensor(rows, dtype=torch.long, device=x.device)] = x
    return out
