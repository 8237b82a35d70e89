"""Encoded clips on disk: safetensors files of about a gigabyte, behind an index that alone decides what is drawn.

A folder holds `dataset.json` (what encoded them: `Settings`), `index.jsonl` (an `Entry` a line), `shards/*.safetensors`
and `empty.safetensors` (`mute.N`: encoded silence of N latents; `text`: the features of no text, where texts are
features). A shard has the tensors `ID.video` [C, T_v, h, w],
`ID.audio` and `ID.reference` [C, T], `ID.text` and `ID.audio_text` ([S, D] features trimmed to the text, or [S] ids)
and `ID.transcript` [S]; what a clip lacks is not there. For a model that reads what a reference says, `ID.transcript`
is the words alone, `ID.spoken` [S] those of the reference, and `ID.voice` [C, T] the clip's sound as a reference of
others. Files are memory-mapped: a clip is read where it lies.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checkpoints import CheckpointError
from ...checkpoints.weight_files import open_safetensors
from ...outputs import whole_file
from ...strict import build

SETTINGS, INDEX, EMPTY, SHARDS = "dataset.json", "index.jsonl", "empty.safetensors", "shards"
FIX = "run harmony encode again, which makes anew what is damaged"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What clips were encoded with, so that a trainer can refuse those of another model.

    `video_autoencoder`, `audio_autoencoder` and `text_encoder` are fingerprints of weights; `text` is `features`, or
    `ids` of a vocabulary of which `text_encoder` is the fingerprint. `transcript_len` is 0 without speech;
    `spoken_references` says that a reference is heard whole, and its words read (UniAVGen).
    """

    source: str  # the manifest's or folder's name
    video_autoencoder: str
    audio_autoencoder: str
    text_encoder: str
    text: str
    text_len: int
    transcript_len: int
    video_channels: int
    audio_channels: int
    sample_rate: int
    audio_latent_rate: str
    temporal_stride: int
    patch_size: tuple[int, ...]
    buckets: tuple[str, ...]
    spoken_references: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A clip in the index. `row` identifies what it was made from, `checksum` is the CRC-32 of its tensors.

    `start` and `end` are seconds of `recording` (the file, where none is named: `Row.cut_from`) that it shows.
    """

    id: str
    row: str
    shard: str
    shapes: dict[str, list]
    bucket: str
    frames: int  # of pictures, seen or not, before encoding
    audio_latents: int  # heard or not
    duration: float
    start: float
    end: float
    checksum: str
    speaker: str = ""
    recording: str = ""
    language: str = ""
    speech: bool = False

    @property
    def has_video(self) -> bool:
        return "video" in self.shapes

    @property
    def has_sound(self) -> bool:
        return "audio" in self.shapes

    def overlaps(self, other: Entry) -> bool:
        """Whether both show a moment of one recording."""
        same = self.recording == other.recording
        return same and self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Sample:
    """A clip as it is stored: None for what it lacks."""

    entry: Entry
    text: Tensor
    audio_text: Tensor
    video: Tensor | None = None
    audio: Tensor | None = None
    reference: Tensor | None = None
    transcript: Tensor | None = None
    spoken: Tensor | None = None
    voice: Tensor | None = None


@dataclass
class Shards:
    """A folder of encoded clips, for random access. Each process opens the files that it reads.

    Raises:
        CheckpointError: no such folder, or a file of it that cannot be read.
    """

    folder: Path
    entries: list[Entry] = field(init=False)
    settings: Settings = field(init=False)
    _files: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.folder / INDEX).is_file():
            raise CheckpointError(f"{self.folder} holds no {INDEX}; make it with harmony encode MANIFEST -o DIR.")
        self.settings = read_settings(self.folder)
        self.entries = read_entries(self.folder / INDEX)

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_files": {}}

    def __getitem__(self, index: int) -> Sample:
        """Clip `index` of the index, its checksum held. Raises CheckpointError for a damaged one."""
        entry = self.entries[index]
        file = self._open(f"{SHARDS}/{entry.shard}")
        tensors = read_clip(file, entry)
        return Sample(entry, **tensors)

    def check(self, expected: Settings) -> None:
        """Whether these clips are those of a trainer's own models.

        Raises:
            ValueError: names the first thing in which what encoded them differs.
        """
        for name, value in vars(expected).items():
            found = getattr(self.settings, name)
            if name not in ("source", "buckets") and found != value:
                raise ValueError(
                    f"The clips in {self.folder} were encoded with {name} {found}, but the model to be trained has "
                    f"{value}; encode them with that model."
                )

    def mute(self, length: int) -> Tensor:
        """Encoded silence [C, length], where a clip of that length is in the index."""
        return self._open(EMPTY).get_tensor(f"mute.{length}")

    def empty_text(self) -> Tensor:
        """What a dropped text is: its features [S, D], or no ids [S]."""
        if self.settings.text == "ids":
            return torch.zeros(self.settings.text_len, dtype=torch.long)
        return self._open(EMPTY).get_tensor("text")

    def _open(self, name: str) -> Any:
        if name not in self._files:
            self._files[name] = open_safetensors(self.folder / name)
        return self._files[name]


def read_clip(file: Any, entry: Entry) -> dict[str, Tensor]:
    """A clip's tensors by part, views of the mapped file. Raises CheckpointError for a damaged one."""
    try:
        tensors = {part: file.get_tensor(f"{entry.id}.{part}") for part in entry.shapes}
    except Exception as error:  # safetensors raises its own and Python's
        raise CheckpointError(f"{entry.shard} lacks a part of clip {entry.id} ({error}); {FIX}.") from error
    if checksum(tensors) != entry.checksum:
        raise CheckpointError(f"Clip {entry.id} in {entry.shard} is damaged: its checksum is another; {FIX}.")
    return tensors


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the bytes, part after part: fast enough to be held at every reading."""
    total = 0
    for part in sorted(tensors):
        total = zlib.crc32(tensors[part].contiguous().view(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def read_settings(folder: Path) -> Settings:
    return build(Settings, json.loads((folder / SETTINGS).read_text(encoding="utf-8")), f"{folder / SETTINGS}:")


def read_entries(path: Path) -> list[Entry]:
    """Not through `strict.build`, which would take minutes for a million clips."""
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, values: list[Any]) -> None:
    """Dataclasses or dictionaries as JSON lines, whole or not at all."""
    lines = [json.dumps(each if isinstance(each, dict) else asdict(each), ensure_ascii=True) for each in values]
    with whole_file(path) as part:
        part.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
