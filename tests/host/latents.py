"""What a workflow samples, undecoded."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load

from tools.comfyui.server import ComfyServer
from tools.workflows.shipped import Prompt, change, node_of, nodes_of


def sample(server: ComfyServer, prompt: Prompt, name: str, steps: int = 6) -> dict[str, torch.Tensor]:
    """Sampled latents `video` and `audio` of a one-sampler workflow; nothing is decoded or saved."""
    sampler = node_of(prompt, "SamplerCustomAdvanced")
    for class_type in ("HarmonyDecode", "SaveVideo"):
        for key in nodes_of(prompt, class_type):
            del prompt[key]
    change(prompt, "BasicScheduler", steps=steps)
    prompt["probe"] = {"class_type": "HarmonyProbeLatent", "inputs": {"latent": [sampler, 0], "name": name}}
    run = server.run(prompt)
    assert run.error is None, run.error
    assert run.progress(sampler)[-1:] == [(steps, steps)], "sampling was answered from ComfyUI's cache"
    return load(Path(server.base / "output" / f"{name}.safetensors").read_bytes())
