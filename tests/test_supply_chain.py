"""What is declared of licences and versions is so, and the lock of development fits it."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib")  # Python 3.11 and newer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(each) for each in found] for name, found in PROJECT["optional-dependencies"].items()}
OUTSIDE = ("scorers", "adamw-8bit", "trackers")  # of the lock: pyproject.toml says why
FREE = ("torch", "torchvision", "torchaudio", "triton", "nvidia", "cuda")


def locked() -> dict[str, str]:
    """Package -> version; of several, for several Pythons, the first."""
    found: dict[str, str] = {}
    for line in (ROOT / "requirements-dev.lock").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            found.setdefault(requirement.name.lower(), pin.version)
    return found


def test_the_licence_is_an_spdx_expression() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:400]
    assert not any("License ::" in each for each in PROJECT["classifiers"])


def test_nothing_is_installed_into_comfyui() -> None:
    assert PROJECT["dependencies"] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_dependency_has_a_lowest_version(extra: str) -> None:
    for requirement in EXTRAS[extra]:
        assert {each.operator for each in requirement.specifier} & {">=", "=="}, f"{requirement} has no lower bound"


def test_one_package_has_one_lowest_version() -> None:
    seen: dict[str, str] = {}
    for requirement in (each for found in EXTRAS.values() for each in found):
        assert seen.setdefault(requirement.name, str(requirement.specifier)) == str(requirement.specifier)


def test_the_lock_fits_and_leaves_torch_free() -> None:
    pins = locked()
    assert not [name for name in pins if re.fullmatch(rf"({'|'.join(FREE)})([-_].*)?", name)]
    for requirement in (each for extra, found in EXTRAS.items() if extra not in OUTSIDE for each in found):
        if requirement.name not in FREE:
            version = pins[requirement.name.lower()]
            assert requirement.specifier.contains(version), f"{requirement} does not allow {version}; run tools.lock"


def test_every_dependency_is_in_the_licence_list() -> None:
    listed = (ROOT / "docs" / "licences.md").read_text()
    for extra, found in EXTRAS.items():
        if extra != "dev":
            for requirement in found:
                row = re.search(rf"^\| {re.escape(requirement.name)} \| ([^|]*) \| ", listed, re.MULTILINE)
                assert row, f"{requirement.name} is missing"
                assert extra in row[1].split(", ")


def test_shipped_files_of_others_are_named() -> None:
    listed = (ROOT / "docs" / "licences.md").read_text()
    own = {"harmony-tiny.safetensors", "harmony-tiny.json"}
    for path in (ROOT / "harmony_core" / "assets").iterdir():
        if path.suffix not in (".py",) and path.name not in own and path.is_file():
            assert path.name in listed, f"{path.name}: own or somebody else's?"


def test_the_installed_package_states_its_licence() -> None:
    assert metadata("harmony-av").get("License-Expression") == "Apache-2.0"
