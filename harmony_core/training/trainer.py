"""`harmony train`: autoencoders, then the transformer with Cross-Task Synergy (paper 3.2.2), through accelerate.

Every stage leaves its result in the output folder, and a run that is stopped goes on from the last one. Batches are
drawn from generators seeded by the step, so that a resumed run sees what an uninterrupted one would have seen.
Processes that `torchrun` or `accelerate launch` starts share out the autoencoders, the clips, each batch and Muon's
matrices.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..autoencoders.tiny import TinyAudioVAE, TinyVideoVAE
from ..checkpoints import Bundle, CheckpointError, save_bundle
from ..checkpoints.write import write_safetensors
from ..diffusion.latents import AVLatents
from ..model import HarmonyTransformer
from ..model.initialize import initialize
from ..model.inputs import AudioInput, Rows, VideoInput
from ..text.tiny_encoder import TinyTextEncoder
from ..toyworld import HELD_OUT_SEED, VOCABULARY
from .autoencoders import reconstruction_report, train_audio_vae, train_video_vae
from .config import ObjectiveConfig, TrainingConfig
from .data.toyworld import LatentDataset, encode_clips, render_clips
from .losses import objective_loss, row_losses
from .optim import check_optimizer, make_optimizers, rate
from .run_folder import Log, ProgressBar, RunState, check_accelerator, same_settings, save_state
from .tasks import (
    NoisedBatch,
    check_batch,
    drop_text,
    noise_batch,
    process_rows,
    reference_length,
    split_roles,
    three_pass_roles,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


class TrainedModel(nn.Module):
    """What the optimiser trains: the transformer and its text encoder."""

    def __init__(self, transformer: HarmonyTransformer, text_encoder: TinyTextEncoder) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(
        self, batch: NoisedBatch, video_ids: Tensor, audio_ids: Tensor, transcript: Tensor, reference: Tensor | None
    ) -> AVLatents:
        """Predicted velocities."""
        texts = self.text_encoder(video_ids), self.text_encoder(audio_ids)
        video = VideoInput(batch.noisy.video, batch.sigmas.video, texts[0])
        audio = AudioInput(batch.noisy.sound, batch.sigmas.sound, texts[1], transcript, reference)
        return AVLatents(*self.transformer(video, audio, Rows(batch.roles)))


def run(config_path: Path, output: Path, resume: bool, overrides: Iterable[str] = ()) -> Path:
    """Train as `config_path` says and write `output/checkpoint.safetensors`.

    Args:
        resume: continue what `output` holds; otherwise it must not exist or be empty.

    Raises:
        ValueError: a wrong setting, or an output folder in use.
    """
    from accelerate import Accelerator

    config = TrainingConfig.from_yaml(config_path, list(overrides))
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    check_accelerator(accelerator)
    check_batch(config, accelerator.num_processes)
    check_optimizer(config.optimizer)
    if accelerator.is_main_process:
        if not resume and output.exists() and any(output.iterdir()):
            raise ValueError(f"{output} is not empty; pass --resume to continue it, or choose another folder.")
        output.mkdir(parents=True, exist_ok=True)
        same_settings(config, accelerator.num_processes, output / "config.json")
    accelerator.wait_for_everyone()
    torch.set_num_threads(config.threads)
    with closing(ProgressBar(hidden=not accelerator.is_main_process)) as progress:
        video_vae, audio_vae = _autoencoders(config, output, accelerator, progress)
        torch.manual_seed(config.seed)  # after the autoencoders, so that a resumed run starts from the same weights
        transformer_config = config.transformer
        text_encoder = TinyTextEncoder(VOCABULARY, transformer_config.text_len, transformer_config.text_dim)
        dataset = _latents(config, output, video_vae, audio_vae, text_encoder, accelerator, progress)
        transformer = HarmonyTransformer(transformer_config)
        initialize(transformer, torch.Generator().manual_seed(config.seed))
        model = TrainedModel(transformer, text_encoder)
        model, card = _train_transformer(config, output, model, dataset, accelerator, progress)
    path = output / "checkpoint.safetensors"
    if accelerator.is_main_process:
        bundle = Bundle(transformer_config, model.transformer, video_vae, audio_vae, model.text_encoder, card)
        save_bundle(path, bundle, torch.float16)
    return path


def _autoencoders(
    config: TrainingConfig, output: Path, accelerator: Accelerator, progress: ProgressBar
) -> tuple[TinyVideoVAE, TinyAudioVAE]:
    """Trained autoencoders: from the output folder if they are there, else trained now, one a process."""
    torch.manual_seed(config.seed)
    video_vae, audio_vae = TinyVideoVAE(), TinyAudioVAE()
    paths = output / "video_vae.safetensors", output / "audio_vae.safetensors"
    settings = config.autoencoder_training
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    mine = [index for index in missing if index % accelerator.num_processes == accelerator.process_index]
    if mine:
        clips = render_clips(settings.clips, 0, config.data.reference_seconds, progress)
        if 0 in mine:
            train_video_vae(settings, clips.videos, video_vae, progress)
            _save(video_vae, paths[0])
        if 1 in mine:
            train_audio_vae(settings, clips.sounds.astype("float32"), audio_vae, progress)
            _save(audio_vae, paths[1])
    accelerator.wait_for_everyone()
    for vae, path in zip((video_vae, audio_vae), paths, strict=True):
        vae.load_state_dict(load_file(path))
    if missing and accelerator.is_main_process:
        held_out = render_clips(config.data.held_out, HELD_OUT_SEED, config.data.reference_seconds, progress)
        report = reconstruction_report(video_vae, audio_vae, held_out.videos, held_out.sounds.astype("float32"))
        logger.info("autoencoders: %s", json.dumps(report))
        (output / "autoencoders.json").write_text(json.dumps(report, indent=1))
    return video_vae.eval(), audio_vae.eval()


def _save(module: nn.Module, path: Path) -> None:
    write_safetensors(path, module.state_dict())


def _latents(
    config: TrainingConfig,
    output: Path,
    video_vae: TinyVideoVAE,
    audio_vae: TinyAudioVAE,
    text_encoder: TinyTextEncoder,
    accelerator: Accelerator,
    progress: ProgressBar,
) -> LatentDataset:
    """Encoded training clips: from the output folder, else each process renders and encodes a range of them."""
    path = output / "latents.safetensors"
    if path.exists():
        try:
            return LatentDataset.load(path)
        except CheckpointError as error:
            logger.warning("%s It is made anew.", error)
    accelerator.wait_for_everyone()  # nobody reads it any more
    index, processes = accelerator.process_index, accelerator.num_processes
    first, last = (config.data.clips * each // processes for each in (index, index + 1))
    clips = render_clips(last - first, first, config.data.reference_seconds, progress)
    speech = config.transformer.speech
    assert speech is not None  # TrainingConfig has seen to it
    part = encode_clips(clips, video_vae, audio_vae, text_encoder, speech, progress)
    part.save(output / f"latents.{index}.safetensors")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        parts = [output / f"latents.{each}.safetensors" for each in range(processes)]
        LatentDataset.join([LatentDataset.load(each) for each in parts]).save(path)
        for each in parts:
            each.unlink()
    accelerator.wait_for_everyone()
    return LatentDataset.load(path)


def _train_transformer(
    config: TrainingConfig,
    output: Path,
    model: TrainedModel,
    dataset: LatentDataset,
    accelerator: Accelerator,
    progress: ProgressBar,
) -> tuple[TrainedModel, dict]:
    """The training loop. Returns the averaged model and its model card."""
    model = model.to(accelerator.device)
    optimizers = make_optimizers(model, config.optimizer)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: rate(step, config.steps, config.optimizer))
        for each in optimizers
    ]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.optimizer.ema))
    model, *optimizers = accelerator.prepare(model, *optimizers)
    state = RunState()
    accelerator.register_for_checkpointing(state, average, *schedules)
    saved = sorted(output.glob("state-*"))
    if saved:
        accelerator.load_state(str(saved[-1]))
    log = Log(output / "log.jsonl", config.log_every) if accelerator.is_main_process else None
    started = time.monotonic()
    while state.step < config.steps:
        loss, parts = _step(config, model, dataset, state.step, accelerator)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm)
        if state.count_skipped(norm is not None and bool(norm.isfinite())):
            drop_zero_gradients(model.parameters())
            for optimizer in optimizers:
                optimizer.step()
            average.update_parameters(accelerator.unwrap_model(model))
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            schedule.step()
            optimizer.zero_grad()
        state.step += 1
        if log is not None:
            log.add(state.step, parts)
        progress("train", state.step, config.steps, float(loss.detach()))
        if state.step % config.save_every == 0 or state.step == config.steps:
            state.seconds += time.monotonic() - started
            started = time.monotonic()
            save_state(accelerator, output, state.step)
    card = {
        "name": config.preset,
        "description": "Demonstration model of Harmony on a procedural world of balls and faces.",
        "steps": config.steps,
        "batch_size": config.batch_size,
        "processes": accelerator.num_processes,
        "clips": len(dataset),
        "objective": vars(config.objective),
        "skipped_steps": state.skipped,
        "training_seconds": round(state.seconds),
        "license": "Apache-2.0",
    }
    trained = average.module
    assert isinstance(trained, TrainedModel)
    return trained, card


def _step(
    config: TrainingConfig, model: nn.Module, dataset: LatentDataset, step: int, accelerator: Accelerator
) -> tuple[Tensor, dict[str, float]]:
    """The loss of this process's share of a batch, and its parts over the whole of it.

    Everything is drawn for the whole batch, so that the number of processes changes nothing.
    """
    objective: ObjectiveConfig = config.objective
    size, processes = config.batch_size, accelerator.num_processes
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    rows = torch.randint(len(dataset), (size,), generator=generator)
    clean, reference, *ids = dataset.take(rows)
    ids = drop_text(tuple(ids), objective, generator)
    length = reference_length(objective, generator)
    reference = reference[..., :length] if length else None
    if objective.kind == "three_pass":
        roles = three_pass_roles(size)
        clean = clean.map(lambda x: x.repeat(3, *[1] * (x.ndim - 1)))
        ids = tuple(each.repeat(3, 1) for each in ids)
        reference = None if reference is None else reference.repeat(3, 1, 1)
    else:
        roles = split_roles(size, objective)
    device = accelerator.device  # drawn on the CPU, so that every device sees the same
    own = process_rows(len(roles), accelerator.process_index, processes)
    batch = noise_batch(clean, roles, objective, generator).take(own).to(device)
    ids = tuple(each[own].to(device) for each in ids)
    predicted = model(batch, *ids, None if reference is None else reference[own].to(device))
    loss, parts = objective_loss(row_losses(predicted, batch), batch.roles, objective, roles)
    totals = cast(Tensor, accelerator.reduce(torch.stack(list(parts.values())), "sum")).tolist()
    return loss * processes, dict(zip(parts, totals, strict=True))  # gradients are averaged over processes


def drop_zero_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """What nothing in this step depended on is left as it is: Muon makes a full step of a gradient of zeros, and
    AdamW's momentum goes on."""
    with_gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    largest = torch.stack([gradient.detach().abs().max() for _, gradient in with_gradients]).tolist()
    for (parameter, _), peak in zip(with_gradients, largest, strict=True):
        if peak == 0:
            parameter.grad = None
