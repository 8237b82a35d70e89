"""One real ComfyUI server per tree and session."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .comfyui import ComfyServer, ComfyUnavailableError, ensure_python, fetch_tree, install_pack, local_trees

PROBES = Path(__file__).parent / "probe_nodes"
FETCH = "fetch"
_unavailable: list[str] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "comfy_tree" in metafunc.fixturenames:
        trees = [str(tree) for tree in local_trees()] or [FETCH]
        names = [Path(tree).name for tree in trees]
        metafunc.parametrize("comfy_tree", trees, ids=names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def comfy_tree(request: pytest.FixtureRequest) -> Path:
    """A ComfyUI checkout; cloned when this machine has none."""
    if request.param != FETCH:
        return Path(request.param)
    try:
        return fetch_tree()
    except ComfyUnavailableError as error:
        _unavailable.append(str(error))
        pytest.skip(f"NO COMFYUI, HOST TESTS NOT RUN: {error}")


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[Path, ComfyServer]]:
    """The servers that run, by their tree: both go on, whichever the next test wants."""
    running: dict[Path, ComfyServer] = {}
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session")
def server(comfy_tree: Path, servers: dict[Path, ComfyServer], tmp_path_factory: pytest.TempPathFactory) -> ComfyServer:
    """A running ComfyUI with this pack and the probe nodes in its custom_nodes."""
    if comfy_tree not in servers:
        base = tmp_path_factory.mktemp(comfy_tree.name)
        servers[comfy_tree] = ComfyServer(comfy_tree, base, ensure_python(comfy_tree))
        install_pack(base / "custom_nodes")
        shutil.copytree(PROBES, base / "custom_nodes" / "harmony_probes")
        servers[comfy_tree].start()
    return servers[comfy_tree]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in dict.fromkeys(_unavailable):
        terminalreporter.write_line(
            f"!!! HOST TESTS WERE NOT RUN: no ComfyUI ({reason}). Set COMFYUI_PATH to a checkout.", red=True, bold=True
        )
