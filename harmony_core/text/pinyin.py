"""Text to F5-TTS's units: characters, and pinyin with tone digits for Chinese (reference: F5-TTS, MIT licence).

`assets/f5_vocab.txt` is that project's list of units, one a line, which fixes the rows of the embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

_STRAIGHT = str.maketrans(";\u201c\u201d\u2018\u2019", ",\"\"''")  # curly quotes to straight ones
_WORDS = re.compile(r"[A-Za-z0-9]+(?:\.\d+)?%?|[+#&._%-]+|.", re.DOTALL)  # what jieba makes of text without Chinese


def f5_units(text: str) -> list[str]:
    """Units of a text. A space goes before every Chinese syllable, and before a word that follows without one.

    Raises:
        ValueError: Chinese text where pypinyin or jieba is not installed.
    """
    units: list[str] = []
    for segment in _segments(text.translate(_STRAIGHT)):
        if segment.isascii():
            if len(segment) > 1 and units and units[-1] not in " :'\"":
                units.append(" ")
            units.extend(segment)
            continue
        for character, syllable in zip(segment, _syllables(segment), strict=True):
            units.extend((" ", syllable) if _is_chinese(character) else (character,))
    return units


def _is_chinese(character: str) -> bool:
    return "\u3100" <= character <= "\u9fff"


def _segments(text: str) -> Iterable[str]:
    if not any(map(_is_chinese, text)):
        return _WORDS.findall(text)
    return _chinese_packages()[0].cut(text)


def _syllables(segment: str) -> list[str]:
    """One a character. Words of Chinese alone are read as a whole, since neighbours decide tones."""
    if not all(map(_is_chinese, segment)):
        return [_syllables(each)[0] if _is_chinese(each) else each for each in segment]
    pypinyin = _chinese_packages()[1]
    return pypinyin.lazy_pinyin(segment, style=pypinyin.Style.TONE3, tone_sandhi=True)


@cache
def _chinese_packages() -> tuple:
    """(a tokeniser of jieba's, pypinyin), made when Chinese is first met.

    The tokeniser is our own, since words that others in the process add would change how a text is read. It would also
    load its dictionary from a file of a fixed name in the folder for temporary files, whoever put that there.
    """
    try:
        import jieba
        import pypinyin
    except ImportError as error:
        raise ValueError(
            f"The transcript holds Chinese, which needs {error.name}: run `pip install pypinyin jieba`."
        ) from None
    jieba.setLogLevel("WARNING")
    words: Any = jieba.Tokenizer()
    with TemporaryDirectory() as folder:
        words.tmp_dir = folder
        words.initialize()
    return words, pypinyin
