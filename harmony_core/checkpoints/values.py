"""What a weight file's numbers are, beside its names and shapes."""

from __future__ import annotations

from typing import Any

from .weight_files import DTYPES, WeightFiles, open_safetensors

AT_ONCE = 2**24  # values


def count_not_finite(files: WeightFiles) -> dict[str, Any]:
    """{"nan": how many, "inf": how many, "first": the first tensor with any, or None}, over all floating-point tensors.

    Reads every file once, a tensor at a time.
    """
    nan, inf, first = 0, 0, None
    for path in files.handles:
        with open_safetensors(path) as file:  # a handle of its own, which lets go of what it has mapped
            for key, entry in files.entries.items():
                if entry.path != path or entry.dtype not in DTYPES:
                    continue
                for part in file.get_tensor(key).flatten().split(AT_ONCE):
                    values = part.float() if part.element_size() == 1 else part  # fp8 has no isnan
                    found = int(values.isnan().sum()), int(values.isinf().sum())
                    nan, inf = nan + found[0], inf + found[1]
                    if first is None and any(found):
                        first = key
    return {"nan": nan, "inf": inf, "first": first}


def describe_not_finite(counts: dict[str, Any]) -> str:
    """One line of it."""
    if counts["first"] is None:
        return "all finite"
    return f"{counts['nan']:,} NaN and {counts['inf']:,} infinite, the first in {counts['first']}; the file is damaged"
