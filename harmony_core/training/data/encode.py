"""Rows to shards: read, brought to their bucket, encoded, kept; on as many processes as there are."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...autoencoders.interface import AudioAutoencoder, VideoAutoencoder
from ...checkpoints.write import write_safetensors
from ...config import HarmonyConfig
from ...media import (
    AudioClip,
    fit_audio,
    fit_video,
    has_audio,
    on_frames,
    read_audio,
    read_video,
)
from ...outputs import whole_file
from ...pipelines import HarmonyPipeline
from ...request import GenerateRequest
from ...text.interface import TextEncoder
from ...text.tiny_encoder import TinyTextEncoder
from ...text.transcripts import tokenize_transcript, words_across
from .buckets import Buckets, bucket_name
from .manifest import Rejected, Row, read_rows
from .shards import EMPTY, Entry, Settings, write_lines
from .writer import SHARD_BYTES, ShardWriter, begin, finish, written

if TYPE_CHECKING:
    from accelerate import PartialState

REJECTED, SUMMARY = "rejected.jsonl", "summary.json"
# of a clip that the disk damaged, or whose file changed while several processes read the rows
LOST = "what was encoded of it is damaged, or of a file that changed; run harmony encode again."
STORED = torch.float16  # of latents: about 1 in size, so that bfloat16 would only be coarser

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Summary:
    """What a folder of shards holds. Hours and shares are of the clips that can be used."""

    clips: int
    rejected: int
    hours: float
    buckets: dict[str, int]
    languages: dict[str, int]
    with_video: int
    with_sound: int
    with_speech: int
    with_speaker: int

    @classmethod
    def of(cls, entries: list[Entry], rejected: int) -> Summary:
        return cls(
            clips=len(entries),
            rejected=rejected,
            hours=sum(entry.duration for entry in entries) / 3600,
            buckets=dict(Counter(entry.bucket for entry in entries).most_common()),
            languages=dict(Counter(entry.language or "not stated" for entry in entries).most_common()),
            with_video=sum(entry.has_video for entry in entries),
            with_sound=sum(entry.has_sound for entry in entries),
            with_speech=sum(entry.speech for entry in entries),
            with_speaker=sum(bool(entry.speaker) for entry in entries),
        )


def encode_dataset(
    source: Path,
    output: Path,
    pipeline: HarmonyPipeline,
    buckets: Buckets,
    state: PartialState,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Summary:
    """Encode a manifest or folder into shards, or go on with what `output` holds.

    Process r takes every row whose place leaves r, so that any number of processes can go on where others were stopped.
    What cannot be used is listed in `rejected.jsonl`, and tried again by the next run.

    Raises:
        ValueError: as `read_rows`, or an output that was made with other settings.
    """
    encoder = ClipEncoder(pipeline, buckets)
    rows = list(read_rows(source))
    if state.is_main_process:
        begin(output, encoder.settings(source))
    state.wait_for_everyone()
    done = {(entry.id, entry.row) for entry in written(output)}
    state.wait_for_everyone()  # all have read before one writes
    writer, rejected = ShardWriter(output, state.process_index, shard_bytes), []
    mine = rows[state.process_index :: state.num_processes]
    for count, (number, row) in enumerate(mine, 1):
        clip = row if isinstance(row, Rejected) else _try_to_encode(encoder, number, row, done)
        if isinstance(clip, Rejected):
            rejected.append(clip)
        elif clip is not None:
            writer.add(*clip)  # a disk that is full ends the run: it is no fault of the row
        if progress is not None:
            progress(count, len(mine))
    writer.flush()
    write_lines(_rejected_of(output, state.process_index), rejected)
    state.wait_for_everyone()
    if state.is_main_process:
        _merge(output, rows, encoder, state.num_processes)
    state.wait_for_everyone()
    return Summary(**json.loads((output / SUMMARY).read_text(encoding="utf-8")))


def _try_to_encode(
    encoder: ClipEncoder, number: int, row: Row, done: set[tuple[str, str]]
) -> tuple[Entry, dict[str, Tensor]] | Rejected | None:
    """The clip, or why there is none, or None where it is there already."""
    try:
        return None if (row.id, row.digest) in done else encoder.encode(row)
    except (ValueError, OSError) as error:
        return Rejected.of(number, row.id, error)


def _rejected_of(output: Path, rank: int) -> Path:
    return output / f"rejected-{rank}.jsonl"


def _merge(output: Path, rows: list[tuple[int, Row | Rejected]], encoder: ClipEncoder, processes: int) -> None:
    """The index, the list of all rows that are not in it, what stands for nothing, and the summary."""
    parts = [_rejected_of(output, rank) for rank in range(processes)]
    rejected = [json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    unusable = {each["row"] for each in rejected}
    usable = {number: row for number, row in rows if isinstance(row, Row) and number not in unusable}
    digests = {row.id: row.digest for row in usable.values()}
    entries = finish(output, digests, {row.id: row.cut_from for row in usable.values()})
    indexed = {entry.id for entry in entries}
    rejected += [asdict(Rejected(number, row.id, LOST)) for number, row in usable.items() if row.id not in indexed]
    write_lines(output / REJECTED, sorted(rejected, key=lambda each: each["row"]))
    for part in parts:
        part.unlink()
    write_safetensors(output / EMPTY, encoder.empty({entry.audio_latents for entry in entries}))
    with whole_file(output / SUMMARY) as part:
        part.write_text(json.dumps(asdict(Summary.of(entries, len(rejected))), indent=1), encoding="utf-8")


class ClipEncoder:
    """A row to what a shard keeps of it, by the models of a pipeline."""

    def __init__(self, pipeline: HarmonyPipeline, buckets: Buckets) -> None:
        self.pipeline, self.buckets = pipeline, buckets
        longest = max(buckets.seconds)
        self._seconds = float(longest + 1)  # a frame more than is shown, at any rate
        self._short_side = buckets.longest_side

    def settings(self, source: Path) -> Settings:
        pipeline = self.pipeline
        parts = pipeline.video_vae, pipeline.audio_vae, pipeline.text_encoder
        return settings_of(source.name, pipeline.config, *parts, self.buckets.names)

    @torch.no_grad()
    def encode(self, row: Row) -> tuple[Entry, dict[str, Tensor]]:
        """A row's entry, without what `ShardWriter.add` and `finish` fill in, and its tensors.

        Raises:
            ValueError: a film, sound or text that cannot be used; MediaError for one that cannot be read.
        """
        tensors = self._texts(row)
        span = None if row.end is None else row.end - row.start
        sound = self._sound(row, span)
        if row.video is not None:
            seconds = self._seconds if span is None else min(span, self._seconds)
            film = read_video(row.video, start=row.start, seconds=seconds, short_side=self._short_side)
            width, height = film.size or film.frames.shape[2:0:-1]
            geometry = self.buckets.film(width, height, film.fps, len(film.frames))
            tensors["video"] = self.pipeline.encode_video(fit_video(film, geometry)[0])[0].to(STORED)
            if sound is not None and row.audio is None:
                sound = replace(sound, samples=on_frames(film, sound.samples, sound.sample_rate))
        elif sound is None:
            raise ValueError("it has no pictures, and this model makes no sound.")
        else:
            geometry = self.buckets.sound(sound.duration_s)
        if sound is not None:
            samples_N, _ = fit_audio(sound, geometry.num_samples, geometry.sample_rate)
            tensors["audio"] = self.pipeline.encode_audio(samples_N, geometry.num_audio_latents)[0].to(STORED)
            shown_s = Fraction(geometry.num_frames) / geometry.fps
            spoken = self.pipeline.config.reads_transcript_across
            tensors |= self._voices(row, sound, shown_s) if spoken else self._reference(row, sound, shown_s)
        for name in ("video", "audio", "reference", "voice"):
            if name in tensors and not bool(tensors[name].isfinite().all()):
                raise ValueError(f"its {name} is encoded to values that are not numbers; encode with --dtype float32.")
        entry = Entry(
            id=row.id,
            row=row.digest,
            shard="",
            shapes={},
            bucket=bucket_name(geometry, "video" in tensors),
            frames=geometry.num_frames,
            audio_latents=geometry.num_audio_latents,
            duration=geometry.duration_s,
            start=row.start,
            end=row.start + geometry.duration_s,
            checksum="",
            speaker=row.speaker,
            language=row.language,
            speech=bool(row.transcript.strip()),
        )
        return entry, {name: tensor.cpu() for name, tensor in tensors.items()}

    @torch.no_grad()
    def empty(self, lengths: set[int]) -> dict[str, Tensor]:
        """What stands for nothing: encoded silence [C, T] of each number of latents, and the features of no text."""
        tensors = {}
        if not isinstance(self.pipeline.text_encoder, TinyTextEncoder):
            tensors["text"] = self._features([""])[0].cpu()
        if self.pipeline.audio_vae is not None:
            silence = torch.zeros(1).numpy()
            for each in sorted(lengths):
                tensors[f"mute.{each}"] = self.pipeline.encode_audio(silence, each)[0].to(STORED).cpu()
        return tensors

    def _texts(self, row: Row) -> dict[str, Tensor]:
        config, encoder = self.pipeline.config, self.pipeline.text_encoder
        request = GenerateRequest(prompt=row.prompt, audio_prompt=row.audio_prompt, transcript=row.transcript)
        video, audio, transcript = self.pipeline.texts(request)
        if isinstance(encoder, TinyTextEncoder):
            texts = [encoder.tokenize(text)[0] for text in (video, audio)]
        else:
            texts = self._features([video, audio])
        tensors = {"text": texts[0], "audio_text": texts[1]}
        if config.reads_transcript_across:
            tensors["transcript"] = self._words(transcript, row)
        elif config.speech is not None:
            tensors["transcript"] = tokenize_transcript(transcript, config.speech)[0]
        return tensors

    def _words(self, text: str, row: Row) -> Tensor:
        """Token ids [S] of what is said: of no words none, so that a voice's can be put before them."""
        speech = self.pipeline.config.speech
        assert speech is not None
        text = text if text.strip() else ""
        return torch.tensor(words_across(text, speech, row.language or "en"), dtype=torch.long)

    def _features(self, texts: list[str]) -> list[Tensor]:
        encoder = self.pipeline.text_encoder
        self.pipeline.placement.use(encoder)
        return [_trimmed(each) for each in encoder.encode(texts, self.pipeline.device)[0]]

    def _sound(self, row: Row, span: float | None) -> AudioClip | None:
        """What is heard in the row's span, as much as a clip and a reference after it can take."""
        file = row.audio or row.video
        assert file is not None
        if self.pipeline.audio_vae is None or (row.audio is None and not has_audio(file)):
            return None
        most = self._seconds + self.pipeline.config.reference_seconds
        return read_audio(file, start=row.start, seconds=most if span is None else min(span, most))

    def _reference(self, row: Row, sound: AudioClip, shown_s: Fraction) -> dict[str, Tensor]:
        """`reference` [C, T_r]: of the reference file, else of the sound after the clip, if there is as much."""
        seconds = self.pipeline.config.reference_seconds
        if row.reference is not None:
            clip = read_audio(row.reference, seconds=seconds)
        else:
            clip = replace(sound, samples=sound.samples[:, round(shown_s * sound.sample_rate) :])
            if clip.duration_s < seconds:
                return {}
        return {"reference": self._voice(clip)}

    def _voices(self, row: Row, sound: AudioClip, shown_s: Fraction) -> dict[str, Tensor]:
        """For a model that reads what a voice says: `voice`, the clip's own sound for other clips of its speaker, and
        of the reference file `reference` and what is said in it, `spoken`."""
        found = {}
        if row.speaker and row.transcript.strip():
            heard = sound.samples[:, : round(shown_s * sound.sample_rate)]
            found["voice"] = self._voice(replace(sound, samples=heard))
        if row.reference is not None:
            if not row.reference_transcript.strip():
                raise ValueError("reference is given without reference_transcript, but this model needs both.")
            clip = read_audio(row.reference, seconds=self.pipeline.config.reference_seconds)
            found["reference"], found["spoken"] = self._voice(clip), self._words(row.reference_transcript, row)
        return found

    def _voice(self, clip: AudioClip) -> Tensor:
        return self.pipeline.encode_voice(clip, None, [])[0].to(STORED)


def _trimmed(features_SD: Tensor) -> Tensor:
    """Features without the zeros after their text, of which at least a row stays. bfloat16, as umT5 computes."""
    used = features_SD.abs().amax(dim=1).nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    return features_SD[:length].to(torch.bfloat16)


def settings_of(
    source: str,
    config: HarmonyConfig,
    video_vae: VideoAutoencoder,
    audio_vae: AudioAutoencoder | None,
    text_encoder: TextEncoder,
    buckets: tuple[str, ...],
) -> Settings:
    """What clips of `source` are encoded with."""
    trained = isinstance(text_encoder, TinyTextEncoder)
    return Settings(
        source=source,
        video_autoencoder=fingerprint(video_vae),
        audio_autoencoder="" if audio_vae is None else fingerprint(audio_vae),
        text_encoder=vocabulary_fingerprint(text_encoder) if trained else fingerprint(text_encoder),
        text="ids" if trained else "features",
        text_len=text_encoder.text_len,
        transcript_len=0 if config.speech is None else config.speech.max_len,
        spoken_references=config.reads_transcript_across,
        video_channels=config.video_channels,
        audio_channels=config.audio_channels,
        sample_rate=config.sample_rate,
        audio_latent_rate=config.audio_latent_rate,
        temporal_stride=config.temporal_stride,
        patch_size=config.patch_size,
        buckets=buckets,
    )


def fingerprint(module: nn.Module) -> str:
    """Of a module's weights: their names and shapes, and a thousand values of each."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)}".encode())
        total.update(tensor.flatten()[:1000].float().cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def vocabulary_fingerprint(encoder: TinyTextEncoder) -> str:
    """Of what its token ids mean; the encoder itself is trained."""
    return hashlib.sha256(json.dumps([*encoder.vocabulary, encoder.text_len]).encode()).hexdigest()[:16]
