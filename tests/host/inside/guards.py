"""One broken file costs its nodes only, and the log says which and why.

python guards.py COMFYUI_TREE COPY_OF_THE_PACK
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from pack import load_pack

copy = Path(sys.argv[2])
(copy / "nodes" / "report.py").write_text('raise ImportError("no such thing")\n')
load_pack(sys.argv[1], copy)

from harmony_pack.nodes import NODES, HarmonyExtension  # noqa: E402


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    log = Lines()
    logging.getLogger("harmony_pack").addHandler(log)
    nodes = asyncio.run(HarmonyExtension().get_node_list())
    found = {node.GET_SCHEMA().node_id for node in nodes}
    expected = {name for module, names in NODES.items() if module != "report" for name in names}
    assert found == expected, found ^ expected
    assert log.lines == ["Harmony: HarmonySyncReport not available: ImportError: no such thing"], log.lines
    print("ok")


if __name__ == "__main__":
    main()
