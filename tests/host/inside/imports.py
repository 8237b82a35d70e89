"""Importing the pack is light: no network, no weights, no process, no package that ComfyUI does not bring.

    python imports.py COMFYUI_TREE

Prints one JSON object: `torch` and the seconds that it took, `wall` and `cpu` (other work changes the latter less).
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

import torch

from tools.comfyui.install import REPOSITORY
from tools.comfyui.pack import load_pack

TREE = sys.argv[1]  # ComfyUI's own options take its place
BROUGHT = {"torch", "numpy", "PIL", "av", "safetensors"}  # by ComfyUI's own requirements
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system")
WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".ckpt")
done: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    if event in FORBIDDEN or (event == "open" and str(arguments[0]).endswith(WEIGHTS)):
        done.append(f"{event} {arguments[0]}")


def num_parameters() -> int:
    return sum(type(each) is torch.nn.Parameter for each in gc.get_objects())


def main() -> None:
    pack = load_pack(TREE, REPOSITORY)  # the nodes come with its entry point
    import comfy_extras.nodes_custom_sampler
    import comfy_extras.nodes_lt
    import comfy_extras.nodes_video  # noqa: F401  all that main.py has imported before custom nodes
    import server  # noqa: F401

    before, parameters = set(sys.modules), num_parameters()
    sys.addaudithook(watch)
    wall, cpu = time.perf_counter(), time.process_time()
    extension = asyncio.run(pack.comfy_entrypoint())
    asyncio.run(extension.on_load())
    nodes = asyncio.run(extension.get_node_list())
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    assert len(nodes) >= 10, nodes
    assert not done, done
    assert num_parameters() == parameters
    packages = {name.split(".")[0] for name in set(sys.modules) - before}
    comfyui = {path.stem for path in Path(TREE).iterdir()}
    extra = packages - BROUGHT - comfyui - sys.stdlib_module_names - {"harmony_pack"}
    assert not extra, extra
    print(json.dumps(seconds | {"torch": torch.__version__}))


if __name__ == "__main__":
    main()
