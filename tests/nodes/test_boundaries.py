"""What the node files may import, read from their source: ComfyUI is not needed to check it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = REPOSITORY / "nodes"
FILES = sorted(NODES.rglob("*.py"))
COMFY = {
    "comfy",
    "comfy_extras",
    "comfy_execution",
    "folder_paths",
    "nodes",
    "node_helpers",
    "server",
    "latent_preview",
}
SHIPPED_WITH_COMFYUI = {"comfy_api", "torch", "numpy", "PIL", "av", "safetensors"}


def imported_packages(path: Path) -> set[str]:
    """Top-level names of every absolute import in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports(path: Path) -> None:
    assert imported_packages(path) <= COMFY | SHIPPED_WITH_COMFYUI | set(sys.stdlib_module_names)


def test_pack_imports_without_comfyui_and_torch() -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('pack', {str(REPOSITORY / '__init__.py')!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert module.WEB_DIRECTORY and module.comfy_entrypoint\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_listed_node_is_defined() -> None:
    tree = ast.parse((NODES / "__init__.py").read_text())
    (table,) = (node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "NODES")
    listed = ast.literal_eval(table)
    for module, classes in listed.items():
        defined = {
            node.name for node in ast.parse((NODES / f"{module}.py").read_text()).body if isinstance(node, ast.ClassDef)
        }
        assert set(classes) == {name for name in defined if name.startswith("Harmony")}
