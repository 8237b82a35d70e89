"""A clip's request, kept in its file, so that a later run knows whether it is still what was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..media.containers import open_media, require_file
from ..request import GenerateRequest

KEY = "harmony"
ENDS = 2**20  # bytes of a weight file's beginning and end that tell it from another


def make_record(values: Mapping[str, Any], weights: Sequence[Path]) -> dict[str, Any]:
    """A request's values, media still as paths, as JSON takes them.

    Files stand there by name and content, not by place; what has its default is left out.

    Raises:
        MediaError: a media file that is none.
    """
    unsaid = {item.name: item.default for item in fields(GenerateRequest)}
    asked = {name: value for name, value in sorted(values.items()) if value not in (None, [], unsaid.get(name))}
    return {"weights": [_weights(path) for path in weights], **{name: _described(asked[name]) for name in asked}}


def as_comment(record: Mapping[str, Any]) -> str:
    """The text that a file keeps."""
    return json.dumps({KEY: record}, ensure_ascii=False)


def read_record(path: Path) -> dict[str, Any] | None:
    """What a file says it was made from; None if it does not. Raises MediaError for one that is no media file."""
    with open_media(path) as container:
        comment = container.metadata.get("comment", "")
    try:
        record = json.loads(comment)[KEY]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what differs."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _described(value: Any) -> Any:
    if isinstance(value, Path):
        require_file(value)
        return {"file": value.name, "sha256": _digest(value)}
    if isinstance(value, Fraction):
        return str(value)
    return [_described(item) for item in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=64)
def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _weights(path: Path) -> dict[str, Any]:
    """Not read as a whole: they may be tens of gigabytes. A folder is its name."""
    if path.is_dir():
        return {"folder": path.name}
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(ENDS)
        file.seek(max(0, size - ENDS))
        ends += file.read(ENDS)
    return {"file": path.name, "bytes": size, "ends_sha256": hashlib.sha256(ends).hexdigest()}
