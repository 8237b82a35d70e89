"""Hostile texts: prompts files, requests, transcripts, training settings."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from harmony_core.commands.options import printable
from harmony_core.pipelines.prompts import KNOWN, read_jobs
from harmony_core.presets import PRESETS, preset
from harmony_core.request import SETTINGS, GenerateRequest
from harmony_core.text.ovi_caption import caption
from harmony_core.text.pinyin import f5_units
from harmony_core.text.tiny_encoder import TinyTextEncoder
from harmony_core.text.transcripts import tokenize_transcript
from harmony_core.toyworld import VOCABULARY
from harmony_core.training.config import TrainingConfig

from .watch import Case
from .weight_cases import deep, strange_value

f5_units("\u4f60")  # loads the dictionary, once for all cases
STRANGE = [
    "\0",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "\ufeff",
    "\ud800",
    "💥",
    "e\u0301" * 3,
    "中",
    "ﷺ",
    "<S>",
    "<E>",
    "<AUDCAP>",
    "\\",
]
RUNS = "!!python/object/apply:os.system ['touch canary.txt']"
LETTERS = "abc XYZ.,;'\"!?" + "你好，世界"


def text(rng: random.Random, longest: int = 3000) -> str:
    length = rng.choice([0, 1, 10, 100, longest])
    return "".join(rng.choice(STRANGE) if rng.random() < 0.1 else rng.choice(LETTERS) for _ in range(length))


def _value(rng: random.Random) -> Any:
    return rng.choice([strange_value(rng), text(rng, 200), rng.uniform(-10, 300), rng.randrange(-5, 5000)])


def _line(rng: random.Random) -> str:
    values = {"prompt": text(rng, 200)}
    for _ in range(rng.randrange(5)):
        values[rng.choice([*KNOWN, "x" * 10_000, "__class__", ""])] = _value(rng)
    if rng.random() < 0.3:
        values["output"] = rng.choice(["../out.mp4", "/out.mp4", "a:b.mp4", "x" * 400 + ".mp4", "a.mp4", ".mp4"])
    whole = json.dumps(values, ensure_ascii=rng.random() < 0.5)
    return rng.choice(
        [whole] * 6
        + [whole[: rng.randrange(len(whole))], deep(100_000), "", "# note", "null", "7", f"{whole} {whole}"]
        + [
            '{"prompt": "a", "prompt": "b"}',
            '{"prompt": ' + "9" * 5000 + "}",
            '{"seed": 1e999, "prompt": "a"}',
            "{" * 9999,
        ]
    )


def prompts(rng: random.Random, folder: Path) -> Case:
    """A file of lines. What is wrong with one is said of it alone."""
    path = folder / "p.jsonl"
    lines = [_line(rng) for _ in range(rng.choice([0, 1, 5, 60]))]
    data = rng.choice(["\n", "\n", "\r\n"]).join(lines).encode("utf-8", "surrogatepass")
    data = rng.choice([data] * 5 + [b"\xff\xfe" + data, data.decode("utf-8", "ignore").encode("utf-16")])
    path.write_bytes(data)

    def run() -> None:
        jobs = read_jobs(path, folder / "out", {}, rng.randrange(2**40))
        for job in jobs.waiting:
            with jobs.catching(job.line):
                job.request(PRESETS["harmony-5b"])
        assert all(len(error) <= 310 for error in jobs.errors.values())
        assert all(job.output.parent == folder / "out" for job in jobs.waiting)
        jobs.raise_errors()

    return Case(run)


def request(rng: random.Random, folder: Path) -> Case:
    """Numbers of any kind, as an API brings them."""
    numbers = [name for name, each in SETTINGS.items() if each.kind in (int, float)]
    odd = [float("nan"), float("inf"), -float("inf"), -1, 0, 1e300, 2**70, 1e-300, 0.5, 3, 100.0]
    values = {name: rng.choice(odd) for name in rng.sample(numbers, rng.randrange(1, 6))}
    values["static_video"] = rng.choice(["auto", "grey", "x", ""])
    return Case(lambda: GenerateRequest(prompt=text(rng), **values))


@lru_cache(maxsize=1)
def _encoder() -> TinyTextEncoder:
    return TinyTextEncoder(VOCABULARY, 16, 8)


def words(rng: random.Random, folder: Path) -> Case:
    """Captions and transcripts through their tokenisers, and anything to the terminal."""
    written = text(rng)

    def run() -> None:
        speech = preset("harmony-5b").speech
        assert speech is not None
        ids, notes = tokenize_transcript(written, speech)
        assert ids.shape[-1] == speech.max_len
        assert int(ids.min()) >= 0 and int(ids.max()) <= speech.vocab_size
        ids, said = _encoder().tokenize(written)
        assert all(len(note) < 2000 for note in (*notes, *said))
        shown = printable(written)
        assert all(letter.isprintable() for letter in shown)
        for form in ("ovi", "dreamid", "separate"):
            try:
                caption(written, text(rng), text(rng), form)
            except ValueError as error:
                assert len(str(error)) < 2000

    return Case(run)


def training(rng: random.Random, folder: Path) -> Case:
    """Settings of a training run."""
    odd = [
        "nan",
        "-1",
        "0",
        "1e999",
        "[1, 2]",
        "{}",
        "x",
        "9" * 400,
        "!!python/object/apply:os.system ['touch canary.txt']",
    ]
    names = ["steps", "batch_size", "seed", "optimizer.ema", "optimizer.learning_rate", "objective.kind", "data.clips"]
    names += ["save_every", "objective.shift", "model.dim", "model", "data", "preset", "x", "optimizer", "threads"]
    path = Path(__file__).parents[2] / "harmony_core" / "training" / "configs" / "tiny.yaml"
    if rng.random() < 0.4:
        path = folder / "c.yaml"
        nested = "".join(f"{inner}: &{inner} [*{outer}, *{outer}]\n" for outer, inner in pairwise("abcdefghijklmnop"))
        texts = ["a: &a [x, x]\n" + nested, deep(5000), "", "[]", "a: b: c", "\0", RUNS, "steps: 1" * 3]
        path.write_text(rng.choice(texts))
    overrides = [f"{rng.choice(names)}={rng.choice(odd)}" for _ in range(rng.randrange(3))]
    return Case(lambda: TrainingConfig.from_yaml(path, overrides))


CASES = {"prompts": prompts, "request": request, "words": words, "training": training}
