"""One real ComfyUI server per tree and session, and a line per tree at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.comfyui.install import ComfyUnavailableError, ensure_python, ensure_tree, is_here, wanted_trees
from tools.comfyui.pack import install_pack
from tools.comfyui.server import ComfyServer

PROBES = Path(__file__).parent / "probe_nodes"
TREES = wanted_trees()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "comfy_tree" in metafunc.fixturenames:
        names = [tree.name for tree in TREES]
        metafunc.parametrize("comfy_tree", TREES, ids=names, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each tree's tests on one worker, which boots it once; their reports say which tree it was."""
    left_out = []
    for item in items:
        if tree := _tree_of(item):
            if tree != TREES[-1] and item.get_closest_marker("newest_tree"):
                left_out.append(item)
            item.add_marker(pytest.mark.xdist_group(tree.name))
            item.user_properties.append(("comfy_tree", tree.name))
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _tree_of(item: pytest.Item) -> Path | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("comfy_tree") if callspec is not None else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that has its tree must run."""
    report = yield
    tree = _tree_of(item)
    if report.skipped and tree is not None and is_here(tree):
        report.outcome, report.longrepr = "failed", f"Skipped although {tree} is here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def comfy_tree(request: pytest.FixtureRequest) -> Path:
    """A ComfyUI checkout; cloned when this machine lacks it."""
    try:
        return ensure_tree(request.param)
    except ComfyUnavailableError as error:
        pytest.skip(f"NO COMFYUI, HOST TESTS NOT RUN: {error}")


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], ComfyServer]]:
    """Gives the running ComfyUI of a tree, with this pack and the probe nodes in its custom_nodes."""
    running: dict[Path, ComfyServer] = {}

    def get(tree: Path) -> ComfyServer:
        if tree not in running:
            base = tmp_path_factory.mktemp(tree.name)
            running[tree] = ComfyServer(tree, base, ensure_python(tree))
            install_pack(base / "custom_nodes")
            shutil.copytree(PROBES, base / "custom_nodes" / "harmony_probes")
            running[tree].start()
        return running[tree]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session")
def server(comfy_tree: Path, server_of: Callable[[Path], ComfyServer]) -> ComfyServer:
    """A running ComfyUI."""
    return server_of(comfy_tree)
