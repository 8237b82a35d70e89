"""Who may import whom (DESIGN.md), what may be imported when, and how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE, NODES = ROOT / "harmony_core", ROOT / "nodes"
MAX_LINES = 450

LAZY = {"triton", "accelerate", "peft", "diffusers", "tqdm", "yaml", "scipy", "transformers"}
HOST_ONLY = {"comfy", "folder_paths", "comfy_extras", "comfy_execution", "node_helpers", "nodes"}

# Package of harmony_core -> packages it may import. A package may always import itself.
BASE = {"geometry", "config", "presets", "strict"}
LAYERS = {
    "strict": set(),
    "config": {"strict"},
    "presets": {"config"},
    "geometry": {"config"},
    "media": {"geometry"},
    "ops": BASE,
    "model": BASE | {"ops"},
    "diffusion": BASE | {"ops", "model", "autoencoders"},
    "autoencoders": BASE | {"ops"},
    "text": BASE | {"ops"},
    "checkpoints": BASE | {"ops", "model", "autoencoders", "text"},
    "pipelines": BASE | {"ops", "model", "diffusion", "autoencoders", "text", "checkpoints", "media"},
    "toyworld": {"autoencoders"},
    "sync": BASE | {"ops", "model", "evaluation"},
    "evaluation": set(),
    "cli": {"commands"},
    "__main__": {"cli"},
}
ANYTHING_BELOW = {"training", "benchmarks", "commands"}  # may import every layer; only commands may import them


@dataclass(frozen=True)
class Import:
    file: Path
    line: int
    level: int
    module: str
    at_top: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {'.' * self.level}{self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, 0, alias.name, at_top)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    module = child.module or ""
                    full = f"{module}.{alias.name}" if child.level else module
                    yield Import(file, child.lineno, child.level, full.lstrip("."), at_top)
            else:
                is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for_checkers = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from visit(child, at_top and not is_function and not for_checkers)

    yield from visit(ast.parse(file.read_text()), at_top=True)


def core_target(found: Import) -> str | None:
    """The package or module of harmony_core that a relative import reaches: "ops", "geometry", ..."""
    parts = list(found.file.relative_to(CORE).with_suffix("").parts)
    base = parts[: len(parts) - found.level]
    reached = [*base, *found.module.split(".")]
    return reached[0] if len(parts) >= found.level else None


CORE_FILES = sorted(CORE.rglob("*.py"))
CORE_IMPORTS = [found for file in CORE_FILES for found in imports_of(file)]
NODE_IMPORTS = [found for file in sorted(NODES.rglob("*.py")) for found in imports_of(file)]


def package_of(file: Path) -> str:
    return file.relative_to(CORE).with_suffix("").parts[0]


def none_of(wrong: list[object]) -> None:
    assert not wrong, "\n" + "\n".join(map(str, wrong))


def test_the_walk_sees_imports() -> None:
    assert len(CORE_IMPORTS) > 100
    assert any(core_target(found) == "geometry" for found in CORE_IMPORTS if found.file.name == "media.py")
    assert any(not found.at_top for found in CORE_IMPORTS)


def test_core_knows_nothing_of_comfyui() -> None:
    none_of([i for i in CORE_IMPORTS if i.level == 0 and i.module.split(".")[0] in HOST_ONLY])


def test_core_imports_itself_relatively() -> None:
    none_of([i for i in CORE_IMPORTS if i.level == 0 and i.module.split(".")[0] == "harmony_core"])


def test_optional_packages_are_imported_in_functions() -> None:
    def optional(found: Import) -> bool:
        name = found.module.split(".")[0]
        return name in LAZY or (name == "typer" and CORE / "commands" not in found.file.parents)

    wrong = [i for i in (*CORE_IMPORTS, *NODE_IMPORTS) if i.level == 0 and i.at_top and optional(i)]
    none_of([i for i in wrong if not (i.module.split(".")[0] == "triton" and i.file.name.startswith("triton"))])


def test_layers_import_downwards_only() -> None:
    wrong = []
    for found in CORE_IMPORTS:
        if found.level == 0:
            continue
        source, target = package_of(found.file), core_target(found)
        if target == source or source == "__init__" or target in ("__version__", ""):
            continue
        if source not in LAYERS and source not in ANYTHING_BELOW:
            wrong.append(f"{found}: {source} has no place in LAYERS")
        elif source in LAYERS and target not in LAYERS[source]:
            wrong.append(f"{found}: {source} may import {', '.join(sorted(LAYERS[source])) or 'nothing'}")
        elif source in ANYTHING_BELOW and target in ("commands", "cli"):
            wrong.append(f"{found}: nothing imports the command line")
        elif source != "commands" and target in ("training", "benchmarks"):
            wrong.append(f"{found}: only the command line imports {target}")
    none_of(wrong)


def test_nodes_reach_the_core_relatively_and_comfyui_through_host() -> None:
    wrong = []
    for found in NODE_IMPORTS:
        name = found.module.split(".")[0]
        in_host = NODES / "host" in found.file.parents
        if found.level == 0 and (name == "harmony_core" or (name in HOST_ONLY and not in_host)):
            wrong.append(found)
        if found.level and found.module.startswith("harmony_core.training"):
            wrong.append(found)
    none_of(wrong)


def python_files() -> list[Path]:
    folders = (CORE, NODES, ROOT / "tests", ROOT / "benchmarks")
    return [ROOT / "__init__.py", *(file for folder in folders for file in sorted(folder.rglob("*.py")))]


def test_files_are_short() -> None:
    lengths = {file.relative_to(ROOT): len(file.read_text().splitlines()) for file in python_files()}
    none_of([f"{file} has {count} lines" for file, count in lengths.items() if count > MAX_LINES])


def test_no_machine_paths_in_tracked_files() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|farm)/\w")
    wrong = []
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.suffix in {".py", ".md", ".json", ".toml", ".yaml", ".yml", ".csv", ".txt"} or name == "Makefile":
            wrong += [
                f"{name}:{number}: {line.strip()[:100]}"
                for number, line in enumerate(file.read_text().splitlines(), 1)
                if pattern.search(line)
            ]
    none_of(wrong)


BLOCKED = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name + " is blocked", name=name.split(".")[0])

sys.meta_path.insert(0, Blocked())
import harmony_core
names = [module.name for module in pkgutil.walk_packages(harmony_core.__path__, "harmony_core.")]
for name in names:
    if not name.startswith(("harmony_core.__main__", "harmony_core.commands")):
        importlib.import_module(name)
print(len(names))
"""


def test_every_module_imports_without_optional_packages() -> None:
    blocked = {*LAZY, "typer", *HOST_ONLY}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=blocked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


def test_the_version_stands_twice_and_agrees() -> None:
    stated = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f'__version__ = "{stated}"' in (CORE / "__init__.py").read_text()


def test_importing_the_package_or_its_help_loads_no_torch() -> None:
    code = "import sys, harmony_core.commands, harmony_core.media; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
