"""What a training run shows and keeps in its folder: settings, state, log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..outputs import whole_file
from ..quoting import quoted
from .config import TrainingConfig
from .state import saved_states

if TYPE_CHECKING:
    from accelerate import Accelerator


SETTINGS = "config.json"


def begin_run(config: TrainingConfig, processes: int, output: Path, resume: bool) -> None:
    """Make the folder of a new run, or see that what it holds can be continued. Settings alone are of a start that
    failed, and give way to those of the next.

    Raises:
        ValueError: a folder in use, settings of another run, or fewer steps than it has done.
    """
    begun = output.exists() and any(path.name != SETTINGS for path in output.iterdir())
    if begun and not resume:
        raise ValueError(f"{output} is not empty; pass --resume to continue it, or choose another folder.")
    output.mkdir(parents=True, exist_ok=True)
    if not begun:
        (output / SETTINGS).unlink(missing_ok=True)
    same_settings(config, processes, output / SETTINGS)
    done = max(saved_states(output), default=0)
    if config.steps < done:
        raise ValueError(f"steps is {config.steps}, but the run in {output} has done {done}; give {done} or more.")


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
    before, now = flat(json.loads(path.read_text())), flat(settings)
    for name in before | now:
        if before.get(name) != now.get(name):
            raise ValueError(
                f"The run in {path.parent} was started with {name} {json.dumps(before.get(name))}, not "
                f"{json.dumps(now.get(name))}; continue it with that, or start another in a new folder."
            )


def check_accelerator(config: TrainingConfig, accelerator: Accelerator) -> None:
    """Raises ValueError where accelerate was set to something else than the config, which says it all."""
    steps = accelerator.gradient_accumulation_steps
    if steps != config.accumulation:
        raise ValueError(
            f"accelerate is set to accumulate gradients over {steps} steps, but the config has accumulation "
            f"{config.accumulation}; set both to the same. A batch is batch_size clips, in as many parts."
        )
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted not in ("no", accelerator.mixed_precision):
        raise ValueError(
            f"accelerate is set to mixed precision {wanted}, but the config has precision {config.precision}; set both "
            "to the same."
        )


def check_trackers(names: Iterable[str]) -> None:
    """Raises ValueError for one that accelerate does not know or that is not installed, which it would pass over."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = {each.value for each in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(f"trackers has {quoted(name)}, but must be of {', '.join(LOGGER_TYPE_TO_CLASS)}.")
        if name not in available:
            raise ValueError(
                f"trackers has {name}, which is not installed; pip install {name}, or the extra trackers, or leave it "
                "out."
            )


def flat(settings: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Nested settings by the names that overrides give them: section.key."""
    named = {}
    for name, value in settings.items():
        named |= flat(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return named


class Log:
    """Means of what steps report, and how fast they are: one JSON line every so many steps."""

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self._sums: dict[str, list[float]] = {}
        self._since, self._steps, self._waited = time.monotonic(), 0, 0.0

    def add(self, step: int, values: dict[str, float], config: TrainingConfig, waited: float) -> dict[str, float]:
        """What one step reports, and how long it waited for its clips. Returns what is written after it, if anything
        is."""
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value)
        self._steps += 1
        self._waited += waited
        if step % self._every:
            return {}
        line = {name: sum(each) / len(each) for name, each in self._sums.items()}
        seconds = (time.monotonic() - self._since) / self._steps
        line |= {"clips_per_s": config.batch_size / seconds, "seconds_left": seconds * (config.steps - step)}
        line["waiting_share"] = self._waited / (seconds * self._steps)
        self.write(step, line)
        self._sums, self._since, self._steps, self._waited = {}, time.monotonic(), 0, 0.0
        return line

    def write(self, step: int, values: dict[str, float]) -> None:
        rounded = {name: float(f"{value:.7g}") for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **rounded}) + "\n")


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
