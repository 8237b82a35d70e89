"""`harmony train`: a transformer by Cross-Task Synergy (paper 3.2.2), through accelerate.

A run has a folder. What a step reads and draws follows from the seed and its number, so that a run that was stopped
goes on as if it had not been, and any number of processes see what one would see. Processes that `torchrun` or
`accelerate launch` starts share out the clips, each batch and Muon's matrices, and under FSDP2 the weights as well.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..checkpoints import save_bundle
from ..checkpoints.bundle import save_transformer
from ..text.tiny_encoder import TinyTextEncoder
from .adapters import save_lora
from .average import WeightAverage
from .config import BFLOAT16, TrainingConfig
from .data.loader import Batches
from .data.shards import Shards
from .gradients import clip_and_measure, drop_zero_gradients
from .optim import check_optimizer, make_optimizers, rate
from .procedural import procedural_models
from .run_folder import Log, ProgressBar, begin_run, check_accelerator, check_trackers, flat
from .samples import Samples
from .sections import AUDIO_ALONE
from .sharding import check_passes, check_sharing, gather, shard, take_sharding
from .start import Models, choose_trained, start_models
from .state import RunState, Trained, keep_tensors_apart, load_state, save_state, saved_states
from .step import step_losses
from .tasks import check_batch

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def run(config_path: Path, output: Path, resume: bool, overrides: Iterable[str] = ()) -> Path:
    """Train as `config_path` says. Returns the file with what was trained: a LoRA, or a checkpoint.

    Args:
        resume: continue what `output` holds; otherwise it must not exist, be empty, or be of a start that failed.

    Raises:
        ValueError: a wrong setting, clips of other models, or an output folder in use, or with more steps done than
            are asked for; CheckpointError for weights to start from that do not fit.
    """
    from accelerate import Accelerator

    config = TrainingConfig.from_yaml(config_path, list(overrides))
    check_trackers(config.trackers)
    sharded = take_sharding()
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if config.precision == BFLOAT16 else "no",
        gradient_accumulation_steps=config.accumulation,
        log_with=list(config.trackers) or None,
        project_dir=output,
    )
    check_accelerator(config, accelerator)
    if sharded:
        check_sharing(config, accelerator.num_processes)
    check_batch(config, accelerator.num_processes)
    check_optimizer(config)
    if accelerator.is_main_process:
        begin_run(config, accelerator.num_processes, output, resume)
    accelerator.wait_for_everyone()
    torch.set_num_threads(config.threads)
    with closing(ProgressBar(hidden=not accelerator.is_main_process)) as progress:
        if config.data.shards:
            shards, models = Shards(Path(config.data.shards)), start_models(config)
        else:
            models, shards = procedural_models(config, output, accelerator, progress)
        models.check(shards, config.objective)
        if sharded:
            check_passes(models.config, config.objective)
        return Trainer(config, output, models, shards, accelerator, progress, sharded).run()


class Trainer:
    """The training loop of one run."""

    def __init__(
        self,
        config: TrainingConfig,
        output: Path,
        models: Models,
        shards: Shards,
        accelerator: Accelerator,
        progress: ProgressBar,
        sharded: bool,
    ) -> None:
        from accelerate import DistributedDataParallelKwargs

        self.config, self.output, self.models = config, output, models
        self.accelerator, self.progress = accelerator, progress
        self.batches, self.validation = make_batches(config, shards, accelerator)
        self.model = choose_trained(models, config, ids=shards.settings.text == "ids")
        if sharded:
            shard(self.model, accelerator.device)
        else:
            self.model.to(accelerator.device)
        trained = list(self.model.trained())
        self.average = WeightAverage(trained, config.optimizer.ema)
        self.optimizers = make_optimizers(trained, config.optimizer)
        self.trained = Trained(self.model, self.average, self.optimizers)
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(each, lambda step: rate(step, config.steps, config.optimizer))
            for each in self.optimizers
        ]
        # A step whose clips lack a modality, of sound alone, or of voices does not reach every weight.
        lacking = any(not (entry.has_video and entry.has_sound) for entry in shards.entries)
        unused = lacking or config.objective.kind == AUDIO_ALONE or models.config.starts_from_picture
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=unused)  # pyright: ignore[reportAttributeAccessIssue] (it says None)
        # Of a model that is shared out already it sets the precision alone.
        self.prepared: Any = accelerator.prepare_model(self.model, evaluation_mode=sharded)
        self.state = RunState()
        accelerator.register_for_checkpointing(self.state, *self.schedules)
        keep_tensors_apart(accelerator)
        saved = saved_states(output)
        if saved:
            load_state(accelerator, self.trained, saved[max(saved)])
            for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
                for group, full in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
                    group["lr"] = full * rate(self.state.step, config.steps, config.optimizer)
        self.log = Log(output / "log.jsonl", config.log_every) if accelerator.is_main_process else None
        self.samples = None
        if config.samples.prompts and (sharded or accelerator.is_main_process):
            place = Path(config.samples.prompts), models.bundle, output / "samples"
            self.samples = Samples(*place, accelerator.device, writes=accelerator.is_main_process)

    def run(self) -> Path:
        """Every step that is left, and the result."""
        self.tell()
        config, state = self.config, self.state
        if config.trackers:
            settings = {name: str(value) for name, value in flat(config.same_run()).items()}
            self.accelerator.init_trackers("harmony", config=settings)
        if state.step == 0:
            self.look()
        started = time.monotonic()
        loader = self.batches.loader(state.step, config.steps, config.data.workers)
        for shown in loader:
            waited = time.monotonic() - started
            loss, parts = self.step(shown)
            state.step += 1
            state.seconds += time.monotonic() - started
            line = None if self.log is None else self.log.add(state.step, parts, config, waited)
            if line:
                self.accelerator.log(line, step=state.step)
            self.progress("train", state.step, config.steps, loss)
            if state.step % config.save_every == 0 or state.step == config.steps:
                save_state(self.accelerator, self.trained, self.output, state.step, config.keep)
            if state.step == config.steps or (config.samples.every and state.step % config.samples.every == 0):
                self.look()
            started = time.monotonic()
        if self.samples is not None and self.accelerator.is_main_process:
            for modality, change in self.samples.changed(0, config.steps).items():
                logger.info("the %s of the samples has changed by %.1f %%", modality, 100 * change)
        path = self.save()
        self.accelerator.end_training()
        return path

    def step(self, shown: Any) -> tuple[float, dict[str, float]]:
        """One step of the weights. Returns its loss, this process's share of it, and what is logged of it."""
        config, accelerator = self.config, self.accelerator
        whole, parts = 0.0, {}
        factor = accelerator.num_processes * config.accumulation  # accelerate takes means over both
        for loss, found in step_losses(config, self.prepared, self.batches, shown, self.state.step, accelerator.device):
            with accelerator.accumulate(self.prepared):
                accelerator.backward(loss * factor)
            whole += float(loss.detach())
            parts = {name: parts.get(name, 0) + value for name, value in found.items()}
        norms = clip_and_measure(self.model, config.optimizer.max_grad_norm)
        if self.state.count_skipped(norms):
            drop_zero_gradients(each for _, each in self.model.trained())
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update()
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            schedule.step()
            optimizer.zero_grad()
        return whole, self._summed(parts) | norms

    def _summed(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """Parts of a loss over all processes."""
        totals: Any = self.accelerator.reduce(torch.stack(list(parts.values())), "sum")
        return dict(zip(parts, totals.tolist(), strict=True))

    @torch.no_grad()
    def look(self) -> None:
        """Validation losses, and sample clips, with the averaged weights."""
        found: dict[str, float] = {}
        with self.average.applied():
            if self.validation is not None:
                found |= self._validation_losses(self.validation)
            if self.samples is not None:
                found |= self.samples.make(self.state.step)
        if self.log is not None and found:
            self.log.write(self.state.step, found)
            self.accelerator.log(found, step=self.state.step)
        self.accelerator.wait_for_everyone()

    def _validation_losses(self, batches: Batches) -> dict[str, float]:
        """Means over the batches of all validation clips, with the same draws at every look."""
        config = replace(self.config, seed=self.config.seed ^ 1, accumulation=1)
        found: dict[str, list[float]] = {}  # by batch, of which not every one has every part
        self.model.eval()
        for step in range(batches.steps_per_epoch):
            shown, device = batches.at(step), self.accelerator.device
            for _, parts in step_losses(config, self.prepared, batches, shown, step, device):
                for name, value in self._summed(parts).items():
                    found.setdefault(f"validation/{name}", []).append(value)
        self.model.train()
        return {name: sum(each) / len(each) for name, each in found.items()}

    def tell(self) -> None:
        """What is trained, from where, on what."""
        if self.accelerator.is_main_process:
            trained = sum(each.numel() for _, each in self.model.trained())
            every = sum(each.numel() for each in self.model.parameters())
            for branch, origin in self.models.origin.items():
                logger.info("%s: %s", branch, origin)
            logger.info("trained: %.3g M of %.3g M parameters", trained / 1e6, every / 1e6)
            left_out = len(self.batches.left_out)
            shards, kind = self.batches.shards, self.config.objective.reference
            logger.info("clips: %d of %s, %d of them left out", len(shards), shards.folder, left_out)
            if left_out:
                needs = " and ".join(self.config.needs) or "what they teach"
                logger.info("left out: clips without %s, or sounds without a reference by the rule %s", needs, kind)

    def save(self) -> Path:
        """What was trained, averaged."""
        config, models = self.config, self.models
        name = "checkpoint" if config.lora is None else "lora"
        path = self.output / f"{name}.safetensors"
        card = {
            "name": self.output.name if config.data.shards or not config.preset else config.preset,
            "steps": config.steps,
            "batch_size": config.batch_size,
            "processes": self.accelerator.num_processes,
            "clips": len(self.batches.shards),
            "objective": asdict(config.objective),
            "skipped_steps": self.state.skipped,
            "training_seconds": round(self.state.seconds),
        }
        if config.start is not None:
            card["start"] = Path(config.start.model).name  # and no path of the machine
        if not config.data.shards:
            card["description"] = "Demonstration model of Harmony on a procedural world of balls and faces."
            card["license"] = "Apache-2.0"
        with self.average.applied():
            gather(self.model, keep=self.accelerator.is_main_process, frozen=config.lora is None)
            if self.accelerator.is_main_process:
                if config.lora is not None:
                    save_lora(path, models.transformer, {"model_card": json.dumps(card)})
                elif models.bundle is not None and isinstance(models.text_encoder, TinyTextEncoder):
                    save_bundle(path, replace(models.bundle, model_card=card), torch.float16)
                else:
                    save_transformer(path, models.config, models.transformer, torch.bfloat16, card)
        self.accelerator.wait_for_everyone()
        return path


def make_batches(config: TrainingConfig, shards: Shards, accelerator: Accelerator) -> tuple[Batches, Batches | None]:
    """Batches of the clips that are trained on, and of those that are held back.

    Raises:
        ValueError: nothing is left to train on.
    """
    held, count = config.data.validation, len(shards)
    if held >= count:
        raise ValueError(
            f"data.validation is {held}, but {shards.folder} holds {count} clips, which leaves none to train on."
        )
    common: dict[str, Any] = {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "rank": accelerator.process_index,
        "world": accelerator.num_processes,
        "reference": config.objective.references,
        "pictures": config.objective.kind != AUDIO_ALONE,
        "needs": config.needs,
    }
    training = Batches(shards, only=range(count - held), **common)
    validation = Batches(shards, only=range(count - held, count), lends=range(count), **common) if held else None
    return training, validation
