"""What a training run shows and keeps in its folder: settings, state, log."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..outputs import whole_file
from .config import TrainingConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

MOST_SKIPPED = 10  # steps in a row

logger = logging.getLogger(__name__)


def same_settings(config: TrainingConfig, processes: int, path: Path) -> None:
    """Keep the settings of a new run; those of a continued one must be the same, as must be the number of its
    processes, since what each of them draws depends on it.

    Raises:
        ValueError: names the first that differs.
    """
    settings = json.loads(json.dumps(config.same_run() | {"processes": processes}))
    if not path.exists():
        with whole_file(path) as part:
            part.write_text(json.dumps(settings, indent=1))
        return
    before, now = _flat(json.loads(path.read_text())), _flat(settings)
    for name in before | now:
        if before.get(name) != now.get(name):
            raise ValueError(
                f"The run in {path.parent} was started with {name} {json.dumps(before.get(name))}, not "
                f"{json.dumps(now.get(name))}; continue it with that, or start another in a new folder."
            )


def check_accelerator(accelerator: Accelerator) -> None:
    """Raises ValueError for what accelerate was set to do and this trainer does not."""
    steps = accelerator.gradient_accumulation_steps
    if steps != 1:
        raise ValueError(
            f"accelerate is set to accumulate gradients over {steps} steps, but every batch is a step here; set "
            "gradient_accumulation_steps to 1 and batch_size to what a step should see."
        )


def _flat(settings: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Nested settings by the names that overrides give them: section.key."""
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return flat


def save_state(accelerator: Accelerator, output: Path, step: int) -> None:
    """A folder of this step's state, which takes the place of the one before only when it is whole."""
    part = output / "state.part"
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        older = list(output.glob("state-*"))
        part.rename(output / f"state-{step:08}")
        for folder in older:
            shutil.rmtree(folder)
    accelerator.wait_for_everyone()


class RunState:
    """Steps done and skipped, and seconds spent, kept with the optimiser's state."""

    def __init__(self) -> None:
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self.skipped_in_a_row = 0

    def count_skipped(self, finite: bool) -> bool:
        """Whether the step that is being done may change the weights: its gradients are finite.

        Raises:
            ValueError: too many in a row were not; the last state that was saved is from before.
        """
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


class Log:
    """Mean losses of the main process per task and modality, one JSON line every so many steps."""

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, list[float]] = {}

    def add(self, step: int, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self._sums.setdefault(name, []).append(value)
        if step % self._every == 0:
            means = {name: round(sum(values) / len(values), 5) for name, values in self._sums.items()}
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **means}) + "\n")
            self._sums = {}


class ProgressBar:
    """One tqdm bar for the stage that is running."""

    def __init__(self, hidden: bool) -> None:
        self._bar, self._hidden = None, hidden

    def __call__(self, stage: str, done: int, total: int, loss: float | None = None) -> None:
        from tqdm import tqdm

        if self._hidden:
            return
        if self._bar is None or self._bar.desc != stage:
            self.close()
            self._bar = tqdm(total=total, desc=stage, mininterval=2.0)
        self._bar.update(done - self._bar.n)
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
