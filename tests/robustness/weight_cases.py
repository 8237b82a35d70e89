"""Hostile weight files: headers, keys, shapes, settings, formats, indices and pickles."""

from __future__ import annotations

import json
import pickle
import random
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from harmony_core.checkpoints import embedded_checkpoints, load_bundle, load_transformer
from harmony_core.checkpoints.convert import CONVERSIONS, convert
from harmony_core.checkpoints.identify import identify
from harmony_core.checkpoints.lora import lora_ranks
from harmony_core.checkpoints.weight_files import open_files, shard_set
from harmony_core.commands.options import read_config
from harmony_core.config import HarmonyConfig
from harmony_core.pipelines import HarmonyPipeline, PartFiles

from .watch import Case

FIXTURES = Path(__file__).parents[1] / "fixtures"
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F8_E5M2")
STRANGE_DTYPES = ("F4", "F6_E2M3", "C64", "Q4_K", "", "f32", None, 7, ["F32"])
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2}
BIG = (2**31, 2**40, 2**62, 2**63, 2**64, 10**30)
LORAS = ("blocks.0.self_attn.q", "audio.blocks.1.ffn.0", "transformer.blocks.0.attn1.to_q", "double_blocks.7.img")


def deep(depth: int, inside: str = "1") -> str:
    return "[" * depth + inside + "]" * depth


@lru_cache(maxsize=16)
def real_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size))


def known_files() -> list[Path]:
    """What ships, and the fixtures of published layouts."""
    return [*embedded_checkpoints().values(), *sorted(FIXTURES.rglob("*.safetensors"))]


def shapes_of(rng: random.Random) -> dict[str, list[int]]:
    """Names and shapes of a known layout, without what makes its file large."""
    header = real_header(rng.choice(known_files()))
    kept = {key: value["shape"] for key, value in header.items() if key != "__metadata__"}
    if len(kept) > 400 and rng.random() < 0.7:
        kept = {key: kept[key] for key in rng.sample(sorted(kept), 400)}
    return kept


def strange_key(rng: random.Random, key: str) -> str:
    return rng.choice(
        [
            key + rng.choice([".x", "", ".weight", "\x1b[2J", "\u202e", "\0"]),
            key.replace(".0.", f".{rng.choice([999_999_999, -1, 10**40])}."),
            key.replace(".1.", ".١."),
            rng.choice(["model.diffusion_model.", "transformer.", "diffusion_model.", "module."]) + key,
            "k" * rng.choice([1, 300, 100_000]),
            "block.999999999",
            "blocks.999999999.self_attn.q.weight",
            "encoder.block.999999999.layer.0.SelfAttention.q.weight",
        ]
    )


def spoiled(rng: random.Random, shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """The same with some tensors missing, added, renamed, or of another shape."""
    out = dict(shapes)
    for _ in range(rng.choice([0, 1, 1, 2, 5, 50])):
        if not out:
            break
        key = rng.choice(list(out))
        how = rng.randrange(6)
        if how == 0:
            del out[key]
        elif how == 1:
            out[strange_key(rng, key)] = out.pop(key)
        elif how == 2:
            out[key] = []
        elif how == 3:
            out[key] = out[key][: rng.randrange(2)]
        elif how == 4:
            out[key] = [max(0, n + rng.choice([-1, 1, 7])) for n in out[key]]
        else:
            out[key] = out[key] + [rng.choice([0, 1, 3])]
    return out


def packed(
    shapes: dict[str, list[int]], dtype: str, metadata: Any = None, texts: dict[str, bytes] | None = None
) -> bytes:
    """A whole safetensors file of zeros, sparse enough to write in a moment."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for key, shape in shapes.items():
        size = SIZES.get(dtype, 1)
        for n in shape:
            size *= n
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    body = bytes(at)
    for key, text in (texts or {}).items():
        header[key] = {"dtype": "U8", "shape": [len(text)], "data_offsets": [at, at + len(text)]}
        at, body = at + len(text), body + text
    return framed(json.dumps(header).encode(), body)


def framed(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def limited(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Without tensors whose bytes the case would have to write."""
    kept, total = {}, 0
    for key, shape in shapes.items():
        size = 4
        for n in shape:
            size *= n
        total += size
        if total < 24 * 2**20:
            kept[key] = shape
    return kept


def broken_header(rng: random.Random) -> bytes:
    """A header that is none, or that lies."""
    key, good = "a.weight", {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    entry: Any = dict(good)
    how = rng.randrange(12)
    if how == 0:
        entry["dtype"] = rng.choice(STRANGE_DTYPES)
    elif how == 1:
        entry["shape"] = rng.choice([[n, 2] for n in BIG] + [[-1], [1.5], "2", None, {}, [[2], 2], [0] * 5000])
    elif how == 2:
        entry["data_offsets"] = rng.choice([[16, 0], [0, 2**63], [-1, 15], [0], [], None, [0, 16, 32], ["0", "16"]])
    elif how == 3:
        return framed(deep(rng.choice([200, 100_000])).encode(), bytes(16))
    elif how == 4:
        return framed(b'{"a":' * 100_000, bytes(16))
    elif how == 5:
        return struct.pack("<Q", rng.choice([0, 1, 2**20, 2**40, 2**63, 2**64 - 1])) + rng.randbytes(64)
    elif how == 6:
        twice = json.dumps(entry)
        return framed(f'{{"{key}": {twice}, "{key}": {twice}}}'.encode(), bytes(16))
    elif how == 7:
        return framed(json.dumps({"\ud800": good} | {key: good}, ensure_ascii=True).encode(), bytes(16))
    elif how == 8:
        return framed(b"\xff\xfe" + json.dumps({key: good}).encode("utf-16"), bytes(16))
    elif how == 9:
        return framed(
            json.dumps({key: good, "__metadata__": rng.choice([7, [], {"a": 1}, {"a": None}])}).encode(), bytes(16)
        )
    elif how == 10:
        return rng.choice([b"", b"\0", rng.randbytes(100), b"PK\x03\x04" + rng.randbytes(60), b"GGUF" + bytes(20)])
    else:
        entry["shape"], entry["data_offsets"] = [0, 2**40], [0, 0]
    return framed(json.dumps({key: entry}).encode(), bytes(16))


def strange_value(rng: random.Random) -> Any:
    return rng.choice(
        [None, True, "", "x" * 100_000, "\x1b]0;t\x07", -1, 0, 1.5, 10**30, 2**31, float("nan"), float("inf"), [], {}]
        + [[1] * 1000, {"a": {"b": 1}}, "1/0", "1e400", "9" * 5000, [[1, 2], [3]], [2**62] * 3]
    )


def spoiled_settings(rng: random.Random, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint with some replaced, missing or added."""
    out = json.loads(json.dumps(settings))
    for _ in range(rng.choice([1, 1, 2, 4])):
        target = out
        while rng.random() < 0.8:
            inner = [value for value in target.values() if isinstance(value, dict)]
            if not inner:
                break
            target = rng.choice(inner)
        if not target:
            break
        key = rng.choice(list(target))
        how = rng.randrange(4)
        if how == 0:
            del target[key]
        elif how == 1:
            target[rng.choice(["__class__", "x" * 100_000, "self", "\x1b[31m", "device"])] = strange_value(rng)
        else:
            target[key] = strange_value(rng)
    return out


class _Payload:
    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch canary.txt",)


def pickled(rng: random.Random) -> bytes:
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(rng.choice([_Payload(), {"a": _Payload()}, {"a.weight": torch.zeros(2, 2)}]), buffer)
    data = buffer.getvalue()
    return rng.choice([data, pickle.dumps(_Payload()), data[: rng.randrange(len(data))]])


def weights(rng: random.Random, folder: Path) -> Case:
    """One file, opened by whatever opens weight files."""
    how = rng.random()
    texts, metadata = {}, None
    if how < 0.3:
        data = broken_header(rng)
    elif how < 0.4:
        data = pickled(rng)
    else:
        shapes = spoiled(rng, limited(shapes_of(rng)))
        if rng.random() < 0.25:
            layer = rng.choice([key.removesuffix(".weight") for key in shapes] or ["a"])
            quant = [
                "{}",
                '{"format": 7}',
                '{"format": "nvfp4"}',
                "[" * 9000,
                '{"format": "float8_e4m3fn"}',
                "9" * 99_999,
            ]
            texts[f"{layer}.comfy_quant"] = rng.choice(quant).encode()
        if rng.random() < 0.2:
            choices = ["{}", deep(9000), '{"layers": 1}', '{"layers": {"a": {"format": "mxfp8"}}}', "x"]
            metadata = {"_quantization_metadata": rng.choice(choices), "model_card": rng.choice(choices)}
        data = packed(shapes, rng.choice(DTYPES), metadata, texts)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    path = folder / ("w" + rng.choice([".safetensors"] * 6 + [".pt", ".ckpt", ".bin", ".sft", ""]))
    path.write_bytes(data)
    return Case(lambda: use(rng, path, folder))


def bundle(rng: random.Random, folder: Path) -> Case:
    """The embedded checkpoint's settings, spoiled, over its tensors."""
    source = rng.choice(list(embedded_checkpoints().values()))
    header = real_header(source)
    settings = json.loads(header["__metadata__"]["config"])
    text = (
        json.dumps(spoiled_settings(rng, settings)) if rng.random() < 0.8 else rng.choice([deep(99_999), "{", "null"])
    )
    shapes = {k: v["shape"] for k, v in header.items() if k != "__metadata__" and not k.endswith("harmony_config")}
    if rng.random() < 0.3:
        shapes = spoiled(rng, shapes)
    metadata = {"config": text, "model_card": rng.choice(["{}", deep(9000), "[]", json.dumps({"a": "x" * 10**6})])}
    stored = {"model.diffusion_model.harmony_config": text.encode()} if rng.random() < 0.5 else {}
    path = folder / "w.safetensors"
    path.write_bytes(packed(shapes, "F16", metadata, stored))
    return Case(lambda: use(rng, path, folder))


def lora(rng: random.Random, folder: Path) -> Case:
    shapes: dict[str, list[int]] = {}
    for _ in range(rng.choice([1, 3, 30])):
        name, rank = rng.choice(LORAS), rng.choice([0, 1, 4])
        shapes[f"{name}.lora_A.weight"] = rng.choice([[rank, 8], [rank], [], [rank, 8, 1, 1]])
        shapes[f"{name}.lora_B.weight"] = rng.choice([[8, rank], [rank], [], [8, rank]])
    path = folder / "w.safetensors"
    path.write_bytes(packed(spoiled(rng, shapes), rng.choice(DTYPES)))
    return Case(lambda: lora_ranks(open_files(path)))


def index(rng: random.Random, folder: Path) -> Case:
    """A list of shards that names what is not beside it."""
    inside, outside = folder / "in", folder / "secret"
    inside.mkdir()
    outside.mkdir()
    secret = outside / "secret.safetensors"
    secret.write_bytes(packed({"a.weight": [2, 2]}, "F32"))
    names = ["../secret/secret.safetensors", str(secret), "a/../../secret/secret.safetensors", "a.safetensors"]
    names += ["", ".", "..", "\0", "x" * 5000, "http://127.0.0.1:9/a.safetensors", "/dev/stdin", "~/a.safetensors"]
    map_ = rng.choice(
        [
            {"a.weight": rng.choice(names)},
            {f"a{i}": rng.choice(names) for i in range(50)},
            {f"a{i}": f"shard-{i}.safetensors" for i in range(20_000)},
            *({}, [], None, 7, {"a": 7}, {"a": None}),
        ]
    )
    text = json.dumps({"weight_map": map_}) if rng.random() < 0.85 else rng.choice([deep(99_999), "", "[]", "\x00"])
    (inside / "model.safetensors.index.json").write_text(text)
    (inside / "a.safetensors").write_bytes(packed({"a.weight": [2, 2]}, "F32"))
    (inside / "b-00001-of-99999.safetensors").write_bytes(packed({"a.weight": [2, 2]}, "F32"))
    given = rng.choice([inside, inside / "model.safetensors.index.json", inside / "b-00001-of-99999.safetensors"])

    def run() -> None:
        if given.suffix == ".safetensors":
            shard_set(given)
        elif rng.random() < 0.5:
            open_files(given)
        else:
            load_transformer(given)

    return Case(run, (secret,))


def use(rng: random.Random, path: Path, folder: Path) -> None:
    """Any of the ways in."""
    parts = {"model": [path], "video_vae": path, "audio_vae": (path,), "text_encoder": path, "tokenizer": folder}
    embedded = next(iter(embedded_checkpoints().values()))
    ways = [
        lambda: identify(path),
        lambda: identify(path),
        lambda: read_config(str(path)),
        lambda: load_bundle(path),
        lambda: load_transformer(path),
        lambda: open_files(path),
        lambda: HarmonyPipeline.from_file(str(path)),
        lambda: HarmonyPipeline.from_parts(PartFiles(**(parts | {"model": [embedded]}))),
        lambda: HarmonyPipeline.from_parts(PartFiles(**parts)),
        lambda: convert(path, folder / "out.safetensors", rng.choice(list(CONVERSIONS))),
    ]
    rng.choice(ways)()


def config(rng: random.Random, folder: Path) -> Case:
    source = rng.choice(list(embedded_checkpoints().values()))
    settings = json.loads(real_header(source)["__metadata__"]["config"])["transformer"]
    values = spoiled_settings(rng, settings)

    def run() -> None:
        made = HarmonyConfig.from_dict(values)
        HarmonyConfig.from_json(made.to_json())

    return Case(run)


CASES = {"weights": weights, "bundle": bundle, "lora": lora, "index": index, "config": config}
