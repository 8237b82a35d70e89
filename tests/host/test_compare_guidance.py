"""Guidances compared on a running ComfyUI: one command makes the clips, scores and report, and goes on."""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import pytest

from harmony_core.benchmarks.quality import read_rows
from harmony_core.benchmarks.scorers.syncnet import SyncNetScorer
from tools import compare_guidance
from tools.comfyui.guided_clips import FEWEST_STEPS, check_finished, place_of
from tools.comfyui.outputs import read_clip
from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import Prompt, api_workflow, change, node_of

from .checks import check_clip
from .toy_weights import toy_files, toy_workflow

pytestmark = pytest.mark.host

BUDGET, TINY = 6, "text_to_audio_video"
OWN_PASSES = {TINY: 4, "ltx2_sync_cfg": 4, "ovi_text_to_audio_video": 2}  # a step as shipped; Ovi's has no SyncCFG
STEPS = {"none": 6, "text 2 + isolated 1.5": 2, "sync 1.5": 2}
LINES = (
    {"output": "ball.mp4", "prompt": "a red ball bounces on wood", "audio_prompt": "a ball hits wood"},
    {"output": "face.mp4", "prompt": "a woman speaks", "audio_prompt": "a woman says a word", "transcript": "go"},
)


def watched(prompt: Prompt, name: str) -> Prompt:
    """With a probe that counts the passes of the guider's model."""
    guider = prompt[node_of(prompt, "HarmonySyncCFG")]["inputs"]
    prompt["watched"] = {"class_type": "HarmonyProbePasses", "inputs": {"model": guider["model"], "name": name}}
    guider["model"] = ["watched", 0]
    return prompt


def command(
    monkeypatch: pytest.MonkeyPatch, server: ComfyServer, folder: Path, prompt: Prompt, lines: tuple, *more: str
) -> Path:
    """The clips' folder, after `compare_guidance comfyui`."""
    graph, prompts, output = folder / "graph.json", folder / "prompts.jsonl", folder / "clips"
    graph.write_text(json.dumps(prompt))
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["comfyui", str(graph), "--server", server.url, "--prompts", str(prompts), "-o", str(output)]
    given += ["--budget", str(BUDGET), *(word for way in STEPS for word in ("--way", way)), *more]
    monkeypatch.setattr(sys, "argv", ["compare_guidance", *given])
    compare_guidance.main()
    return output


def passes(server: ComfyServer, name: str) -> int:
    calls = json.loads((server.base / "output" / f"{name}.json").read_text())
    return sum(len(rows) for rows in calls)


def checked(server: ComfyServer, folder: Path, name: str, lines: int) -> None:
    """Rows and passes are those of every way and line, and the model was asked as often as they say."""
    rows = read_rows([folder / "made.csv"])
    assert len(rows) == lines * len(STEPS)
    assert {row["way"]: int(row["steps"]) for row in rows} == STEPS
    assert {int(row["passes"]) for row in rows} == {BUDGET}
    assert all(float(row["server_s"]) > 0 for row in rows)
    first = FEWEST_STEPS * (OWN_PASSES[name] + lines)  # the graph as it stands, and each line once without guidance
    assert passes(server, name) == first + lines * len(STEPS) * BUDGET


def test_embedded_model(
    server: ComfyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips, rows, passes and report; the same command again does nothing; a line that fails costs no other."""
    prompt = watched(api_workflow(TINY), TINY)
    change(prompt, "HarmonyClip", seconds=0.96)
    folder = command(monkeypatch, server, tmp_path, prompt, LINES)
    checked(server, folder, TINY, len(LINES))
    for way in STEPS:
        place = place_of(folder, way, BUDGET)
        for line in LINES:
            check_clip((place / line["output"]).read_bytes(), num_frames=12, size=(64, 64), fps=12.5)
        assert place.with_name(f"{place.name}.html").exists()
    table = read_rows([folder / "guidance.csv"])
    assert {row["way"] for row in table if row["metric"] == "av_align"} == STEPS.keys()
    assert (folder / "guidance_av_align.svg").exists()
    said = capsys.readouterr().out
    assert f"{SyncNetScorer.title} does not run" in said
    assert "| text 2 + isolated 1.5 | 2 | 6 |" in said  # steps, passes

    before, clips = passes(server, TINY), {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    command(monkeypatch, server, tmp_path, prompt, LINES)
    assert "1 of " not in capsys.readouterr().out
    assert passes(server, TINY) == before
    bad = {"output": "bad.mp4", "prompt": "a ball", "seed": -1}
    command(monkeypatch, server, tmp_path, prompt, (*LINES, bad))
    said = capsys.readouterr().out
    assert "3 clips failed" in said
    assert "/prompt answered 400: node 6 (RandomNoise): Value -1 smaller than min" in said
    assert "* bad.mp4, none, 6 passes" in said
    assert all(path.stat().st_mtime_ns == at for path, at in clips.items()), "clips were made again"
    assert read_rows([folder / "guidance.csv"]) == table


@pytest.mark.parametrize("name", [name for name in OWN_PASSES if name != TINY])
def test_large_models(server: ComfyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with toy_files(server):
        prompt = watched(toy_workflow(name), name)
        folder = command(monkeypatch, server, tmp_path, prompt, LINES[:1])
    checked(server, folder, name, 1)
    frames = [read_clip(place_of(folder, way, BUDGET) / "ball.mp4")[0] for way in STEPS]
    assert all((one != other).any() for one, other in combinations(frames, 2))


def test_a_graph_that_does_not_run(server: ComfyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = api_workflow(TINY)
    change(prompt, "HarmonyCheckpointLoader", checkpoint="gone.safetensors")
    with pytest.raises(SystemExit, match=r"does not run as it stands.*node 1 \(HarmonyCheckpointLoader\).*gone"):
        command(monkeypatch, server, tmp_path, prompt, LINES)


def test_prompts_that_somebody_stops(server: ComfyServer) -> None:
    """An end is told of one that is taken out of the queue, and of one that is interrupted."""
    prompt = api_workflow(TINY)
    change(prompt, "BasicScheduler", steps=2000)
    running, waiting = (server.post("/prompt", {"prompt": prompt})["prompt_id"] for _ in range(2))
    server.post("/queue", {"delete": [waiting]})
    with pytest.raises(ValueError, match=f"{waiting} was taken out of the queue"):
        server.wait(waiting)
    with pytest.raises(TimeoutError, match=f"{running} did not end within 0.1 s"):
        server.wait(running, timeout_s=0.1)
    server.post("/interrupt", {})
    with pytest.raises(ValueError, match="it was interrupted"):
        check_finished(server.wait(running, timeout_s=60))
