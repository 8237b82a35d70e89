"""Ovi's caption: tags of speech and sound."""

from __future__ import annotations

import pytest

from harmony_core.text.ovi_caption import caption, speech


@pytest.mark.parametrize(
    ("given", "prompt_format", "expected"),
    [
        (("A man.", "Rain.", "Hi there"), "ovi", "A man. <S>Hi there<E> <AUDCAP>Rain.<ENDAUDCAP>"),
        (("A man.", "Rain.", "Hi there"), "ovi-suffix", "A man. <S>Hi there<E> Audio: Rain."),
        (("A man says <S>hi<E>.", "Rain.", ""), "ovi", "A man says <S>hi<E>. <AUDCAP>Rain.<ENDAUDCAP>"),
        (("A man. <AUDCAP>Rain.<ENDAUDCAP>", "", ""), "ovi", "A man. <AUDCAP>Rain.<ENDAUDCAP>"),
        (("A man. <AUDCAP>Rain.<ENDAUDCAP>", "", ""), "ovi-suffix", "A man. Audio: Rain."),
        (("A man.", "", ""), "ovi", "A man."),
        (("", "", ""), "ovi", ""),
    ],
)
def test_captions(given: tuple[str, str, str], prompt_format: str, expected: str) -> None:
    assert caption(*given, prompt_format) == expected


def test_speech_has_its_tags() -> None:
    assert speech(" hi ") == "<S>hi<E>"


@pytest.mark.parametrize("prompt", ["<S>hi", "hi<E>", "<E>hi<S>", "<S><S>hi<E><E>", "<AUDCAP>rain"])
def test_tags_that_do_not_pair(prompt: str) -> None:
    with pytest.raises(ValueError, match="do not pair"):
        caption(prompt, "", "", "ovi")


def test_nothing_is_said_twice() -> None:
    with pytest.raises(ValueError, match="<S> and transcript is 'hi'; give it in one place"):
        caption("<S>ho<E>", "", "hi", "ovi")
    with pytest.raises(ValueError, match="<AUDCAP> and audio_prompt is 'rain'"):
        caption("<AUDCAP>wind<ENDAUDCAP>", "rain", "", "ovi")
