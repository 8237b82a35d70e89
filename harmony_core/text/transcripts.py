"""Transcripts to token ids. Id 0 is the filler; unit u of a vocabulary has id index(u) + 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..config import SpeechConfig
from ..quoting import quoted
from .pinyin import f5_units

F5_UNITS = Path(__file__).parent.parent / "assets" / "f5_vocab.txt"


@dataclass(frozen=True)
class Vocabulary:
    """`ids` of the units that `split` makes of a text."""

    ids: dict[str, int]
    split: Callable[[str], list[str]]

    def knows(self, character: str) -> bool:
        return all(unit in self.ids for unit in self.split(character))


def _letters() -> Vocabulary:
    return Vocabulary(_numbered(" abcdefghijklmnopqrstuvwxyz'"), lambda text: list(text.lower()))


def _f5() -> Vocabulary:
    return Vocabulary(_numbered(F5_UNITS.read_text(encoding="utf-8").split("\n")[:-1]), f5_units)


def _f5_characters() -> Vocabulary:
    """The same list, English as it is written."""
    return Vocabulary(_f5().ids, list)


VOCABULARIES = {"letters": _letters, "f5": _f5, "f5-characters": _f5_characters}
LANGUAGES = ("en", "zh")


def _numbered(units: str | list[str]) -> dict[str, int]:
    return {unit: index + 1 for index, unit in enumerate(units)}


@cache
def vocabulary(name: str) -> Vocabulary:
    """The named vocabulary; a wrong name is an error that lists them."""
    if name not in VOCABULARIES:
        raise ValueError(f"Unknown transcript vocabulary {quoted(name)}. Vocabularies: {', '.join(VOCABULARIES)}.")
    return VOCABULARIES[name]()


def tokenize_transcript(text: str, speech: SpeechConfig) -> tuple[Tensor, tuple[str, ...]]:
    """Token ids [max_len], filler-padded, and notes on what was left out.

    Raises:
        ValueError: more tokens than the checkpoint takes; Chinese without the packages that read it.
    """
    known = vocabulary(speech.vocab)
    text = " ".join(text.split())
    unknown = sorted({character for character in text.lower() if not known.knows(character)})
    kept = " ".join("".join(character for character in text if character.lower() not in unknown).split())
    # A word may be read as a syllable that the list lacks; F5 reads a space there.
    tokens = [known.ids.get(unit, known.ids[" "]) for unit in known.split(kept)]
    notes = (f"The transcript's {' '.join(unknown)} is left out: this checkpoint does not know it.",) if unknown else ()
    if len(tokens) > speech.max_len:
        raise ValueError(
            f"The transcript has {len(tokens)} tokens, but this checkpoint takes {speech.max_len}; shorten it."
        )
    return torch.tensor(tokens + [0] * (speech.max_len - len(tokens)), dtype=torch.long), notes


def tokenize_across(text: str, speech: SpeechConfig, language: str = "en", spoken: str | None = None) -> Tensor:
    """Token ids [S] of a transcript that is read across, at its own length, filled to `min_len` (UniAVGen).

    Args:
        spoken: what a reference voice says; its tokens and a space come first.

    Raises:
        ValueError: as `words_across` and `join_words`.
    """
    words = words_across(text, speech, language)
    if spoken is None:
        return _filled(words, speech)
    return join_words(words, words_across(spoken, speech, language), speech)


def words_across(text: str, speech: SpeechConfig, language: str = "en") -> list[int]:
    """Token ids of a text itself: English character by character, Chinese as F5's units; what the list lacks is a
    space.

    Raises:
        ValueError: another language, or Chinese without the packages that read it.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language is {quoted(language)}; choose one of {', '.join(LANGUAGES)}.")
    known = vocabulary(speech.vocab)
    units = known.split(text) if language == "en" else f5_units(text)
    return [known.ids.get(unit, known.ids[" "]) for unit in units]


def join_words(words: Sequence[int], spoken: Sequence[int], speech: SpeechConfig) -> Tensor:
    """Token ids [S] of a transcript, behind what a voice says (no ids: no voice) and a space, filled to `min_len`.

    No words and no voice are a space, as published negatives are. Raises ValueError for more tokens than the
    checkpoint takes.
    """
    space = vocabulary(speech.vocab).ids[" "]
    return _filled([*spoken, space, *words] if spoken else list(words) or [space], speech)


def _filled(ids: list[int], speech: SpeechConfig) -> Tensor:
    if len(ids) > speech.max_len:
        raise ValueError(
            f"The transcript has {len(ids)} tokens, but this checkpoint takes {speech.max_len}; shorten it."
        )
    return torch.tensor(ids + [0] * (speech.min_len - len(ids)), dtype=torch.long)


def read_across(text: str, speech: SpeechConfig, language: str = "en", spoken: str = "") -> Tensor:
    """`tokenize_across` of what a person wrote: no words are a space, as published negatives are.

    Args:
        spoken: what a reference voice says, "" for no voice; a space follows it anyway.
    """
    words = words_across(text if text.strip() else "", speech, language)
    return join_words(words, words_across(spoken, speech, language), speech)
