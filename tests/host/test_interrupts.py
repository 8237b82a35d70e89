"""How soon ComfyUI stops when it is asked to in the middle of something long."""

from __future__ import annotations

import time
from threading import Timer

import pytest

from tools.comfyui.server import ComfyServer, Run
from tools.workflows.shipped import Prompt, api_workflow, change, node_of

pytestmark = [pytest.mark.host, pytest.mark.newest_tree]

SOON_S = 2.0  # from the request, also on a busy machine: nothing in these clips computes a quarter as long at a stretch
INTO_S = 0.5  # how far into the node the request comes


def large(side: int, seconds: float, steps: int) -> Prompt:
    """A clip whose steps, and whose decoding, take seconds each on a CPU."""
    prompt = api_workflow("text_to_audio_video")
    change(prompt, "HarmonyClip", width=side, height=side, seconds=seconds)
    change(prompt, "BasicScheduler", steps=steps)
    change(prompt, "RandomNoise", noise_seed=side)
    return prompt


def seconds_to_stop(server: ComfyServer, prompt: Prompt, node: str) -> tuple[Run, float]:
    """What ran, and the seconds from a request that comes while `node` works to the end of the prompt."""
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.time())
        server.post("/interrupt", {})

    def watch(run: Run) -> None:
        event = run.events[-1]
        if event["type"] == "executing" and event["data"]["node"] == node:
            Timer(INTO_S, ask).start()

    run = server.run(prompt, watch=watch)
    (end,) = (event["data"]["timestamp"] for event in run.events if event["type"] == "execution_interrupted")
    return run, end / 1000 - asked[0]


def test_a_long_step_is_left_in_the_middle(server: ComfyServer) -> None:
    prompt = large(160, 4, 1)
    sampler = node_of(prompt, "SamplerCustomAdvanced")
    run, waited_s = seconds_to_stop(server, prompt, sampler)
    assert run.error is None
    assert not any(value for value, _ in run.progress(sampler)), "the step ended first"
    assert waited_s < SOON_S


@pytest.mark.parametrize(("side", "seconds"), [(512, 8), (48, 60)], ids=["pictures", "sound"])
def test_a_long_decoding_is_left_in_the_middle(server: ComfyServer, side: int, seconds: float) -> None:
    prompt = large(side, seconds, 1)
    decode = node_of(prompt, "HarmonyDecode")
    prompt[decode]["inputs"]["latent"] = [node_of(prompt, "HarmonyClip"), 0]  # nothing needs to be sampled for it
    run, waited_s = seconds_to_stop(server, prompt, decode)
    assert run.error is None
    assert waited_s < SOON_S
