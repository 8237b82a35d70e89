"""`harmony train`."""

from __future__ import annotations

from pathlib import Path

from tests.commands.errors import assert_error


def test_train_names_the_configs_it_has(harmony, tmp_path: Path) -> None:
    assert_error(harmony("train", "-c", "huge", "-o", tmp_path / "run"), "huge", "tiny")


def test_a_run_that_is_not_there_is_not_continued(harmony, tmp_path: Path) -> None:
    assert_error(harmony("train", "--resume", "-o", tmp_path / "run"), "holds no run to continue", "--resume")
    assert not (tmp_path / "run").exists()
