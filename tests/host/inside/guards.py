"""One broken file costs the nodes that need it only, and the log says which and why.

python guards.py COMFYUI_TREE COPY_OF_THE_PACK
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from log_lines import Lines

from tools.comfyui.pack import load_pack

FILES = Path(sys.argv[2]) / "nodes"
REASON = "ImportError: no such thing"

load_pack(sys.argv[1], Path(sys.argv[2]))

from harmony_pack.nodes import NODES, HarmonyExtension  # noqa: E402


@contextmanager
def broken(file: str) -> Iterator[list[str]]:
    """Nothing of the pack is imported yet and `file` cannot be; yields the lines that are logged meanwhile."""
    path = FILES / f"{file}.py"
    text = path.read_text()
    for name in [name for name in sys.modules if name.startswith("harmony_pack.nodes.")]:
        del sys.modules[name]
    path.write_text('raise ImportError("no such thing")\n')
    log = Lines()
    logging.getLogger("harmony_pack").addHandler(log)
    try:
        yield log.lines
    finally:
        logging.getLogger("harmony_pack").removeHandler(log)
        path.write_text(text)


def node_ids() -> set[str]:
    return {node.GET_SCHEMA().node_id for node in asyncio.run(HarmonyExtension().get_node_list())}


def main() -> None:
    everything = {name for names in NODES.values() for name in names}
    for file in NODES:
        with broken(file) as lines:
            assert node_ids() == everything - set(NODES[file]), file
            assert lines == [f"Harmony: {', '.join(NODES[file])} not available: {REASON}"], lines
    for file, lost in (
        ("registration", "ComfyUI's own loaders will not know Harmony files"),
        ("examples", "the templates' example files are not in the input folder"),
    ):
        with broken(f"host/{file}") as lines:
            asyncio.run(HarmonyExtension().on_load())
            assert lines == [f"Harmony: {lost}: {REASON}"], lines
    with broken("inputs") as lines:  # shared by several: they are named, the others stay
        found = node_ids()
        assert {"HarmonyCheckpointLoader", "HarmonyTextEncode"} <= found < everything
        assert all(line.endswith(f"not available: {REASON}") for line in lines), lines
        assert all(any(name in line for line in lines) for name in everything - found), lines
    print("ok")


if __name__ == "__main__":
    main()
