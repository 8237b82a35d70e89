"""Dataclasses from what files and people write: every key known, none missing, every value of its type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from .quoting import listed, quoted

T = TypeVar("T")


def build(
    cls: type[T],
    values: Mapping[str, Any],
    title: str,
    prefix: str = "",
    required: Iterable[str] = (),
    text_numbers: bool = False,
) -> T:
    """`cls` from a mapping. Dataclasses in it are built from mappings, tuples from lists.

    Args:
        title: whose settings these are, as errors say it.
        prefix: stands before a field's name in errors: "optimizer.".
        required: fields that must be given, beside those without a default.
        text_numbers: a number may be written as text, since YAML takes 8e-4, without a dot, for one.

    Raises:
        ValueError: names the unknown and the missing keys, or the value of another type.
    """
    known = {item.name: item.default is MISSING and item.default_factory is MISSING for item in fields(cast(Any, cls))}
    unknown = [prefix + name for name in sorted(set(values) - set(known))]
    needed = {name for name, is_needed in known.items() if is_needed} | set(required)
    missing = [prefix + name for name in sorted(needed - set(values))]
    if unknown or missing:
        parts = [f"unknown: {listed(unknown)}"] * bool(unknown) + [f"missing: {listed(missing, 9)}"] * bool(missing)
        raise ValueError(f"{title}: {'; '.join(parts)}. Known: {', '.join(prefix + name for name in known)}.")
    hints = get_type_hints(cls)

    def typed(hint: Any, value: Any, name: str) -> Any:
        if get_origin(hint) is UnionType:
            (kind,) = (each for each in get_args(hint) if each is not NoneType)
            if value is None:
                return None
            if is_dataclass(kind) and not isinstance(value, dict | kind):
                raise ValueError(f"{title} {name} is {quoted(value)}, but must be settings or null.")
            return typed(kind, value, name)
        kind = get_origin(hint) or hint
        if isinstance(value, dict) and is_dataclass(kind):
            return build(cast(type, kind), value, title, f"{name}.", text_numbers=text_numbers)
        if kind is tuple and isinstance(value, list | tuple):
            return tuple(typed(get_args(hint)[0], item, name) for item in value)
        if kind is float and isinstance(value, int | str if text_numbers else int) and not isinstance(value, bool):
            try:
                return float(value)
            except (ValueError, OverflowError):
                pass
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{title} {name} is {quoted(value)}, but must be of type {kind.__name__}.")
        return value

    return cls(**{name: typed(hints[name], value, prefix + name) for name, value in values.items()})
