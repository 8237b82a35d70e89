"""One of two processes: gradients of a model whose blocks and interactions FSDP2 wraps, beside the plain model's.

python sharded_blocks.py RANK STORE_FILE
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from harmony_core.config import HarmonyConfig
from harmony_core.model import HarmonyTransformer
from harmony_core.model.inputs import VideoInput
from tests.model.test_transformer import GLOBAL, call, inputs, random_model, small_config

CASES = {
    "framewise": {},
    "global": GLOBAL,
    "wan": {"interaction": "none", "audio": False, "speech": None, "style_alignment": False},
}


def shard(model: HarmonyTransformer) -> None:
    for branch in model.branches:
        for block in branch.blocks:
            fully_shard(block)
    for interaction in getattr(model, "interactions", ()):
        fully_shard(interaction)
    fully_shard(model)


def recompute(model: HarmonyTransformer) -> None:
    """Activation checkpointing: blocks keep their inputs and run again in the backward pass."""
    for branch in model.branches:
        for block in branch.blocks:
            block.forward = lambda *args, forward=block.forward, **kwargs: checkpoint(
                forward, *args, use_reentrant=False, **kwargs
            )


def run(model: HarmonyTransformer, config: HarmonyConfig) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Velocities, and the gradient of every parameter."""
    values = inputs(config, batch=2, num_reference=2 if config.interaction == "framewise" else 0)
    if config.audio:
        rows = {"roles": ("joint", "audio_given")} if config.interaction == "framewise" else {}
        out = list(call(model, **values, **rows))
    else:
        out = [model(VideoInput(values["video"], values["sigma_video"], values["video_context"]))[0]]
    sum(each.square().sum() for each in out).backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return out, {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in grads.items()}


def compare(name: str, checkpointed: bool) -> None:
    config = small_config(**CASES[name])
    plain, wrapped = random_model(config), random_model(config)
    shard(wrapped)
    if checkpointed:
        recompute(wrapped)
    assert all(isinstance(parameter, DTensor) for parameter in wrapped.parameters())
    (expected, gradients), (found, found_gradients) = run(plain, config), run(wrapped, config)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert list(found_gradients) == list(gradients) == [each for each, _ in plain.named_parameters()]
    for key, gradient in gradients.items():  # both processes see the same rows, so that the mean is each one's own
        torch.testing.assert_close(found_gradients[key], gradient, atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[1]), world_size=2)
    torch.set_num_threads(1)
    for name in CASES:
        for checkpointed in (False, True):
            compare(name, checkpointed)
    dist.barrier()
    dist.destroy_process_group()
    print("ok")
