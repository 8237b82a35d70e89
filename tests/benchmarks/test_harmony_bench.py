"""The 150 cases of benchmarks/harmony_bench.jsonl, as `harmony generate --prompts` reads them for harmony-5b."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from harmony_core.pipelines.prompts import Job, read_jobs
from harmony_core.presets import preset
from harmony_core.request import check_supported
from harmony_core.text.transcripts import tokenize_transcript, vocabulary

CASES = Path(__file__).parents[2] / "benchmarks" / "harmony_bench.jsonl"
CONFIG = preset("harmony-5b")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    read = read_jobs(CASES, tmp_path_factory.mktemp("clips"), {}, seed=0)
    assert not read.errors
    return read.waiting


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def test_fifty_of_each_kind(jobs: list[Job]) -> None:
    assert Counter(job.output.stem.split("_")[0] for job in jobs) == {"ambient": 50, "speech": 50, "complex": 50}
    spoken = [job.values["transcript"] for job in jobs if job.output.stem.startswith("speech")]
    assert sum(map(is_chinese, spoken)) == 25


def test_no_case_is_there_twice(jobs: list[Job]) -> None:
    for field in ("prompt", "audio_prompt", "seed"):
        assert len({job.values[field] for job in jobs}) == 150, field


def test_every_case_is_a_request_that_the_model_takes(jobs: list[Job]) -> None:
    for job in jobs:
        check_supported(job.request(CONFIG), CONFIG)


def test_every_transcript_is_read_whole(jobs: list[Job]) -> None:
    assert CONFIG.speech is not None
    spoken = [job.values["transcript"] for job in jobs if "transcript" in job.values]
    assert len(spoken) > 75
    for text in spoken:
        _, notes = tokenize_transcript(text, CONFIG.speech)
        assert not notes, (text, notes)
        known = vocabulary(CONFIG.speech.vocab)
        assert set(known.split(text)) <= set(known.ids), text  # an unknown syllable would be read as a space
