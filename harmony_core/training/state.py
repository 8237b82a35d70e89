"""What a run is continued from: a folder a state, in which every process writes its part.

`tensors` in it is a distributed checkpoint of torch's: the weights that are trained, their average, and the
optimiser's moments, each under its parameter's name; weights that stay as they were are where the run started from.
The rest (steps done, learning rates, random generators) is accelerate's.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from .average import WeightAverage

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .start import TrainedModel

STATE = re.compile("state-([0-9]{8,})")
TENSORS = "tensors"  # in a state's folder
WEIGHTS, AVERAGE, OPTIMIZER = "weights.", "average.", "optimizer."

MOST_SKIPPED = 10  # steps in a row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """All that a step changes: the parameters that are trained, their average, and optimisers' moments."""

    model: TrainedModel
    average: WeightAverage
    optimizers: Sequence[torch.optim.Optimizer]

    def tensors(self) -> dict[str, Any]:
        """By name; of an optimiser also numbers that are no tensors."""
        named = dict(self.model.trained())
        kept: dict[str, Any] = {WEIGHTS + name: each.detach() for name, each in named.items()}
        kept |= {AVERAGE + name: each for name, each in self.average.tensors.items()}
        names: dict[Tensor, str] = {each: name for name, each in named.items()}
        for optimizer in self.optimizers:
            for parameter, moments in optimizer.state.items():
                kept |= {f"{OPTIMIZER}{names[parameter]}.{key}": value for key, value in moments.items()}
        return kept

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Take what `tensors` gave when the state was saved."""
        named = dict(self.model.trained())
        states = {
            each: kept.state for kept in self.optimizers for group in kept.param_groups for each in group["params"]
        }
        reader = FileSystemReader(folder)
        stored, places = reader.read_metadata().state_dict_metadata, {}
        for key, found in stored.items():
            kind, _, rest = key.partition(".")
            name = rest if rest in named else rest.rpartition(".")[0]
            places[key] = named[name].detach() if f"{kind}." == WEIGHTS else _room_for(found, named[name])
        _load(places, reader)
        self.average.tensors = {name: places[AVERAGE + name] for name in named if AVERAGE + name in places}
        for key, value in places.items():
            if key.startswith(OPTIMIZER):
                name, _, moment = key.removeprefix(OPTIMIZER).rpartition(".")
                states[named[name]][named[name]][moment] = value


def _room_for(found: Any, parameter: Tensor) -> Any:
    """What a stored value is read into: shared out as its parameter is, if it has its shape."""
    if not isinstance(found, TensorStorageMetadata):
        return None
    dtype = found.properties.dtype
    if found.size == parameter.shape:
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
    return torch.zeros(found.size, dtype=dtype, device=parameter.device)


def _load(places: dict[str, Any], reader: FileSystemReader) -> None:
    with _quietly_alone():
        load(places, storage_reader=reader)


@contextmanager
def _quietly_alone() -> Iterator[None]:
    """Without the warning that there is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def read_average(state: Path) -> dict[str, Tensor]:
    """The averaged weights of a state, by the names of `TrainedModel`, whole, on the CPU."""
    reader = FileSystemReader(state / TENSORS)
    stored = reader.read_metadata().state_dict_metadata
    places = {
        key: torch.empty(found.size, dtype=found.properties.dtype)
        for key, found in stored.items()
        if key.startswith(AVERAGE) and isinstance(found, TensorStorageMetadata)
    }
    _load(places, reader)
    return {key.removeprefix(AVERAGE): value for key, value in places.items()}


def saved_states(output: Path) -> dict[int, Path]:
    """The states in a run's folder by their steps, the earliest first; what was put there by another name is none."""
    named = {path: STATE.fullmatch(path.name) for path in output.glob("state-*")}
    return dict(sorted((int(match[1]), path) for path, match in named.items() if match))


def save_state(accelerator: Accelerator, trained: Trained, output: Path, step: int, keep: int = 1) -> None:
    """A folder of this step's state. Older ones go, all but `keep` - 1, when it is whole."""
    part = output / "state.part"
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    with _quietly_alone():
        save(trained.tensors(), storage_writer=FileSystemWriter(part / TENSORS))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        part.rename(output / f"state-{step:08}")
        for folder in list(saved_states(output).values())[:-keep]:
            shutil.rmtree(folder)
    accelerator.wait_for_everyone()


def load_state(accelerator: Accelerator, trained: Trained, folder: Path) -> None:
    """Go on from what `save_state` left."""
    accelerator.load_state(str(folder))
    trained.load(folder / TENSORS)


def keep_tensors_apart(accelerator: Accelerator) -> None:
    """Accelerate keeps no weights of the model that it prepared: `Trained` does."""
    accelerator.register_save_state_pre_hook(lambda _models, weights, _folder: weights.clear())
    accelerator.register_load_state_pre_hook(lambda models, _folder: models.clear())


class RunState:
    """Steps done and skipped, and seconds spent, kept with the optimiser's state."""

    def __init__(self) -> None:
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self.skipped_in_a_row = 0

    def count_skipped(self, norms: dict[str, float]) -> bool:
        """Whether the step that is being done may change the weights: its gradients are finite.

        Args:
            norms: of the gradients of each branch.

        Raises:
            ValueError: there are none at all, or too many in a row were not finite; the last state that was saved is
                from before.
        """
        if self.step == 0 and not any(norms.values()):
            raise ValueError(
                "Nothing that is trained has a gradient: the objective does not reach it. Compare train, or "
                "lora.targets, with objective.kind, and see whether the clips have sound and pictures."
            )
        finite = all(math.isfinite(norm) for norm in norms.values())
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if finite:
            return True
        self.skipped += 1
        logger.warning("step %d: the gradients are not finite, so the weights stay as they are", self.step + 1)
        if self.skipped_in_a_row > MOST_SKIPPED:
            raise ValueError(
                f"Gradients have not been finite for {self.skipped_in_a_row} steps, up to step {self.step + 1}; lower "
                "the learning rates, or look for clips with broken latents. The weights of the last saved state are "
                "finite."
            )
        return False

    def state_dict(self) -> dict[str, float]:
        return dict(vars(self))

    def load_state_dict(self, values: dict[str, float]) -> None:
        vars(self).update(values)
