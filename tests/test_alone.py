"""The package without the repository around it: copied, installed, run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]
MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
from harmony_core.cli import main
sys.argv[0] = "harmony"
main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put a copy of harmony_core that had nothing beside it but what packs it."""
    pytest.importorskip("setuptools")
    pytest.importorskip("wheel")
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "harmony_core", source / "harmony_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run([*install, site, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    """`harmony ...` of the installed copy, in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*arguments: object, code: tuple[str, ...] = ("-m", "harmony_core")) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *code, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_what_is_installed_is_complete(site: Path, run: Run) -> None:
    core = site / "harmony_core"
    shipped = {path.relative_to(ROOT) for path in (ROOT / "harmony_core").rglob("*") if path.is_file()}
    shipped = {path for path in shipped if "__pycache__" not in path.parts}
    assert {path.relative_to(site) for path in core.rglob("*") if "__pycache__" not in path.parts} >= shipped
    where = run(code=("-c", "import harmony_core; print(harmony_core.__file__)"))
    assert Path(where.stdout.strip()).parent == core


@pytest.mark.slow
def test_every_command_runs(run: Run, tmp_path: Path) -> None:
    tables = [ROOT / "benchmarks" / f"{name}.csv" for name in ("ops", "model")]
    for command in (
        ("generate", "a red ball bounces on metal", "--steps", 1, "-o", "a.mp4"),
        ("sync", "a.mp4"),
        ("info", "harmony-tiny"),
        ("encode", "a.mp4", "-o", "a.safetensors"),
        ("convert", "a.safetensors", "-o", "b.safetensors"),
        ("train", "--help"),
        ("bench", "ops", "--quick", "--repeats", 1),
        ("bench", "sampling", "--quick", "--steps", 1),
        ("bench", "quality", "ground_truth", "--clips", 4),
        ("bench", "plots", *tables, "-o", "plots"),
    ):
        done = run(*command)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip(), command
    assert (tmp_path / "b.safetensors").is_file()
    assert (tmp_path / "plots" / "framewise_forward_seconds.png").is_file()


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("typer", ("info", "harmony-tiny"), "standalone"),
        ("torch", ("info", "harmony-tiny"), "standalone"),
        ("av", ("sync", "a.mp4"), "standalone"),
        ("yaml", ("train", "--config", "tiny.yaml", "--output", "run"), "train"),
        ("accelerate", ("train", "--config", "tiny.yaml", "--output", "run"), "train"),
        ("diffusers", ("bench", "model", "--quick"), "weights"),
    ],
)
def test_what_is_missing_is_named_with_what_brings_it(
    run: Run, tmp_path: Path, package: str, command: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not read")
    (tmp_path / "tiny.yaml").write_text("preset: harmony-tiny\nsteps: 1\nbatch_size: 8\n")
    done = run(*command, code=("-c", MISSING.format(package=package)))
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {package} is not installed; pip install 'harmony-av[{extra}]' brings it."
