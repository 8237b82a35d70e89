"""ComfyUI's own page in Chromium: our templates are listed, one opens whole, runs, and its preview plays."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tools.comfyui.browser import open_page
from tools.comfyui.install import wanted_trees
from tools.comfyui.pack import PACK_NAME
from tools.comfyui.server import ComfyServer
from tools.workflows.blueprints import BLUEPRINTS
from tools.workflows.build import SUBGRAPHS
from tools.workflows.definitions import completed
from tools.workflows.shipped import NAMES, NEEDS_NEWEST, api_workflow, page_workflow

pytestmark = pytest.mark.host

UNKNOWN = (
    "() => app.graph.nodes.map(n => n.type).filter(t => t != 'MarkdownNote' && !LiteGraph.registered_node_types[t])"
)
SET_STEPS = """steps => {
    const node = app.graph.nodes.find(n => n.type == 'BasicScheduler')
    node.widgets.find(w => w.name == 'steps').value = steps
}"""
SENT = "async graph => { await app.loadGraphData(graph); return (await app.graphToPrompt()).output }"
PREVIEWS = ("audioUI", "video-preview")  # some pages send what they show along
PLAY = """async () => {
    const video = document.querySelector('video')
    video.muted = true
    await video.play()
    await new Promise(done => video.addEventListener('timeupdate', () => video.currentTime > 0.3 && done()))
    return {seconds: video.duration, width: video.videoWidth, height: video.videoHeight}
}"""


@pytest.fixture
def page(server: ComfyServer) -> Iterator:
    with open_page(server, 1600, 950) as page:
        yield page


def test_a_template_opens_runs_and_plays(page) -> None:
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_NAME).click()
    cards = page.locator("[data-testid^=template-workflow-]")
    cards.first.wait_for()
    listed = cards.evaluate_all("cards => cards.map(card => card.dataset.testid.slice('template-workflow-'.length))")
    assert sorted(listed) == NAMES

    page.get_by_test_id("template-workflow-text_to_audio_video").click()
    page.wait_for_function("() => app.graph.nodes.some(node => node.type == 'HarmonyDecode')")
    assert page.evaluate(UNKNOWN) == []
    page.evaluate(SET_STEPS, 2)
    page.get_by_test_id("queue-button").click()
    page.wait_for_selector("video", state="attached")
    assert page.evaluate(PLAY) == {"seconds": 2, "width": 64, "height": 64}


def test_the_page_sends_what_the_api_files_say(page, server: ComfyServer) -> None:
    """Each template, in the page of this version, whose nodes may have more inputs than the file."""
    definitions = server.get("/object_info")
    for name in NAMES:
        if name not in NEEDS_NEWEST or server.tree == wanted_trees()[-1]:
            sent = page.evaluate(SENT, page_workflow(name))
            for node in sent.values():
                for preview in PREVIEWS:
                    node["inputs"].pop(preview, None)
            assert completed(sent, definitions) == completed(api_workflow(name), definitions), name


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_its_nodes(page, name: str) -> None:
    """The page takes it for a subgraph with the sockets and widgets that we wrote, and sends what is inside."""
    blueprint = BLUEPRINTS[name]
    sent = page.evaluate(SENT, json.loads((SUBGRAPHS / f"{name}.json").read_text()))
    assert [node["class_type"] for node in sent.values()] == [node.type for node in blueprint.graph.values()]
    outside = page.evaluate("() => app.graph.nodes[0].inputs.map(socket => socket.name)")
    assert outside[: len(blueprint.inputs)] == list(blueprint.inputs)
    widgets = page.evaluate("() => app.graph.nodes[0].widgets.map(widget => [widget.name, widget.value])")
    assert widgets == [[widget, blueprint.graph[node].inputs[widget]] for node, widget in blueprint.widgets]
