"""The embedded text encoder says what it cannot read."""

from __future__ import annotations

import pytest

from harmony_core.text.tiny_encoder import TinyTextEncoder

DROPPED = "Nothing of this prompt is read: this checkpoint knows English words only."


@pytest.mark.parametrize(
    ("text", "ids", "notes"),
    [
        ("a Blue ball", [2, 3, 4], ()),
        ("a green ball", [2, 1, 4], ("Words this checkpoint does not know: green.",)),
        ("蓝色的球", [], (DROPPED, "Words this checkpoint does not know: 蓝色的球.")),
        ("a 蓝色 ball", [2, 4], ("Words this checkpoint does not know: 蓝色.",)),
        ("", [], ()),
    ],
)
def test_what_is_not_read_is_named(text: str, ids: list[int], notes: tuple[str, ...]) -> None:
    read, said = TinyTextEncoder(("a", "blue", "ball"), text_len=5, text_dim=4).tokenize(text)
    assert read.tolist() == ids + [0] * (5 - len(ids))
    assert said == notes
