"""Batches of encoded clips: what a step reads follows from the seed and its number, however many processes share it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from ...diffusion.latents import AVLatents
from .batch import ClipBatch, Voice, process_rows
from .shards import Sample, Shards

SAME_CLIP, OTHER_CLIP = "same_clip", "other_clip"


@dataclass(frozen=True)
class ReferenceRule:
    """Where reference sounds come from.

    `same_clip` (the paper's stage 1) is any part of the clip's own sound. `other_clip` (stage 2) is the clip's stored
    reference (a file, or a part of its recording that it does not show), or another clip of its speaker that does not
    overlap it. A batch has a reference with probability `share`, of a length drawn from `latents`, both ends included.
    Where shards have `spoken_references` it is heard whole, and only a clip in which something is said can be one.
    """

    kind: str
    latents: tuple[int, int]
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in (SAME_CLIP, OTHER_CLIP):
            raise ValueError(f"The reference rule is {self.kind!r}, but must be {SAME_CLIP} or {OTHER_CLIP}.")
        low, high = self.latents
        if not 1 <= low <= high or not 0 <= self.share <= 1:
            raise ValueError(
                f"References of {low} to {high} latents in a share of {self.share:g} cannot be drawn; take 1 or more "
                "latents, the fewest first, and a share from 0 to 1."
            )


class Reference(NamedTuple):
    """`length` latents of `part` of clip `clip`, from `start`, a share of what is left over."""

    clip: int
    part: str
    start: float


@dataclass
class Batches(Dataset):
    """The clips of `shards` in batches of one bucket each, with sound or without: what a step reaches of the weights is
    the same in every process.

    An epoch is every clip once: each bucket in an order of its own, filled up from its beginning to whole batches, and
    the batches of all buckets shuffled. Under `other_clip`, sounds for which there is no reference are `left_out`; a
    clip without sound needs none and gets zeros.

    Args:
        batch_size: of all processes together, which share each batch as `process_rows` says.
        pictures: whether pictures are read.
        needs: what a clip must have, `video`, `audio` or both; others are left out.
        only: of which clips batches are made; None = all.
        lends: clips that may be others' references; None = those of `only`, so that what is held back is never heard.

    Raises:
        ValueError: a batch that processes cannot share evenly, or no clip to draw.
    """

    shards: Shards
    batch_size: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    reference: ReferenceRule | None = None
    pictures: bool = True
    needs: tuple[str, ...] = ()
    only: Sequence[int] | None = None
    lends: Sequence[int] | None = None
    left_out: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.batch_size % self.world:
            raise ValueError(
                f"batch_size is {self.batch_size}, which {self.world} processes cannot share evenly; choose a multiple."
            )
        entries, self._speakers = self.shards.entries, defaultdict(list)
        self._heard = "voice" if self.shards.settings.spoken_references else "audio"  # of a clip as another's reference
        if self.reference is not None and self.reference.kind == OTHER_CLIP:
            for index in self._drawn if self.lends is None else self.lends:
                if entries[index].speaker and self._heard in entries[index].shapes:
                    self._speakers[entries[index].speaker].append(index)
            heard = (index for index in self._drawn if entries[index].has_sound)
            self.left_out = [index for index in heard if self._other(index, 0.0) is None]
        for index in self._drawn:
            has = {"video": entries[index].has_video, "audio": entries[index].has_sound}
            if not all(has[each] for each in self.needs):
                self.left_out.append(index)
        excluded = set(self.left_out)
        buckets: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for index in self._drawn:
            if index not in excluded:
                buckets[entries[index].bucket, entries[index].has_sound].append(index)
        if not buckets:
            why = f" with {' and '.join(self.needs)}" if self.needs else ""
            why += "" if self.reference is None else f" that has a reference by the rule {self.reference.kind}"
            raise ValueError(f"{self.shards.folder} holds no clip{why}.")
        self._buckets = [np.array(buckets[name]) for name in sorted(buckets)]
        self._epoch, self._order = -1, []
        self.steps_per_epoch = sum(-(-len(each) // self.batch_size) for each in self._buckets)

    @property
    def _drawn(self) -> Sequence[int]:
        return range(len(self.shards)) if self.only is None else self.only

    def __getitem__(self, step: int) -> ClipBatch:
        return self.at(step)

    def clips(self, step: int) -> list[int]:
        """Which clips the whole batch of a step holds."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._order_of(epoch)
        return self._order[place].tolist()

    def _order_of(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, clips each."""
        rng = np.random.default_rng([self.seed, epoch, 0])
        batches: list[np.ndarray] = []
        for clips in self._buckets:
            filled = -(-len(clips) // self.batch_size) * self.batch_size
            batches += np.split(np.resize(rng.permutation(clips), filled), filled // self.batch_size)
        return [batches[place] for place in rng.permutation(len(batches))]

    def at(self, step: int) -> ClipBatch:
        """This process's share of the batch of step `step`, from 0."""
        clips = self.clips(step)
        length, references = self._references(step, clips)
        mine = process_rows(self.batch_size, self.rank, self.world)
        own = [clips[row] for row in mine]
        cuts = [references[row] for row in mine] if references else []
        sources = {each.clip for each in cuts if each is not None}
        samples = {index: self.shards[index] for index in {*own, *sources}}
        batch = self._collate([samples[index] for index in own])
        if self.shards.settings.spoken_references:
            return replace(batch, voices=tuple(_voice(each, samples) for each in cuts))
        sounds = [self._cut(each, length, samples) for each in cuts]
        return replace(batch, reference=torch.stack(sounds) if sounds else None)

    def present(self, step: int) -> list[tuple[bool, bool]]:
        """Whether each clip of the whole batch of a step has pictures that are read, and sound."""
        entries = [self.shards.entries[index] for index in self.clips(step)]
        return [(self.pictures and entry.has_video, entry.has_sound) for entry in entries]

    def loader(self, first_step: int, steps: int, workers: int = 0) -> DataLoader:
        """A DataLoader over `at(first_step) .. at(steps - 1)`, read ahead by `workers` processes."""
        # A generator of its own: else every DataLoader takes a number from torch's, which a resumed run would miss.
        options: dict[str, Any] = {"generator": torch.Generator()}
        if workers:
            options |= {"prefetch_factor": 2, "persistent_workers": True}
        return DataLoader(self, batch_size=None, sampler=range(first_step, steps), num_workers=workers, **options)

    def _other(self, index: int, pick: float) -> tuple[int, str] | None:
        """(clip, part) that `other_clip` takes for a clip: the first that fits of its speaker's, from share `pick`."""
        entry = self.shards.entries[index]
        if "reference" in entry.shapes:
            return index, "reference"
        voices = self._speakers.get(entry.speaker, [])
        first = int(pick * len(voices))
        for other in chain(islice(voices, first, None), islice(voices, first)):
            if other != index and not entry.overlaps(self.shards.entries[other]):
                return other, self._heard
        return None

    def _references(self, step: int, clips: list[int]) -> tuple[int, list[Reference | None]]:
        """The length of the references of a step, 0 for none, and one a clip: drawn for the whole batch."""
        rule = self.reference
        rng = np.random.default_rng([self.seed, step, 1])
        if rule is None or rng.random() >= rule.share:
            return 0, []
        length = int(rng.integers(rule.latents[0], rule.latents[1] + 1))
        found: list[Reference | None] = []
        for index in clips:
            pick, start = rng.random(), rng.random()
            if not self.shards.entries[index].has_sound:
                found.append(None)
                continue
            source = (index, self._heard) if rule.kind == SAME_CLIP else self._other(index, pick)
            assert source is not None  # others are left out
            found.append(Reference(*source, start))
        there = [self.shards.entries[each.clip].shapes[each.part][-1] for each in found if each is not None]
        return min([length, *there]), found

    def _cut(self, reference: Reference | None, length: int, samples: dict[int, Sample]) -> Tensor:
        if reference is None:
            return torch.zeros(self.shards.settings.audio_channels, length)
        sound_CT = getattr(samples[reference.clip], reference.part)
        first = int(reference.start * (sound_CT.shape[-1] - length + 1))
        return sound_CT[:, first : first + length].float()

    def _collate(self, samples: list[Sample]) -> ClipBatch:
        """Samples of one bucket, without references. Pictures that none of them has, or that are not read, are a patch
        a frame, at no cost."""
        settings, entry = self.shards.settings, samples[0].entry
        num_latent_frames = (entry.frames - 1) // settings.temporal_stride + 1
        no_video = torch.zeros(settings.video_channels, num_latent_frames, *settings.patch_size[1:])
        no_sound = torch.zeros(settings.audio_channels, entry.audio_latents)
        seen = [each.video if self.pictures else None for each in samples]
        audio = [no_sound if each.audio is None else each.audio.float() for each in samples]
        transcripts = [each.transcript for each in samples if each.transcript is not None]
        return ClipBatch(
            clean=AVLatents(
                torch.stack([no_video if video is None else video.float() for video in seen]), torch.stack(audio)
            ),
            has_video=torch.tensor([video is not None for video in seen]),
            has_sound=torch.tensor([each.audio is not None for each in samples]),
            video_text=torch.stack([_padded(each.text, settings.text_len) for each in samples]),
            audio_text=torch.stack([_padded(each.audio_text, settings.text_len) for each in samples]),
            transcript=pad_sequence(transcripts, batch_first=True) if transcripts else None,
            reference=None,
            ids=tuple(each.entry.id for each in samples),
        )


def _voice(reference: Reference | None, samples: dict[int, Sample]) -> Voice | None:
    if reference is None:
        return None
    sample = samples[reference.clip]
    latents_CT = getattr(sample, reference.part)
    words = sample.spoken if reference.part == "reference" else sample.transcript
    assert words is not None
    return Voice(latents_CT.float(), words)


def _padded(text: Tensor, length: int) -> Tensor:
    """Features [S, D] float32 followed by zeros, as the transformer was trained with; ids [S] as they are."""
    if text.ndim == 1:
        return text
    padded_SD = torch.zeros(length, text.shape[1])
    padded_SD[: len(text)] = text
    return padded_SD
