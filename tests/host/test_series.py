"""Run after run: memory stays where it is, and a long queue of mixed tasks ends well."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import RUNNABLE, Prompt, api_workflow, change, nodes_of

from .checks import check_clip

pytestmark = [pytest.mark.host, pytest.mark.newest_tree]

NUM_QUEUED = 30


def short(name: str, seed: int, steps: int) -> Prompt:
    """A workflow with a few steps and a seed of its own, so that ComfyUI's cache does not answer it."""
    prompt = api_workflow(name)
    change(prompt, "BasicScheduler", steps=steps)
    change(prompt, "RandomNoise", noise_seed=seed)
    change(prompt, "HarmonySampler", seed=seed, steps=steps)
    return prompt


def peak_memory(server: ComfyServer, prompt: Prompt) -> tuple[Run, int]:
    """Run a prompt; the most kilobytes that the server's process held meanwhile."""
    process = Path(f"/proc/{server.process.pid}")
    (process / "clear_refs").write_text("5")  # forget the peak so far
    run = server.run(prompt)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return run, int(status["VmHWM"].split()[0])


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_third_run_takes_no_more_memory_than_the_second(server: ComfyServer, name: str) -> None:
    peaks = []
    for seed in range(3):
        prompt = short(name, 100 + seed, steps=2)
        run, peak = peak_memory(server, prompt)
        assert run.error is None, run.error
        for key in nodes_of(prompt, "SaveVideo"):
            check_clip(server.saved_file(run, key), num_frames=25, size=(64, 64), fps=12.5)
        peaks.append(peak)
    assert peaks[2] <= 1.05 * peaks[1], f"peak kilobytes of three runs: {peaks}"


def test_a_long_queue_of_mixed_tasks_ends(server: ComfyServer) -> None:
    names = [RUNNABLE[index % len(RUNNABLE)] for index in range(NUM_QUEUED)]
    queued = [
        server.post("/prompt", {"prompt": short(name, 1000 + index, steps=1)})["prompt_id"]
        for index, name in enumerate(names)
    ]
    deadline = time.monotonic() + 600
    while (queue := server.get("/queue"))["queue_running"] or queue["queue_pending"]:
        assert time.monotonic() < deadline, f"{len(queue['queue_pending'])} of {NUM_QUEUED} prompts still wait"
        server.check_alive()
        time.sleep(0.5)
    for name, prompt_id in zip(names, queued, strict=True):
        status = server.get(f"/history/{prompt_id}")[prompt_id]["status"]
        assert status["status_str"] == "success", (name, status)
