"""Write workflows/, subgraphs/ and locales/en: the graphs laid out for ComfyUI's page, and the nodes' texts.

    python -m tools.workflows.build [--seed] [--thumbnails NAME ...]

Node inputs, their order and their defaults come from real servers, so that this command is all it takes after one of
them changed. A node is written as the oldest version that we test on has it, which newer ones read too.
--seed first chooses the seed of the built-in model's workflows anew, the best of eight as `harmony sync` measures them.
--thumbnails also draws the pictures of workflows (all, if none is named) in the template browser: those that need no
downloaded weights are run, for six frames and the waveform; of the others Chromium shows the graph.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from ..comfyui.install import REPOSITORY, ensure_tree, wanted_trees
from ..comfyui.server import serve
from .blueprints import BLUEPRINTS, page_blueprint
from .definitions import Definitions, api_prompt, sockets
from .graphs import GRAPHS
from .layout import page_graph
from .seeds import choose_seed
from .shipped import WORKFLOWS
from .thumbnails import write_thumbnails
from .tiny import BALL

SUBGRAPHS = REPOSITORY / "subgraphs"


def write(definitions: Definitions) -> None:
    """Every workflow in both formats, and the blueprints."""
    for name, make in GRAPHS.items():
        graph = make()
        prompt = api_prompt(graph, definitions)
        _save(WORKFLOWS / f"{name}.json", page_graph(name, graph, prompt, definitions))
        _save(WORKFLOWS / "api" / f"{name}.json", prompt)
    for name, blueprint in BLUEPRINTS.items():
        _save(SUBGRAPHS / f"{name}.json", page_blueprint(name, blueprint, definitions))


def write_english(definitions: Definitions) -> None:
    """locales/en: what the nodes say of themselves, in the shape that translations have."""
    _save(REPOSITORY / "locales" / "en" / "nodeDefs.json", node_texts(definitions))


def node_texts(definitions: Definitions) -> dict[str, Any]:
    """Every text of this pack's nodes, by node, input and output."""
    texts = {}
    for name, info in sorted(definitions.items()):
        if info["category"] != "Harmony":
            continue
        inputs = {each.name: _text(each.name, each.options.get("tooltip")) for each in sockets(info["input"], {})}
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        texts[name] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": inputs,
            "outputs": {str(index): _text(*output) for index, output in enumerate(outputs)},
        }
    return texts


def _text(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def shipped_definitions(oldest: Definitions, newest: Definitions) -> Definitions:
    """Each node as the oldest version that has it describes it: later versions read what is made for it."""
    return newest | oldest


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the shipped workflows.")
    parser.add_argument("--thumbnails", nargs="*", metavar="NAME", help="also draw the pictures of these (or all)")
    parser.add_argument("--seed", action="store_true", help="also choose the seed anew")
    arguments = parser.parse_args()
    if arguments.seed:
        choose_seed(BALL["video_caption"], BALL["audio_caption"])
    oldest, newest = (ensure_tree(tree) for tree in (wanted_trees()[0], wanted_trees()[-1]))
    with tempfile.TemporaryDirectory(prefix="harmony-workflows-") as folder:
        with serve(oldest, Path(folder) / "oldest") as server:
            old_definitions = server.get("/object_info")
        with serve(newest, Path(folder) / "newest") as server:
            definitions = shipped_definitions(old_definitions, server.get("/object_info"))
            write(definitions)
            write_english(definitions)
            if arguments.thumbnails is not None:
                write_thumbnails(server, arguments.thumbnails or list(GRAPHS))


if __name__ == "__main__":
    main()
