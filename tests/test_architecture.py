"""Who may import whom (docs/architecture.md), what may be imported when, and how long a file may be."""

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
LAZY |= {"syncnet_python", "speechmos", "pocketsphinx"}
HOST_ONLY = {"comfy", "folder_paths", "comfy_extras", "comfy_execution", "node_helpers", "nodes"}

FREE = {"commands", "cli", "__main__"}  # the top: may import every layer, and nothing imports it
TOP = {"training": {"commands", "benchmarks"}, "benchmarks": {"commands"}}  # who alone may import these
STARTS_PROGRAMS = {  # espeak-ng, when the recordings are made anew; the scorer that a person names
    "toyworld/record_words.py",
    "benchmarks/scorers/command.py",
}


def documented_layers() -> dict[str, set[str]]:
    """Package of harmony_core -> packages it may import beside itself: the table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.split("| package | what it is | may import |")[1].split("\n\n")[0]
    layers: dict[str, set[str]] = {}
    for line in table.splitlines()[2:]:
        packages, _, allowed = (re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:-1])
        layers |= {package: set(allowed) for package in packages}
    return layers


LAYERS = documented_layers()


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
    assert any(core_target(found) == "config" for found in CORE_IMPORTS if found.file.name == "bundle.py")
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
    """`_base` in the table stands for what everything may import."""
    base = LAYERS["_base"]
    wrong = []
    for found in CORE_IMPORTS:
        if found.level == 0:
            continue
        source, target = package_of(found.file), core_target(found)
        if target in (source, "__version__", "") or source == "__init__":
            continue
        if target in FREE:
            if source not in FREE:
                wrong.append(f"{found}: nothing imports the command line")
        elif source in FREE:
            continue
        elif source not in LAYERS:
            wrong.append(f"{found}: {source} has no place in docs/architecture.md")
        elif target not in LAYERS[source] | (base if source not in base else set()):
            wrong.append(f"{found}: {source} may import {', '.join(sorted(LAYERS[source])) or 'nothing'}")
        elif target in TOP and source not in TOP[target]:
            wrong.append(f"{found}: only {', '.join(TOP[target])} import {target}")
    none_of(wrong)


def test_the_table_names_every_package_once() -> None:
    packages = {path.stem for path in CORE.iterdir() if path.is_dir() or path.suffix == ".py"}
    packages -= {"__init__", "__pycache__", "assets", "py", *FREE}
    assert set(LAYERS) - {"_base"} == packages


def file_graph(root: Path, imports: list[Import]) -> dict[Path, set[Path]]:
    """File -> files of `root` that it imports, anywhere in it."""
    graph: dict[Path, set[Path]] = {}
    for found in imports:
        if found.level == 0:
            continue
        start = found.file.parents[found.level - 1]
        reached = start.joinpath(*found.module.split("."))
        options = (reached.with_suffix(".py"), reached / "__init__.py", reached.parent.with_suffix(".py"))
        target = next((each for each in options if each.is_file() and root in each.parents), None)
        if target is not None and target != found.file:
            graph.setdefault(found.file, set()).add(target)
    return graph


def circle_in(graph: dict[Path, set[Path]]) -> list[str]:
    """The names of one circle's files, or nothing."""
    done: set[Path] = set()

    def walk(file: Path, above: list[Path]) -> list[Path]:
        if file in above:
            return [*above[above.index(file) :], file]
        if file in done:
            return []
        for target in sorted(graph.get(file, ())):
            if circle := walk(target, [*above, file]):
                return circle
        done.add(file)
        return []

    circles = (walk(file, []) for file in sorted(graph))
    return [str(file.relative_to(ROOT)) for file in next((each for each in circles if each), [])]


@pytest.mark.parametrize("root", [CORE, NODES], ids=lambda root: root.name)
def test_no_file_imports_itself_in_a_circle(root: Path) -> None:
    graph = file_graph(root, CORE_IMPORTS if root == CORE else NODE_IMPORTS)
    assert len(graph) > 10
    assert not circle_in(graph)


def test_a_circle_is_seen() -> None:
    a, b, c = (CORE / name for name in ("a.py", "b.py", "c.py"))
    assert circle_in({a: {b}, b: {c}, c: {b}}) == ["harmony_core/b.py", "harmony_core/c.py", "harmony_core/b.py"]
    assert not circle_in({a: {b, c}, b: {c}})


def test_no_node_imports_another() -> None:
    """What several nodes share stands in inputs.py or host/."""
    nodes = {file.stem for file in NODES.glob("*.py")} - {"__init__", "inputs"}
    pairs = {
        (found.file.stem, found.module.split(".")[0])
        for found in NODE_IMPORTS
        if found.level == 1 and found.file.parent == NODES and found.file.stem in nodes
    }
    wrong = {(one, other) for one, other in pairs if other in nodes}
    none_of(sorted(wrong))


def test_core_reaches_nothing_outside_itself() -> None:
    """Neither the repository's benchmarks, tools and tests, nor a program but for espeak-ng."""
    wrong: list[object] = [
        found
        for found in CORE_IMPORTS
        if (found.level == 0 and found.module.split(".")[0] in ("benchmarks", "tools", "tests"))
        or found.level > len(found.file.relative_to(CORE).parts)
    ]
    for file in CORE_FILES:
        name, source = str(file.relative_to(CORE)), file.read_text()
        if re.search(r"\b(subprocess|os\.system|Popen|runpy|sys\.path)\b", source) and name not in STARTS_PROGRAMS:
            wrong.append(f"{name} starts a program or changes the import path")
        depth = len(file.relative_to(CORE).parts)
        up = [int(index) + 1 for index in re.findall(r"\.parents\[(\d+)\]", source)]
        up += [len(chain) // len(".parent") for chain in re.findall(r"__file__\)((?:\.parent\b)+)", source)]
        if max(up, default=0) > depth:
            wrong.append(f"{name} looks above harmony_core")
    none_of(wrong)


def test_nodes_reach_the_core_relatively_and_no_training() -> None:
    wrong = [found for found in NODE_IMPORTS if found.level == 0 and found.module.split(".")[0] == "harmony_core"]
    none_of([*wrong, *(i for i in NODE_IMPORTS if i.level and i.module.startswith("harmony_core.training"))])


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


def test_the_version_stands_thrice_and_agrees() -> None:
    stated = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert f'__version__ = "{stated}"' in (CORE / "__init__.py").read_text()
    assert f"version: {stated}\n" in (ROOT / "CITATION.cff").read_text()


def test_importing_the_package_or_its_help_loads_no_torch() -> None:
    code = "import sys, harmony_core.commands, harmony_core.media; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_command_that_reads_no_media_loads_no_media_library(tmp_path: Path) -> None:
    """An output's path is tried without PyAV."""
    code = (
        "import sys, torch; from harmony_core.cli import main; torch.save({'a': torch.ones(1)}, sys.argv[1] + '/a.pt');"
        "sys.argv = ['harmony', 'convert', sys.argv[1] + '/a.pt', '-o', sys.argv[1] + '/a.safetensors'];"
        "\ntry: main()\nexcept SystemExit as stop: assert not stop.code\nsys.exit('av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.safetensors").is_file()
