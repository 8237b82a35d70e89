"""`make comfy-demo`: run the shipped text-to-audio-video workflow in a real ComfyUI and keep what it saves.

    python -m tests.host.demo [COMFYUI_PATH] [--output out/comfy_demo.mp4] [--keep-open]

Without a checkout, the released one is cloned into ~/.cache/comfyui-harmony. $COMFYUI_PYTHON names the interpreter
that runs it (default: a venv made beside it, which takes some minutes once).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from .comfyui import (
    CACHE,
    REPOSITORY,
    TREE_NAMES,
    ComfyServer,
    ComfyUnavailableError,
    ensure_python,
    fetch_tree,
    install_pack,
)

DEFAULT_TREE = CACHE / TREE_NAMES[0]
WORKFLOW = REPOSITORY / "workflows" / "api" / "text_to_audio_video.json"


def main() -> int:
    arguments = _arguments()
    try:
        tree = _tree(arguments.comfyui)
    except ComfyUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ComfyUI: {tree}")
    python = ensure_python(tree)
    with tempfile.TemporaryDirectory(prefix="harmony-comfy-") as folder:
        server = ComfyServer(tree, Path(folder), python)
        install_pack(server.base / "custom_nodes")
        print("starting ...")
        server.start()
        try:
            return _run(server, arguments.output, arguments.keep_open)
        finally:
            server.stop()


def _tree(path: Path) -> Path:
    """The checkout; the default one is cloned when it is missing."""
    if (path / "main.py").is_file():
        return path.resolve()
    if path == DEFAULT_TREE:
        return fetch_tree()
    raise ComfyUnavailableError(f"There is no main.py in {path}; give the folder of a ComfyUI checkout.")


def _run(server: ComfyServer, output: Path, keep_open: bool) -> int:
    prompt = json.loads(WORKFLOW.read_text())
    print("sampling ...")
    run = server.run(prompt, timeout_s=900)
    if run.error is not None:
        print(f"{run.error['node_type']}: {run.error['exception_message']}", file=sys.stderr)
        return 1
    (saved,) = (item for found in run.outputs.values() for item in found.get("images", []))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(server.view(saved))
    print(f"saved {output}")
    if keep_open:
        input(f"ComfyUI is open at {server.url}; press Enter to stop it. ")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make one clip with ComfyUI and this pack.")
    parser.add_argument("comfyui", type=Path, nargs="?", default=DEFAULT_TREE, help="folder of a ComfyUI checkout")
    parser.add_argument("--output", type=Path, default=Path("out/comfy_demo.mp4"), help="file to write")
    parser.add_argument("--keep-open", action="store_true", help="leave the page open until Enter is pressed")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
