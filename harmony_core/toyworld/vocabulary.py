"""The words of the captions, and the fixed grammar that they fill."""

from __future__ import annotations

NUMBERS = ("zero", "one", "two", "three", "four", "five")
MATERIALS = ("wood", "metal", "rubber", "glass")
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple")
HAIR_COLOURS = ("black", "brown", "blond", "ginger")
PERSONS = ("man", "woman", "child")

VIDEO_TEMPLATES = {
    "ball": (
        "a {colour} ball bounces on {material}",
        "a {colour} ball bounces on {material}",
        "a {colour} ball bounces on a {material} floor",
        "a {colour} ball bouncing on {material}",
        "a bouncing {colour} ball on {material}",
        "on {material} a {colour} ball bounces",
        "{colour} ball bouncing on a {material} floor",
        "a {colour} ball bounces {number} times on {material}",
        "a {colour} ball hits {material} {number} times",
    ),
    "face": (
        "a {person} with {hair} hair in a {shirt} shirt speaks",
        "a {person} with {hair} hair in a {shirt} shirt speaks",
        "a {person} with {hair} hair and a {shirt} shirt talks",
        "a {person} in a {shirt} shirt with {hair} hair speaks",
        "a {person} with {hair} hair speaks in a {shirt} shirt",
        "{person} with {hair} hair in a {shirt} shirt speaking",
        "the face of a {person} with {hair} hair and {shirt} shirt",
        "a {person} with {hair} hair in a {shirt} shirt says {number} words",
        "a {person} with {hair} hair in a {shirt} shirt says {number} words",
        "a {person} with {hair} hair and {shirt} shirt says {number} words",
    ),
    "complex": (
        "a {person} in a {shirt} shirt speaks while a lamp flashes",
        "a {person} with {hair} hair speaks while a lamp flashes",
        "a {person} with {hair} hair in {shirt} speaks beside a flashing lamp",
        "a lamp flashes beside a {person} with {hair} hair in {shirt}",
        "a {person} with {hair} hair says {number} words while a lamp flashes",
    ),
    "still ball": (
        "a {colour} ball rests on {material}",
        "a {colour} ball lies still on {material}",
        "a still {colour} ball on a {material} floor",
    ),
    "still face": (
        "a {person} with {hair} hair in a {shirt} shirt is silent",
        "a silent {person} with {hair} hair in a {shirt} shirt",
    ),
}
AUDIO_TEMPLATES = {
    "ball": (
        "a ball hits {material}",
        "a ball bounces on {material}",
        "a ball bouncing on {material}",
        "a ball hits {material} {number} times",
        "{number} hits on {material}",
    ),
    "face": (
        "a {person} speaks",
        "a {person} says {number} words",
        "a {person} says {number} words",
        "a {person} says {number} words {manner}",
        "a {person} speaks {manner}",
    ),
    "complex": (
        "a {person} speaks while something ticks",
        "a {person} says {number} words while something ticks",
        "ticking while a {person} says {number} words",
    ),
    "still": ("silence", "no sound", "nothing is heard"),
}


def _vocabulary() -> tuple[str, ...]:
    templates = " ".join(" ".join(group) for group in (*VIDEO_TEMPLATES.values(), *AUDIO_TEMPLATES.values()))
    fixed = {word for word in templates.split() if not word.startswith("{")}
    manners = {"quietly", "loudly", "slowly", "quickly"}
    values = {*NUMBERS[2:], *MATERIALS, *COLOURS, *HAIR_COLOURS, *PERSONS}
    return tuple(sorted(fixed | manners | values | {"an"}))


VOCABULARY = _vocabulary()
