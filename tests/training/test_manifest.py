"""Rows as people write them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from harmony_core.presets import preset
from harmony_core.training.data.buckets import Buckets
from harmony_core.training.data.manifest import Rejected, Row, read_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.wav"):
        (tmp_path / name).write_bytes(b"media")
    return tmp_path


def rows(path: Path, text: str) -> dict[int, Row | str]:
    path.write_text(text, encoding="utf-8")
    return {number: row.reason if isinstance(row, Rejected) else row for number, row in read_rows(path)}


def test_json_lines(folder: Path) -> None:
    found = rows(
        folder / "m.jsonl",
        '# a comment\n{"video": "a.mp4", "prompt": "x", "audio": null, "end": 2}\n\n'
        '{"id": "é\u2028", "video": "a.mp4", "prompt": "x"}\n{"id": "é", "audio": "b.wav", "transcript": "hi"}\n',
    )
    assert list(found) == [2, 4, 5]
    first, second, third = found.values()
    assert isinstance(first, Row)
    assert (first.id, first.video, first.audio, first.end) == ("00000002", str(folder / "a.mp4"), None, 2.0)
    assert "must be 1 to 200 printable characters" in str(second)
    assert isinstance(third, Row)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ('"video": "a.mp4", "prompt": "x", "start": NaN', "it goes from nan s"),
        ('"video": "a.mp4", "prompt": "x", "start": 1e300', "it goes from 1e+300 s"),
        ('"video": "a.mp4", "prompt": "x", "start": -1', "it goes from -1 s"),
        ('"video": "a\\u0000.mp4", "prompt": "x"', "is missing"),
        (f'"video": "{"a" * 5000}", "prompt": "x"', "too long"),
        ('"video": "a.mp4", "prompt": "x", "id": "' + "a" * 201 + '"', "id is 'aaa"),
        ('"video": "a.mp4", "prompt": "x", "prompt": "y"', "prompt stands there twice"),
        ('"video": "a.mp4", "prompt": " "', "are all empty"),
        ('"video": "", "prompt": "x"', "neither video nor audio"),
        ('"video": ".", "prompt": "x"', "is missing"),
    ],
)
def test_a_wrong_row_says_why(folder: Path, values: str, reason: str) -> None:
    (found,) = rows(folder / "m.jsonl", "{" + values + "}\n").values()
    assert reason in str(found)
    assert len(str(found)) < 400


def test_csv(folder: Path) -> None:
    found = rows(
        folder / "m.csv",
        'id,video,prompt,start\r\na,a.mp4,"one, and\n\ntwo",0.5\r\n\r\nb,a.mp4,x\r\nc,a.mp4,x,later\r\n',
    )
    first, second, third = found.values()
    assert isinstance(first, Row)
    assert (first.prompt, first.start) == ("one, and\n\ntwo", 0.5)
    assert second == "3 cells under 4 columns; quote texts with commas."
    assert "start is 'later', but must be of type float" in str(third)


def test_a_row_is_known_again_wherever_it_lies(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    import shutil

    other = tmp_path_factory.mktemp("moved")
    shutil.copy2(folder / "a.mp4", other / "a.mp4")
    line = '{"id": "a", "video": "a.mp4", "prompt": "x"}\n'
    (one,), (moved,) = rows(folder / "m.jsonl", line).values(), rows(other / "m.jsonl", line).values()
    (changed,) = rows(other / "m.jsonl", line.replace('"x"', '"y"')).values()
    assert isinstance(one, Row)
    assert isinstance(moved, Row)
    assert isinstance(changed, Row)
    assert one.digest == moved.digest != changed.digest


def test_what_is_no_data_set_is_an_error(folder: Path) -> None:
    (folder / "m.txt").write_text("x")
    (folder / "empty").mkdir()
    for path, said in (("m.txt", "neither a folder nor a manifest"), ("empty", "holds no media"), ("n.csv", "missing")):
        with pytest.raises(ValueError, match=said):
            list(read_rows(folder / path))


def test_a_clip_goes_to_the_nearest_bucket() -> None:
    config = preset("harmony-tiny")
    buckets = Buckets.of(config, [(64, 64), (96, 64)], ["12.5", "25"], [2, 1])
    film = buckets.film(1920, 1080, Fraction(24), 40)
    assert (film.width, film.height, film.fps, film.num_frames) == (96, 64, 25, 25)
    assert buckets.film(500, 480, Fraction(10), 20).num_frames == 25  # 2 s at 12.5 fps
    assert buckets.sound(Fraction(3, 2)).num_frames == 9  # within the second at 12.5 fps
    with pytest.raises(ValueError, match=r"it has 5 frames at 12\.5 fps, but the shortest bucket 9"):
        buckets.sound(Fraction(2, 5))
    with pytest.raises(ValueError, match="less than half would be left"):
        buckets.film(500, 100, Fraction(10), 20)
    with pytest.raises(ValueError, match="must be multiples of 16"):
        Buckets.of(config, [(50, 64)])
