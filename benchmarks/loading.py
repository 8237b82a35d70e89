"""Time and peak memory of loading a file of random weights, beside `safetensors.torch.load_file`.

    python benchmarks/loading.py --gigabytes 4 --output benchmarks/loading.csv

Every measurement is a process of its own; the two methods take turns on the same file, which the system's cache
holds. `load_s` is the call alone (both map the file), `read_s` also touches every page. `peak_ratio` is the peak of
the resident memory during both, less what the process held before, over the file's size. Quantiles over the repeats.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from harmony_core.checkpoints.files import load_transformer  # noqa: E402
from harmony_core.config import HarmonyConfig  # noqa: E402
from harmony_core.model import HarmonyTransformer  # noqa: E402
from harmony_core.presets import preset  # noqa: E402

# A Wan2.2-TI2V-5B of a third of its width; the number of layers makes the size.
CONFIG = preset("wan2.2-ti2v-5b").with_(dim=1024, ffn_dim=4096, num_heads=8, num_layers=1)
DTYPES = {"bfloat16": "BF16", "float32": "F32"}
TOUCH = 512  # elements: at least one in every page


def shapes_of(config: HarmonyConfig) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in HarmonyTransformer(config, device="meta").state_dict().items()}


def config_of_size(num_bytes: float, dtype: torch.dtype) -> HarmonyConfig:
    """`CONFIG` with as many layers as make about `num_bytes`."""
    one, two = (
        sum(shape.numel() for shape in shapes_of(CONFIG.with_(num_layers=layers)).values()) * dtype.itemsize
        for layers in (1, 2)
    )
    return CONFIG.with_(num_layers=max(1, round((num_bytes - one) / (two - one)) + 1))


def write_random(path: Path, config: HarmonyConfig, dtype: torch.dtype) -> None:
    """A safetensors file of random weights, written tensor by tensor."""
    shapes, header, offset = shapes_of(config), {}, 0
    for key, shape in shapes.items():
        end = offset + shape.numel() * dtype.itemsize
        header[key] = {
            "dtype": DTYPES[str(dtype).removeprefix("torch.")],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            file.write(torch.rand(shape).to(dtype).view(-1).view(torch.uint8).numpy().tobytes())


def measure(path: Path, method: str, config: HarmonyConfig, dtype: torch.dtype) -> dict[str, float]:
    """One load in this process."""
    methods: dict[str, Callable[[], list[torch.Tensor]]] = {
        "load_transformer": lambda: list(load_transformer(path, dtype, config=config)[1].parameters()),
        "load_file": lambda: list(load_file(path).values()),
    }

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before, start = peak(), time.perf_counter()
    tensors = methods[method]()
    loaded = time.perf_counter()
    sum(float(tensor.reshape(-1)[::TOUCH].float().sum()) for tensor in tensors)
    read = time.perf_counter()
    return {
        "load_s": loaded - start,
        "read_s": read - start,
        "peak_ratio": (peak() - before) / path.stat().st_size,
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "loading.csv")
    parser.add_argument("--one", nargs=4, metavar=("FILE", "METHOD", "CONFIG", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        file, method, config, dtype = options.one
        print(json.dumps(measure(Path(file), method, HarmonyConfig.from_json(config), getattr(torch, dtype))))
        return
    runs = (
        ("load_transformer", "bfloat16", "bfloat16"),
        ("load_file", "bfloat16", "bfloat16"),
        ("load_transformer", "bfloat16", "float32"),
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, stored = Path(folder) / "random.safetensors", torch.bfloat16
        config = config_of_size(options.gigabytes * 1e9, stored)
        write_random(path, config, stored)
        found: dict[tuple, list[dict]] = {run: [] for run in runs}
        for _ in range(options.repeats):
            for run in runs:
                command = [sys.executable, __file__, "--one", path, run[0], config.to_json(), run[2]]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[run].append(json.loads(done.stdout))
        for (method, file_dtype, dtype), measured in found.items():
            row = {"method": method, "file_dtype": file_dtype, "dtype": dtype, "file_bytes": path.stat().st_size}
            for name in ("load_s", "read_s", "peak_ratio"):
                values = sorted(each[name] for each in measured)
                fifths = statistics.quantiles(values, n=5, method="inclusive")
                quantiles = (("p20", fifths[0]), ("p50", statistics.median(values)), ("p80", fifths[3]))
                row |= {f"{name}_{label}": round(value, 4) for label, value in quantiles}
            row |= {
                "repeats": options.repeats,
                "processor": processor(),
                "cores": os.cpu_count(),
                "load_average": round(os.getloadavg()[0], 1),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "safetensors": safetensors.__version__,
            }
            rows.append(row)
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print({key: row[key] for key in ("method", "dtype", "load_s_p50", "read_s_p50", "peak_ratio_p50")})


if __name__ == "__main__":
    main()
