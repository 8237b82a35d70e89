"""`make check`: independent tools look at the pack and its workflows.

    python -m tools.comfyui.lint

comfy-lint reads every API workflow against a real server's node definitions; comfy-cli's `workflow validate`, which
knows dynamic combos, reads it with the inputs that a version has added at their defaults, as it would write it.
comfy-import-guard resolves each `comfy.*` name that the pack uses in ComfyUI's source, comfy-cli's `node validate`
asks what the registry would, and pyright holds the nodes against core's types. comfy-lint, comfy-import-guard and
comfy-cli live in a venv of their own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..workflows.definitions import completed
from ..workflows.shipped import MEDIA, NAMES, NEEDS_NEWEST, WORKFLOWS, api_workflow, touch_weights
from .core_types import types_command
from .install import CACHE, ComfyUnavailableError, ensure_python, ensure_tree, wanted_trees
from .pack import install_pack
from .server import ComfyServer

TOOLS = ("comfy-cli", "comfy-lint", "comfy-import-guard")


def main() -> int:
    tools = _tools()
    failed = 0
    for tree in wanted_trees():
        try:
            ensure_tree(tree)
        except ComfyUnavailableError as error:
            print(f"SKIPPED: all checks on {tree.name}: {error}", file=sys.stderr)
            continue
        print(f"{tree.name}:")
        failed |= _lint(tree, tools)
    return failed


def _lint(tree: Path, tools: Path) -> int:
    names = [name for name in NAMES if name not in NEEDS_NEWEST or tree == wanted_trees()[-1]]
    with tempfile.TemporaryDirectory(prefix="harmony-lint-") as folder:
        base = Path(folder)
        pack = install_pack(base / "custom_nodes")
        nodes = _node_definitions(tree, base, names)
        workflows = [str(WORKFLOWS / "api" / f"{name}.json") for name in names]
        written = [str(_completed(name, nodes)) for name in names]
        comfy = [str(tools / "comfy"), "--skip-prompt", "--no-enable-telemetry"]
        clones = base / "clones"
        clones.mkdir()
        (clones / "ComfyUI").symlink_to(tree)
        guard = [str(tools / "comfy-import-guard"), "check", "--cache-dir", str(clones), "--comfy-dir", str(base)]
        commands = [
            [str(tools / "comfy-lint"), "--strict", "--schema-cache", str(nodes), *workflows],
            *([*comfy, "workflow", "validate", "--workflow", each, "--input", str(nodes)] for each in written),
            [*guard, "--target", "HEAD", "--no-update", "--strict"],
            [*comfy, "node", "validate"],
            types_command(tree, base),
        ]
        return max(_run(command, pack) for command in commands)


def _tools() -> Path:
    venv = CACHE / "tools"
    if not (venv / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *TOOLS], check=True)
        (venv / "complete").touch()
    return venv / "bin"


def _node_definitions(tree: Path, base: Path, names: list[str]) -> Path:
    """What a server with the pack, the example media and the workflows' weight files says about its nodes."""
    shutil.copytree(MEDIA, base / "input")
    for name in names:
        touch_weights(base / "models", api_workflow(name))
    server = ComfyServer(tree, base, ensure_python(tree))
    server.start()
    try:
        path = base / "object_info.json"
        path.write_bytes(server.get_bytes("/object_info"))
    finally:
        server.stop()
    return path


def _completed(name: str, nodes: Path) -> Path:
    """A shipped prompt as the version with these definitions would write it."""
    path = nodes.parent / f"{name}.json"
    path.write_text(json.dumps(completed(api_workflow(name), json.loads(nodes.read_text()))))
    return path


def _run(command: list[str], folder: Path) -> int:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    name = " ".join(Path(part).name for part in command if not part.startswith("--"))
    print(f"{'ok' if done.returncode == 0 else 'FAILED'}: {name}")
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
