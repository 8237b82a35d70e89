"""Transcripts as the speech encoder reads them: letters, and F5-TTS's characters and pinyin."""

from __future__ import annotations

import random
import sys

import jieba
import pytest

from harmony_core.config import SpeechConfig
from harmony_core.presets import preset
from harmony_core.text import pinyin
from harmony_core.text.pinyin import f5_units
from harmony_core.text.transcripts import tokenize_transcript, vocabulary

F5 = SpeechConfig(max_len=24)
LETTERS = preset("harmony-tiny").speech


def spoken(text: str, speech: SpeechConfig) -> list[str]:
    """The units that a transcript's ids stand for."""
    units = {index: unit for unit, index in vocabulary(speech.vocab).ids.items()}
    return [units[int(token)] for token in tokenize_transcript(text, speech)[0] if token]


@pytest.mark.parametrize("name", ["harmony-5b", "harmony-tiny"])
def test_vocabularies_fill_their_embeddings(name: str) -> None:
    speech = preset(name).speech
    assert sorted(vocabulary(speech.vocab).ids.values()) == list(range(1, speech.vocab_size + 1))


def test_f5s_first_row_is_the_space() -> None:
    assert vocabulary("f5").ids[" "] == 1
    assert vocabulary("f5").ids["!"] == 2


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Hello, you", [*"Hello, you"]),
        ("yes,hello", [*"yes, hello"]),  # a word takes a space of its own
        ("it's “so”; 3.5%", [*'it\'s "so", 3.5%']),
        ("你好", [" ", "ni2", " ", "hao3"]),  # the first of two third tones rises
        ("一个不是", [" ", "yi2", " ", "ge4", " ", "bu2", " ", "shi4"]),
        ("T恤 ok", ["T", " ", "xu4", " ", "o", "k"]),
        ("好ok", [" ", "hao3", " ", "o", "k"]),
    ],
)
def test_f5_units(text: str, units: list[str]) -> None:
    assert f5_units(text) == units
    assert spoken(text, F5) == units


def test_text_without_chinese_is_cut_as_jieba_cuts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("abZ 019.,%-'_#+&:\"é!?", k=draw.randint(1, 12))) for _ in range(500)]
    alone = [f5_units(text) for text in texts]
    monkeypatch.setattr(pinyin, "_segments", jieba.cut)
    assert [f5_units(text) for text in texts] == alone


def test_chinese_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    pinyin._chinese_packages.cache_clear()
    assert spoken("hello", F5) == [*"hello"]
    with pytest.raises(ValueError, match="needs pypinyin: run `pip install pypinyin jieba`"):
        tokenize_transcript("你好", F5)


@pytest.mark.parametrize(
    ("speech", "text", "units", "left_out"),
    [(LETTERS, "Hello, ☃ Moon!", "hello moon", "! , ☃"), (F5, "Hello, ☃ Moon!", "Hello, Moon!", "☃")],
)
def test_what_a_vocabulary_lacks_is_left_out(speech: SpeechConfig, text: str, units: str, left_out: str) -> None:
    assert spoken(text, speech) == [*units]
    assert tokenize_transcript(text, speech)[1] == (
        f"The transcript's {left_out} is left out: this checkpoint does not know it.",
    )


@pytest.mark.parametrize("speech", [LETTERS, F5])
def test_too_long(speech: SpeechConfig) -> None:
    assert len(spoken("a" * 24, speech)) == 24
    with pytest.raises(ValueError, match="has 25 tokens, but this checkpoint takes 24"):
        tokenize_transcript("a" * 25, speech)


def test_nothing_said() -> None:
    assert spoken("  ", F5) == []
