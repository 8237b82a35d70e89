"""Sample clips of a run: what the same requests and seeds come out as, before it, in it, and at its end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from ..checkpoints.write import write_safetensors
from ..media import write_video
from ..pipelines import HarmonyPipeline
from ..pipelines.prompts import read_requests
from ..sync.measure import measure

if TYPE_CHECKING:
    from ..checkpoints import Bundle
    from ..request import GenerateRequest

LATENTS = "latents.safetensors"
VIEWABLE_SIDE = 256  # smaller clips are written enlarged

logger = logging.getLogger(__name__)


class Samples:
    """The requests of a file, made again and again with whatever weights the transformer has then.

    Where weights are shared out every process makes them, and one `writes` them.

    Raises:
        ValueError: models that make no clips, or a line that is no request of them.
    """

    def __init__(
        self, prompts: Path, bundle: Bundle | None, folder: Path, device: torch.device, writes: bool = True
    ) -> None:
        if bundle is None:
            raise ValueError(
                f"samples.prompts is {prompts}, but the models that make clips are not there; name start.video_vae, "
                "start.text_encoder and start.tokenizer as well, or leave samples out."
            )
        self._bundle, self._device, self._writes, self.folder = bundle, device, writes, folder
        self.requests: list[GenerateRequest] = read_requests(prompts, bundle.config)

    def make(self, step: int) -> dict[str, float]:
        """Clips in `folder/step-N`, and the means of what is measured of their sync."""
        folder = self.folder / f"step-{step:08}"
        transformer = self._bundle.transformer
        training = transformer.training
        transformer.eval()
        pipeline = HarmonyPipeline(self._bundle, self._device)
        reports, latents = [], {}
        for number, request in enumerate(self.requests, 1):
            clip = pipeline(request)
            if not self._writes:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            scale = max(1, round(VIEWABLE_SIDE / min(clip.frames.shape[1:3])))
            write_video(folder / f"{number:02}.mp4", clip.frames, clip.fps, clip.samples, clip.sample_rate, scale=scale)
            latents[f"{number:02}.video"] = clip.latents_video
            if clip.samples is not None and clip.latents_audio is not None:
                latents[f"{number:02}.audio"] = clip.latents_audio
                reports.append(measure(clip.frames, clip.fps, clip.samples, clip.sample_rate))
        transformer.train(training)
        if latents:
            write_safetensors(folder / LATENTS, latents)
        lags = [abs(report.lag_ms) for report in reports if report.lag_ms is not None]
        scores = [report.av_align for report in reports if report.av_align is not None]
        found = {"samples/lag_ms": lags, "samples/av_align": scores}
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def changed(self, before: int, after: int) -> dict[str, float]:
        """How far the clips of two steps are apart, of each modality: the RMS difference of their latents over the RMS
        of the first. Nothing where a step has none, as in a run that got its prompts later."""
        files = [self.folder / f"step-{step:08}" / LATENTS for step in (before, after)]
        if not all(file.is_file() for file in files):
            return {}
        one, other = (load_file(file) for file in files)
        found = {}
        for modality in ("video", "audio"):
            pairs = [(one[key].float(), other[key].float()) for key in one if key.endswith(modality) and key in other]
            if pairs:
                moved = sum(float((b - a).square().sum()) for a, b in pairs)
                found[modality] = (moved / sum(float(a.square().sum()) for a, _ in pairs)) ** 0.5
        return found
