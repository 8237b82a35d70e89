"""UniAVGen's transcripts: the recorded ids of real texts."""

from __future__ import annotations

import json

import pytest

from harmony_core.presets import preset
from harmony_core.text.transcripts import read_across, tokenize_across
from tests.checkpoints.uniavgen_cases import FIXTURES

RECORDED = json.loads((FIXTURES / "tokens.json").read_text())
SPEECH = preset("uniavgen").speech


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["text"][:12])
def test_recorded_ids(case: dict) -> None:
    if case["lang"] == "zh":
        pytest.importorskip("pypinyin")
        pytest.importorskip("jieba")
    assert SPEECH is not None
    assert (tokenize_across(case["text"], SPEECH, case["lang"]) - 1).tolist() == case["ids"]


def test_no_words_are_a_space() -> None:
    assert SPEECH is not None
    for language in ("en", "zh"):
        assert read_across("", SPEECH, language).equal(tokenize_across(" ", SPEECH, language))
    assert read_across(" ", SPEECH, spoken="Yes.").equal(tokenize_across("Yes. ", SPEECH))
    assert read_across("Hi", SPEECH, spoken="Yes.").equal(tokenize_across("Yes. Hi", SPEECH))


@pytest.mark.parametrize("case", RECORDED["joined"], ids=lambda case: case["lang"])
def test_recorded_ids_behind_a_voice(case: dict) -> None:
    if case["lang"] == "zh":
        pytest.importorskip("pypinyin")
        pytest.importorskip("jieba")
    assert SPEECH is not None
    for text, ids in ((case["text"], case["ids"]), ("", case["negative_ids"])):
        assert (tokenize_across(text, SPEECH, case["lang"], case["reference"]) - 1).tolist() == ids
