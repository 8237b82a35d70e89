"""Batches: a function of seed and step, whoever reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from harmony_core.autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from harmony_core.presets import preset
from harmony_core.strict import build
from harmony_core.text.tiny_encoder import TinyTextEncoder
from harmony_core.toyworld import HARD, PLAIN, VOCABULARY
from harmony_core.training.config import TrainingConfig
from harmony_core.training.data.batch import ClipBatch
from harmony_core.training.data.loader import OTHER_CLIP, SAME_CLIP, Batches, ReferenceRule
from harmony_core.training.data.shards import Entry, Settings, Shards
from harmony_core.training.data.toyworld import encode_clips, render_clips, write_toy_shards
from harmony_core.training.data.writer import ShardWriter, begin, finish
from harmony_core.training.trainer import make_batches

TINY = preset("harmony-tiny")
SETTINGS = Settings(
    source="made",
    video_autoencoder="v",
    audio_autoencoder="a",
    text_encoder="t",
    text="features",
    text_len=6,
    transcript_len=4,
    video_channels=TINY.video_channels,
    audio_channels=TINY.audio_channels,
    sample_rate=TINY.sample_rate,
    audio_latent_rate=TINY.audio_latent_rate,
    temporal_stride=TINY.temporal_stride,
    patch_size=TINY.patch_size,
    buckets=(),
)
LONG, SHORT, HEARD = "long", "short", "sound alone"


def write_clips(folder: Path, clips: list[tuple[str, dict]]) -> Shards:
    """Clips of a bucket each, sound filled with their own number, so that a reference says where it is from."""
    begin(folder, SETTINGS)
    writer, rows = ShardWriter(folder, rank=0, shard_bytes=10_000), {}
    for number, (bucket, facts) in enumerate(clips):
        frames, sound = (25, 50) if bucket != SHORT else (9, 18)
        tensors = {
            "video": torch.full((24, (frames - 1) // 4 + 1, 4, 4), float(number)).half(),
            "audio": torch.full((20, sound), float(number)).half(),
            "text": torch.ones(1 + number % 5, 8).bfloat16(),
            "audio_text": torch.ones(2, 8).bfloat16(),
            "transcript": torch.zeros(4, dtype=torch.long),
        }
        for part in (["video"] if bucket == HEARD else []) + facts.pop("lacks", []):
            del tensors[part]
        entry = Entry(
            id=f"clip {number}",
            row=f"{number:016x}",
            shard="",
            shapes={},
            bucket=bucket,
            frames=frames,
            audio_latents=sound,
            duration=frames / 12.5,
            start=0.0,
            end=frames / 12.5,
            checksum="",
        )
        entry = replace(entry, **{"recording": f"file {number}"} | facts)
        writer.add(entry, tensors)
        rows[entry.id] = entry.row
    writer.flush()
    finish(folder, rows)
    return Shards(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    kinds = [LONG] * 10 + [SHORT] * 5 + [HEARD] * 3
    return write_clips(tmp_path_factory.mktemp("set"), [(kind, {}) for kind in kinds])


def same(one: ClipBatch, other: ClipBatch) -> bool:
    pairs = zip((*one.clean, one.has_video, one.video_text), (*other.clean, other.has_video, other.video_text))  # noqa: B905
    return one.ids == other.ids and all(torch.equal(a, b) for a, b in pairs)


def test_clips_of_another_model_are_refused(shards: Shards) -> None:
    shards.check(replace(SETTINGS, source="elsewhere", buckets=("64x64",)))
    with pytest.raises(ValueError, match="were encoded with text_encoder t, but the model to be trained has other"):
        shards.check(replace(SETTINGS, text_encoder="other"))


def test_many_shards_are_one_list(shards: Shards) -> None:
    assert len({entry.shard for entry in shards.entries}) > 3
    assert [int(sample.audio[0, 0]) for sample in (shards[i] for i in range(len(shards)))] == list(range(18))


def test_a_kill_while_a_shard_is_made_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Before its list of clips is there a shard is none; after it the files of single clips are of no use."""
    whole = write_clips(tmp_path, [(LONG, {})] * 3)
    parts, made = tmp_path / "parts", tmp_path / "shards"
    writer = ShardWriter(tmp_path, rank=0)
    for index, entry in enumerate(whole.entries):
        sample = whole[index]
        writer.add(entry, {part: getattr(sample, part).clone() for part in entry.shapes})
    kept = {path: path.read_bytes() for path in parts.iterdir()}
    for path in made.glob("*.jsonl"):
        path.unlink()
    begin(tmp_path, SETTINGS)
    rows = {entry.id: entry.row for entry in whole.entries}
    assert [entry.checksum for entry in finish(tmp_path, rows)] == [entry.checksum for entry in whole.entries]
    assert not list(parts.iterdir())
    for path, content in kept.items():
        path.write_bytes(content)
    begin(tmp_path, SETTINGS)
    assert not list(parts.iterdir())
    assert len(list(made.glob("*.jsonl"))) == 1
    assert len(finish(tmp_path, rows)) == 3


def test_an_epoch_is_every_clip_and_a_batch_one_bucket(shards: Shards) -> None:
    batches = Batches(shards, batch_size=4, seed=3)
    assert batches.steps_per_epoch == 3 + 2 + 1
    epochs = [[batches.clips(step) for step in range(6 * n, 6 * n + 6)] for n in range(2)]
    for epoch in epochs:
        assert {clip for batch in epoch for clip in batch} == set(range(18))
        assert all(len({shards.entries[clip].bucket for clip in batch}) == 1 for batch in epoch)
    assert epochs[0] != epochs[1]


def test_a_step_is_the_same_whatever_was_read_before(shards: Shards) -> None:
    one, other = Batches(shards, 4, seed=1), Batches(shards, 4, seed=1)
    ahead = {step: one.at(step) for step in (20, 3, 11, 0)}
    assert all(same(other.at(step), ahead[step]) for step in sorted(ahead))
    assert not same(Batches(shards, 4, seed=2).at(0), ahead[0])


def test_processes_share_a_batch(shards: Shards) -> None:
    rule = ReferenceRule(SAME_CLIP, (4, 9))
    whole = Batches(shards, 4, seed=1, reference=rule)
    shares = [Batches(shards, 4, seed=1, rank=rank, world=2, reference=rule) for rank in range(2)]
    for step in range(6):
        alone, parts = whole.at(step), [each.at(step) for each in shares]
        assert alone.reference is not None
        for rank, part in enumerate(parts):
            assert part.ids == alone.ids[rank::2]
            assert torch.equal(part.reference, alone.reference[rank::2])
            assert torch.equal(part.clean.video, alone.clean.video[rank::2])
    with pytest.raises(ValueError, match="batch_size is 3, which 2 processes cannot share evenly"):
        Batches(shards, 3, world=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_goes_on_at_any_step(shards: Shards, workers: int) -> None:
    batches = Batches(shards, 4, seed=5)
    read = list(batches.loader(7, 12, workers))
    assert len(read) == 5
    assert all(same(each, batches.at(7 + place)) for place, each in enumerate(read))


def test_what_a_clip_lacks_is_zero_and_said(tmp_path: Path) -> None:
    """Clips that lack something are together, so that a step reaches the same weights in every process."""
    films = [(LONG, {}), (LONG, {"lacks": ["audio"]}), (LONG, {}), (LONG, {"lacks": ["audio"]})]
    shards = write_clips(tmp_path, [*films, (HEARD, {}), (HEARD, {})])
    batches = Batches(shards, 2)
    seen = {frozenset(batch.ids): batch for batch in map(batches.at, range(3))}
    whole, unheard, heard = (seen[frozenset({f"clip {n}", f"clip {n + step}"})] for n, step in ((0, 2), (1, 2), (4, 1)))
    assert whole.has_sound.tolist() == [True, True]
    assert unheard.has_sound.tolist() == [False, False]
    assert whole.clean.sound.shape == unheard.clean.sound.shape == (2, 20, 50)
    assert whole.clean.sound.any()
    assert not unheard.clean.sound.any()
    assert heard.has_video.tolist() == [False, False]
    assert heard.clean.video.shape == (2, 24, 7, 2, 2)  # a patch a frame
    assert whole.video_text.shape == (2, 6, 8)
    assert whole.video_text.sum(dim=(1, 2)).sort().values.tolist() == [8.0, 24.0]


def test_references_of_the_same_clip(shards: Shards) -> None:
    batches = Batches(shards, 4, reference=ReferenceRule(SAME_CLIP, (4, 9), share=0.5))
    read = [batches.at(step) for step in range(40)]
    lengths = {0 if each.reference is None else each.reference.shape[-1] for each in read}
    assert lengths <= {0, *range(4, 10)}
    assert 0 in lengths
    for batch in read:
        if batch.reference is not None:
            assert torch.equal(batch.reference[:, 0, 0], batch.clean.sound[:, 0, 0])


def test_references_of_the_same_speaker_never_overlap_the_clip(tmp_path: Path) -> None:
    film = {"recording": "film", "speaker": "a"}
    clips = [
        (LONG, {"speaker": "a"}),
        (LONG, film | {"start": 0.0, "end": 2.0}),
        (LONG, film | {"start": 1.0, "end": 3.0}),
        (LONG, {"speaker": "b"}),  # whose only clip it is
        (LONG, {}),
        (LONG, {"lacks": ["audio"]}),  # which needs none
    ]
    batches = Batches(write_clips(tmp_path, clips), 1, reference=ReferenceRule(OTHER_CLIP, (4, 4)))
    assert batches.left_out == [3, 4]
    found = {}
    for step in range(60):
        batch = batches.at(step)
        assert batch.reference is not None
        found.setdefault(batch.ids[0], set()).add(int(batch.reference[0, 0, 0]))
    assert found == {"clip 0": {1, 2}, "clip 1": {0}, "clip 2": {0}, "clip 5": {0}}


def test_clips_that_are_held_back_are_no_references_in_training(tmp_path: Path) -> None:
    shards = write_clips(tmp_path, [(LONG, {"speaker": name}) for name in ("a", "a", "b", "a", "b")])
    held = {"data": {"shards": str(tmp_path), "validation": 2}, "objective": {"reference_share": 1}}
    config = build(TrainingConfig, {"steps": 1, "batch_size": 1, "start": {"model": "harmony-tiny"}} | held, "test")
    training, validation = make_batches(config, shards, Accelerator(cpu=True))
    assert training.left_out == [2]
    assert validation is not None
    assert validation.left_out == []
    heard = []
    for batches in (training, validation):
        references = [batches.at(step).reference for step in range(40)]
        heard.append({int(each[0, 0, 0]) for each in references if each is not None})
    assert heard == [{0, 1}, {0, 1, 2}]


def test_the_procedural_world_comes_as_shards(tmp_path: Path) -> None:
    from accelerate import PartialState

    torch.manual_seed(0)
    parts = TinyVideoVAE().eval(), TinyAudioVAE().eval(), TinyTextEncoder(VOCABULARY, TINY.text_len, TINY.text_dim)
    shards = write_toy_shards(tmp_path, 3, 0.48, TINY, *parts, PartialState(cpu=True), lambda *_: None)
    assert TINY.speech is not None
    rendered = render_clips(3, 0, 0.48, lambda *_: None)
    encoded = encode_clips(rendered, *parts, TINY.speech)
    for index in range(3):
        sample = shards[index]
        assert sample.audio is not None
        torch.testing.assert_close(sample.audio, encoded["audio"][index])
        assert torch.equal(sample.text, encoded["text"][index])
    batch = Batches(shards, 2, reference=ReferenceRule(OTHER_CLIP, (8, 12))).at(0)
    assert batch.video_text.dtype == torch.long
    assert batch.transcript is not None
    longer = write_toy_shards(tmp_path, 4, 0.48, TINY, *parts, PartialState(cpu=True), lambda *_: None)
    assert [entry.id for entry in longer.entries] == [f"scene {seed}" for seed in range(4)]
    assert longer.entries[:3] == shards.entries


def test_the_hard_world_has_clips_of_its_own_in_a_folder_of_its_own(tmp_path: Path) -> None:
    from accelerate import PartialState

    torch.manual_seed(0)
    parts = TinyVideoVAE().eval(), TinyAudioVAE().eval(), TinyTextEncoder(VOCABULARY, TINY.text_len, TINY.text_dim)
    common = (0.48, TINY, *parts, PartialState(cpu=True), lambda *_: None)
    write_toy_shards(tmp_path, 2, *common, HARD)
    hard, plain = (render_clips(2, 0, 0.48, lambda *_: None, world) for world in (HARD, PLAIN))
    assert hard.videos.shape == plain.videos.shape
    assert hard.video_captions != plain.video_captions
    with pytest.raises(ValueError, match="hard procedural world"):
        write_toy_shards(tmp_path, 2, *common)
