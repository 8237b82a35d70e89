"""Shared fixtures: one seed for every test, a small random checkpoint, and media files to read."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.published import parts  # noqa: F401 (a fixture)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`, a file's tests on one worker; those of a ComfyUI tree have been grouped by it."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(item.config.rootpath).as_posix()))


OUTCOMES = ("passed", "failed", "error", "skipped")  # of the tests of a ComfyUI tree


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors gain nothing from more threads and lose much where something else runs."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(42)
    np.random.seed(42)


@pytest.fixture
def harmony(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `harmony ...` in this process: (exit code, stdout, stderr)."""
    from harmony_core.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harmony", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the embedded checkpoint's shapes, two layers deep and untrained."""
    import torch

    from harmony_core.autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
    from harmony_core.checkpoints import Bundle, save_bundle
    from harmony_core.model import HarmonyTransformer
    from harmony_core.model.initialize import initialize
    from harmony_core.presets import preset
    from harmony_core.text.tiny_encoder import TinyTextEncoder
    from harmony_core.toyworld import VOCABULARY

    config = preset("harmony-tiny").with_(num_layers=2)
    torch.manual_seed(0)
    transformer = HarmonyTransformer(config)
    initialize(transformer, torch.Generator().manual_seed(0))
    text_encoder = TinyTextEncoder(VOCABULARY, config.text_len, config.text_dim)
    bundle = Bundle(config, transformer, TinyVideoVAE(), TinyAudioVAE(), text_encoder, {"name": "random"})
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_bundle(path, bundle, torch.float32)
    return path


def _flashes_and_clicks(
    offset_s: float, fps: float | Fraction = Fraction(25), sample_rate: int = 16000
) -> tuple[np.ndarray, Fraction, np.ndarray, int]:
    frames = np.full((round(3 * fps), 64, 96, 3), 50, np.uint8)
    samples = np.random.default_rng(1).standard_normal((1, 3 * sample_rate)).astype(np.float32) * 1e-3
    click = np.sin(np.arange(160) * 0.6) * np.exp(-np.arange(160) / 40)
    for wanted_s in (0.32, 0.72, 1.28, 1.52, 2.24):
        frame = round(wanted_s * fps)
        frames[frame, 16:48, 30:66] = 240
        start = round((frame / float(fps) + offset_s) * sample_rate)
        samples[0, start : start + 160] += click
    return frames, Fraction(fps), samples, sample_rate


@pytest.fixture(scope="session")
def flashes_and_clicks() -> Callable[..., tuple[np.ndarray, Fraction, np.ndarray, int]]:
    """Makes three seconds of a square that flashes for one frame at uneven times, and a click some time after each:
    (offset_s, fps=25, sample_rate=16000) -> (frames, fps, samples, sample_rate)."""
    return _flashes_and_clicks


@pytest.fixture(scope="session")
def synced_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-second MP4 whose clicks fall on its flashes."""
    from harmony_core.media import write_video

    path = tmp_path_factory.mktemp("media") / "synced.mp4"
    write_video(path, *_flashes_and_clicks(0.0))
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How the tests of each ComfyUI tree ended. It stands here because workers' results are told by the process that
    starts them, which reads no other conftest.py."""
    counts: dict[str, Counter[str]] = {}
    reasons: dict[str, str] = {}
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, ()):
            if tree := dict(getattr(report, "user_properties", ())).get("comfy_tree"):
                counts.setdefault(tree, Counter())[outcome] += 1
                if outcome == "skipped":
                    reasons[tree] = report.longrepr[-1]
    for tree, found in counts.items():
        ended = ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES)
        if tree in reasons:
            terminalreporter.write_line(f"!!! {tree}: {ended}. {reasons[tree]}", red=True, bold=True)
        else:
            bad = bool(found["failed"] + found["error"])
            terminalreporter.write_line(f"{tree}: {ended}", red=bad, green=not bad)
