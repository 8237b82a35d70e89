"""What messages quote of files and of people: its beginning, however much there is."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

LONGEST = 60  # characters of a value
MOST = 3  # names of a list

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = LONGEST
_repr.maxlevel, _repr.maxlist, _repr.maxtuple, _repr.maxdict = 3, 4, 4, 4


def quoted(value: Any) -> str:
    """A value as Python writes it. Of a long or deep one a part: YAML's aliases nest without end in a few bytes."""
    return shortened(_repr.repr(value), 4 * LONGEST)


def shortened(text: str, most: int = LONGEST) -> str:
    """A text with `...` for what is beyond `most` characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def listed(names: Iterable[str], most: int = MOST) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    first = ", ".join(shortened(name, 2 * LONGEST) for name in islice(names, most))
    return first if len(names) <= most else f"{first} and {len(names) - most} more"
