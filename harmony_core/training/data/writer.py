"""Shards as they are written: each clip at once as a file of its own, then many of them together as a shard.

A process that is killed loses the clip that it was at. A shard exists when its `.jsonl` does, the entries of its
clips; only then do the files of single clips go. `index.jsonl` is all of them together, in the order of the rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from ...checkpoints import CheckpointError
from ...checkpoints.weight_files import open_safetensors
from ...checkpoints.write import write_safetensors
from ...outputs import whole_file
from ...strict import build
from .shards import (
    INDEX,
    SETTINGS,
    SHARDS,
    Entry,
    Settings,
    checksum,
    read_clip,
    read_entries,
    read_settings,
    write_lines,
)

PARTS, ENTRY = "parts", "entry"
SHARD_BYTES = 10**9

logger = logging.getLogger(__name__)


class ShardWriter:
    """Adds clips to a folder that others may be adding to as well.

    Args:
        rank: of this process, in the names of its shards.
        shard_bytes: at which a shard is full.
    """

    def __init__(self, folder: Path, rank: int, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._rank, self._limit = folder, rank, shard_bytes
        self._parts: list[Path] = []
        self._bytes = 0

    def add(self, entry: Entry, tensors: Mapping[str, Tensor]) -> None:
        """Keep a clip; `shapes`, `checksum` and `shard` of the entry are filled in here."""
        tensors = {part: tensor.contiguous() for part, tensor in tensors.items()}
        shapes = {part: list(tensor.shape) for part, tensor in tensors.items()}
        entry = replace(entry, shapes=shapes, checksum=checksum(tensors))
        path = self._folder / PARTS / f"{entry.row}.safetensors"
        named = {f"{entry.id}.{part}": tensor for part, tensor in tensors.items()}
        write_safetensors(path, named, {ENTRY: json.dumps(asdict(entry))})
        self._parts.append(path)
        self._bytes += path.stat().st_size
        if self._bytes >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Make a shard of the clips that are in none."""
        if self._parts:
            pack(self._folder, self._parts, self._rank)
        self._parts, self._bytes = [], 0


def pack(folder: Path, parts: list[Path], rank: int) -> None:
    """Files of single clips to one shard. A damaged one is left out, and so is made anew."""
    number = len(list((folder / SHARDS).glob(f"{rank:04d}-*.jsonl")))
    name = f"{rank:04d}-{number:05d}"
    entries, tensors = [], {}
    for part in parts:
        try:
            file = open_safetensors(part)
            entry = build(Entry, json.loads(file.metadata()[ENTRY]), f"{part}:")
            tensors |= {f"{entry.id}.{kind}": tensor for kind, tensor in read_clip(file, entry).items()}
        except CheckpointError as error:
            logger.warning("%s", error)
        else:
            entries.append(replace(entry, shard=f"{name}.safetensors"))
    write_safetensors(folder / SHARDS / f"{name}.safetensors", tensors)
    write_lines(folder / SHARDS / f"{name}.jsonl", entries)
    for part in parts:
        part.unlink()


def begin(folder: Path, settings: Settings) -> None:
    """Make the folder, or make ready what an earlier run left: its clips in shards, what is damaged forgotten.

    Raises:
        ValueError: names the first setting in which the earlier run differs.
    """
    for each in (folder / SHARDS, folder / PARTS):
        each.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    now = json.loads(json.dumps(asdict(settings)))
    if path.exists():
        before = json.loads(json.dumps(asdict(read_settings(folder))))
        for name in now:
            if before[name] != now[name]:
                raise ValueError(
                    f"{folder} was made with {name} {json.dumps(before[name])}, not {json.dumps(now[name])}; go on "
                    "with that, or give another folder."
                )
    with whole_file(path) as part:
        part.write_text(json.dumps(now, indent=1), encoding="utf-8")
    kept = {entry.row for entry in written(folder, check=True)}
    leftover = sorted((folder / PARTS).glob("*.safetensors"))
    for each in leftover:
        if each.stem in kept:
            each.unlink()
    if leftover := [each for each in leftover if each.stem not in kept]:
        pack(folder, leftover, rank=0)


def written(folder: Path, check: bool = False) -> list[Entry]:
    """The clips of all shards. With `check` every one is read, and damaged ones are struck from their shard's list."""
    entries: list[Entry] = []
    for path in sorted((folder / SHARDS).glob("*.jsonl")):
        listed = read_entries(path)
        if check:
            listed = _undamaged(path, listed)
        entries += listed
    return entries


def _undamaged(path: Path, entries: list[Entry]) -> list[Entry]:
    kept = []
    try:
        file = open_safetensors(path.with_suffix(".safetensors"))
    except CheckpointError as error:
        logger.warning("%s Its %d clips are made anew.", error, len(entries))
    else:
        for entry in entries:
            try:
                read_clip(file, entry)
                kept.append(entry)
            except CheckpointError as error:
                logger.warning("%s", error)
    if len(kept) < len(entries):
        write_lines(path, kept)
    return kept


def finish(folder: Path, rows: Mapping[str, str], recordings: Mapping[str, str] | None = None) -> list[Entry]:
    """Write the index of the rows, ids to digests, that are encoded; what was made of others is left out.

    `recordings`, by id, are what these rows were cut from as files lie now, whichever run encoded them where.
    """
    found = {(entry.id, entry.row): entry for entry in written(folder)}
    entries = [found[each] for each in rows.items() if each in found]
    if recordings is not None:
        entries = [replace(entry, recording=recordings[entry.id]) for entry in entries]
    write_lines(folder / INDEX, entries)
    return entries
