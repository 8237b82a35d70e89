"""Pictures of the shipped workflows in ComfyUI's template browser: what a run makes, or the graph."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..comfyui.browser import open_page
from ..comfyui.outputs import read_clip
from ..comfyui.server import ComfyServer
from .graph import RESULT
from .shipped import WORKFLOWS, api_workflow, needs_no_download, nodes_of, page_workflow, touch_weights

THUMBNAIL = 512  # pixels, both sides
PAGE, MARGIN = 3 * THUMBNAIL, 20
SETTINGS = {  # else a first visit shows templates over the graph
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.Graph.CanvasInfo": False,
}
FOCUS = "app.extensionManager.command.execute('Workspace.ToggleFocusMode')"
WITHOUT_MENU_BUTTON = "button:has(> .pi-bars) { display: none }"
SHOW_GRAPH = """async ([graph, left, top, scale]) => {
    await app.loadGraphData(graph)
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = [-left, -top]
    app.canvas.draw(true, true)
}"""


def thumbnail(clip: bytes) -> Image.Image:
    """Six frames over the waveform."""
    frames, samples, _, _ = read_clip(clip)
    picture = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (20, 22, 28))
    side = THUMBNAIL // 3
    for index, chosen in enumerate(np.linspace(0, len(frames) - 1, 6).round().astype(int)):
        frame = Image.fromarray(frames[chosen]).resize((side, side), Image.Resampling.BICUBIC)
        picture.paste(frame, (index % 3 * (side + 1), index // 3 * (side + 1)))
    middle, room = THUMBNAIL - side // 2, side // 2 - 10
    draw = ImageDraw.Draw(picture)
    for x, part in enumerate(np.array_split(samples / np.abs(samples).max(), THUMBNAIL)):
        draw.line([(x, middle - room * part.max()), (x, middle - room * part.min())], fill=(88, 160, 255))
    return picture


def write_thumbnails(server: ComfyServer, names: list[str]) -> None:
    """What running a workflow makes; the graphs of those that need weights."""
    for name in filter(needs_no_download, names):
        prompt = api_workflow(name)
        run = server.run(prompt, timeout_s=900)
        if run.error is not None:
            raise RuntimeError(f"{name}: {run.error['node_type']}: {run.error['exception_message']}")
        _save_thumbnail(name, thumbnail(server.saved_file(run, nodes_of(prompt, "SaveVideo")[-1])))
    if large := [name for name in names if not needs_no_download(name)]:
        draw_graphs(server, large)


def draw_graphs(server: ComfyServer, names: list[str]) -> None:
    """Thumbnails of graphs as ComfyUI's page shows them to somebody who has the weights."""
    for name in names:
        touch_weights(server.base / "models", api_workflow(name))  # else the page marks its loaders red
    server.post("/settings", SETTINGS)
    with open_page(server, PAGE, PAGE) as page:
        page.evaluate(FOCUS)
        page.add_style_tag(content=WITHOUT_MENU_BUTTON)
        for name in names:
            graph = page_workflow(name)
            page.evaluate(SHOW_GRAPH, [graph, *_view(graph)])
            page.wait_for_timeout(2000)  # the page places text fields and notes a frame later
            picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
            _save_thumbnail(name, picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def _view(graph: dict[str, Any]) -> tuple[float, float, float]:
    """Left, top and scale at which a graph is in the middle of the page, without its result, which is empty."""
    boxes = [group["bounding"] for group in graph["groups"] if group["title"] != RESULT]
    left, top = (min(box[axis] for box in boxes) for axis in (0, 1))
    width = max(box[0] + box[2] for box in boxes) - left
    height = max(box[1] + box[3] for box in boxes) - top
    scale = PAGE / (max(width, height) + 2 * MARGIN)
    return left - (PAGE / scale - width) / 2, top - (PAGE / scale - height) / 2, scale


def _save_thumbnail(name: str, picture: Image.Image) -> None:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    (WORKFLOWS / f"{name}.jpg").write_bytes(buffer.getvalue())
