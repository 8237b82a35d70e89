"""`make comfy-demo`: run the shipped text-to-audio-video workflow in a real ComfyUI and keep what it saves.

    python -m tools.comfyui.demo [COMFYUI_PATH] [--output out/comfy_demo.mp4] [--keep-open]

Without a checkout, the newest that the tests use is cloned into ~/.cache/comfyui-harmony. $COMFYUI_PYTHON names the
interpreter that runs it (default: a venv made beside it, which takes some minutes once).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from .install import REPOSITORY, ComfyUnavailableError, ensure_tree, wanted_trees
from .server import ComfyServer, serve

WORKFLOW = REPOSITORY / "workflows" / "api" / "text_to_audio_video.json"


def main() -> int:
    arguments = _arguments()
    try:
        tree = ensure_tree(arguments.comfyui.resolve())
    except ComfyUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ComfyUI: {tree}")
    print("starting ...")
    with tempfile.TemporaryDirectory(prefix="harmony-comfy-") as folder, serve(tree, Path(folder)) as server:
        return _run(server, arguments.output, arguments.keep_open)


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
    tree = wanted_trees()[-1]
    parser.add_argument("comfyui", type=Path, nargs="?", default=tree, help="folder of a ComfyUI checkout")
    parser.add_argument("--output", type=Path, default=Path("out/comfy_demo.mp4"), help="file to write")
    parser.add_argument("--keep-open", action="store_true", help="leave the page open until Enter is pressed")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
