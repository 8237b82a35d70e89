"""Two ComfyUIs that share their output, temp and input folders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.comfyui.install import ensure_python
from tools.comfyui.load import digest_of, make_job
from tools.comfyui.pack import install_pack
from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import MEDIA, change

pytestmark = [pytest.mark.host, pytest.mark.newest_tree]

SHARED = ("output", "temp", "input")


@pytest.fixture(scope="module")
def pair(comfy_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ComfyServer]]:
    """Two running servers, with a base each and the shared folders in a third."""
    common = tmp_path_factory.mktemp("common")
    for name in SHARED:
        (common / name).mkdir()
    for file in MEDIA.iterdir():
        (common / "input" / file.name).write_bytes(file.read_bytes())
    shared = ("--output-directory", str(common / "output"), "--input-directory", str(common / "input"))
    shared += ("--temp-directory", str(common))  # in it, `temp`
    servers = []
    for name in ("first", "second"):
        base = tmp_path_factory.mktemp(name)
        install_pack(base / "custom_nodes")
        servers.append(ComfyServer(comfy_tree, base, ensure_python(comfy_tree), shared))
        servers[-1].start()
    yield servers
    for server in servers:
        server.stop()


def digests(server: ComfyServer, prefix: str) -> list[str]:
    """Of the pictures and sound of a few prompts, one after another, in files of one prefix."""
    found = []
    for job in map(make_job, range(4)):
        for node in ("SaveVideo", "SaveImage", "SaveAudio"):
            change(job.prompt, node, filename_prefix=f"{prefix}/clip")
        run = server.run(job.prompt)
        assert run.error is None, run.error
        found.append(digest_of(server, run.outputs))
    return found


def test_neither_disturbs_the_other(pair: list[ComfyServer]) -> None:
    found: dict[str, list[str]] = {}

    def work(server: ComfyServer, prefix: str) -> None:
        found[prefix] = digests(server, prefix)

    threads = [threading.Thread(target=work, args=(server, name)) for server, name in zip(pair, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["a"] == found["b"] == digests(pair[0], "alone")
