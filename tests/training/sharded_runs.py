"""One of several processes that share weights out: `torchrun --nproc_per_node 2 -m tests.training.sharded_runs FOLDER`.

Continues or starts FOLDER/NAME from every FOLDER/NAME.yaml, one after the other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState
from torch.distributed.fsdp import FSDPModule

from harmony_core.training import trainer
from harmony_core.training.sharding import ASKED, VERSION, DTensor
from harmony_core.training.start import TrainedModel


def shares_out(model: TrainedModel, device: object, shard: object = trainer.shard) -> None:
    shard(model, device)
    assert all(isinstance(each, DTensor) for each in model.parameters())
    units = [module for module in model.transformer.modules() if isinstance(module, FSDPModule)]
    assert len(units) == 3 * model.transformer.config.num_layers + 1  # a block of each branch, an interaction, the rest


if __name__ == "__main__":
    trainer.shard = shares_out
    PartialState.destroy_process_group = lambda *_: None  # the next run goes on with it
    for config in sorted(Path(sys.argv[1]).glob("*.yaml")):
        AcceleratorState._reset_state()
        os.environ |= {ASKED: "true", VERSION: "2"}
        trainer.run(config, config.with_suffix(""), resume=True)
