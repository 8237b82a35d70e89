"""Every task in one pipeline: a prompt, and whatever is given of picture and sound, to a clip of both.

Legend: B batch (1 here), C channels, F frames, H W pixels, N samples, T_v / T_a latent lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..autoencoders.interface import AudioAutoencoder
from ..checkpoints import Bundle, load_bundle
from ..checkpoints.parts import PartFiles, load_parts
from ..config import HarmonyConfig
from ..diffusion.anchors import mute_audio, static_video
from ..diffusion.denoiser import Denoiser
from ..diffusion.flow import model_sigmas
from ..diffusion.guidance import MUTE_AUDIO, PASSES, STATIC_VIDEO, Guidance
from ..diffusion.latents import AVLatents, draw_noise, stack
from ..diffusion.solvers import solver
from ..geometry import ClipGeometry, as_fraction, beyond_training, check_clip_form, size_of_picture
from ..media import AudioClip, fit_audio, fit_image, fit_reference_audio, fit_reference_image, fit_video
from ..model.inputs import AudioInput, AVInput, VideoInput, clean_sigma, picture_before, same_length
from ..pixels import from_pixels, to_pixels
from ..request import GenerateRequest, Generation, check_batch, check_supported
from ..text import ovi_caption
from ..text.transcripts import read_across, tokenize_transcript
from .offload import Placement
from .plan import guidance_plan, unused_settings

Progress = Callable[[int, int], None]
Announce = Callable[[Sequence[tuple[str, ...]]], None]


class HarmonyPipeline:
    """Holds the models of one checkpoint.

    Args:
        offload: `none`, `model` or `layers`; see `Placement`.
        driver_cache: `device`, `host` or `off`; None chooses by free memory. See `Denoiser`.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device | str = "cpu",
        offload: str = "none",
        driver_cache: str | None = None,
    ) -> None:
        self.config: HarmonyConfig = bundle.config
        self.model_card = bundle.model_card
        self.device = torch.device(device)
        self.driver_cache = driver_cache
        self.transformer = bundle.transformer
        self.dtype = self.transformer.patch_embedding.weight.dtype  # of what is no stored layer of a LoRA run
        self.video_vae = bundle.video_vae
        self.audio_vae = bundle.audio_vae
        self.text_encoder = bundle.text_encoder
        autoencoders = [part for part in (self.video_vae, self.audio_vae) if part is not None]
        self.placement = Placement(autoencoders, [self.text_encoder, self.transformer], self.device, offload)

    @classmethod
    def from_file(
        cls,
        path: str | Path = "harmony-tiny",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        offload: str = "none",
        driver_cache: str | None = None,
    ) -> HarmonyPipeline:
        """Load a checkpoint by file, or by the name of an embedded one. Raises CheckpointError."""
        return cls(load_bundle(path, dtype), device, offload, driver_cache)

    @classmethod
    def from_parts(
        cls,
        files: PartFiles,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        offload: str = "none",
        driver_cache: str | None = None,
    ) -> HarmonyPipeline:
        """Load published files, a part each. Raises as `load_parts`."""
        return cls(load_parts(files, dtype), device, offload, driver_cache)

    def __call__(
        self, request: GenerateRequest, progress: Progress | None = None, announce: Announce | None = None
    ) -> Generation:
        """Generate one clip; see `batch`."""
        return self.batch([request], progress, announce)[0]

    @torch.no_grad()
    def batch(
        self,
        requests: Sequence[GenerateRequest],
        progress: Progress | None = None,
        announce: Announce | None = None,
        guidances: Sequence[Guidance] | None = None,
    ) -> list[Generation]:
        """Generate several clips of one shape together. Each comes out as it would alone.

        Args:
            progress: called after every step with (steps done, steps in all).
            announce: called once before sampling with the notes of every clip.
            guidances: in place of those that the request's and the checkpoint's scales ask for.

        Raises:
            ValueError: a request that cannot be met, requests that differ in more than texts, seeds and media, or
                results that are not numbers; the message names the value and the fix.
        """
        check_batch(requests)
        for request in requests:
            check_supported(request, self.config)
        shared, geometries = requests[0], [self.geometry(request) for request in requests]
        geometry = geometries[0]
        if any(other != geometry for other in geometries):
            raise ValueError("Requests of one batch differ in length or size; pass seconds, or run them apart.")
        shared_notes = (*beyond_training(geometry, self.config), *geometry.snapped)
        notes: list[list[str]] = [[*shared_notes, *request.notes] for request in requests]
        parts = [self._given(request, geometry, said) for request, said in zip(requests, notes, strict=True)]
        given = stack([part[0] for part in parts]).map(lambda x: x.to(self.device))
        masks = stack([part[1] for part in parts]).map(lambda x: x.to(self.device))
        steps = shared.steps if shared.steps is not None else self.config.steps
        schedule = model_sigmas(self.config, steps, shared.shift if shared.shift is not None else self.config.shift)
        plan = guidance_plan(shared, self.config, steps, masks, guidances)
        passes = {name for step in range(steps) for name in plan.passes(step)}
        unused = unused_settings(shared, passes)
        anchors, still = None, None
        if STATIC_VIDEO in passes and shared.static_video == "estimate":
            still = self._estimated_still(geometry)
        if passes & {MUTE_AUDIO, STATIC_VIDEO}:
            anchors = stack([self._anchors(request, geometry) for request in requests])
            anchors = anchors.map(lambda x: x.to(self.device))
        references = self._references(requests, geometry, notes)
        if self.config.starts_from_picture:
            references["video"] = picture_before(given.video).to(self.dtype)
        negative = None
        if any(PASSES[name].negative_text for name in passes):
            negative = self._inputs(given, requests, references, [[] for _ in requests], negative=True)
        denoiser = Denoiser(
            transformer=self.transformer,
            plan=plan,
            positive=self._inputs(given, requests, references, notes, negative=False),
            negative=negative,
            masks=masks,
            anchors=anchors,
            static_anchor=still,
            silent_transcript=self._silent_transcript(requests) if MUTE_AUDIO in passes else None,
            driver_cache=self.driver_cache,
        )
        solve = solver(shared.solver)
        said = [tuple(dict.fromkeys((*each, *unused))) for each in notes]
        if announce is not None:
            announce(said)
        audio_shape = None if given.audio is None else given.audio[:1].shape
        noise = stack([draw_noise(given.video[:1].shape, audio_shape, each.seed) for each in requests])
        noise = noise.map(lambda x, like: x.to(like), given)
        start = given.map(lambda given, noise: given + float(schedule[0]) * (noise - given), noise)

        def report(step: int, _: AVLatents) -> None:
            if progress is not None:
                progress(step + 1, steps)

        self.placement.use(self.transformer)
        latents = solve(denoiser, start, schedule, report)
        latents = latents.map(lambda x, given, mask: x * mask + given * (1 - mask), given, masks)
        _check_finite(pictures=latents.video, sound=latents.audio)
        generations = []
        for row, request in enumerate(requests):
            own = latents.map(lambda x, row=row: x[row : row + 1])
            frames, samples = self.decode(own, geometry)
            generations.append(
                Generation(
                    frames=frames,
                    samples=samples,
                    fps=geometry.fps,
                    sample_rate=geometry.sample_rate,
                    latents_video=own.video,
                    latents_audio=own.audio,
                    notes=said[row],
                    passes_per_step=plan.passes_per_step,
                    seed=request.seed,
                )
            )
        return generations

    def geometry(self, request: GenerateRequest) -> ClipGeometry:
        """Lengths: as asked, else of the given media, else the checkpoint's own clip."""
        config = self.config
        fps = request.fps if request.fps is not None else config.fps
        given = request.video or request.audio
        seconds = request.seconds
        if seconds is None:
            seconds = given.duration_s if given is not None else as_fraction(config.seconds)
        if config.starts_from_picture and request.clip_form == "trained":
            check_clip_form(request.seconds, request.fps, config, "leave it out, or set clip_form to 'untrained'")
            seconds, fps = as_fraction(config.seconds), config.fps
        return ClipGeometry.from_seconds(seconds, fps, *self._size(request), config)

    def _size(self, request: GenerateRequest) -> tuple[int, int]:
        """Height and width: as asked, else of the picture that the clip starts from, else the checkpoint's own."""
        config = self.config
        if config.starts_from_picture and request.height is None and request.width is None:
            if request.image is not None:
                height, width = request.image.shape[:2]
                return size_of_picture(height, width, config)
            if request.video is not None:
                width, height = request.video.size or request.video.frames.shape[2:0:-1]
                return size_of_picture(height, width, config)
        height = request.height if request.height is not None else config.height
        width = request.width if request.width is not None else config.width
        return height, width

    def decode(self, latents: AVLatents, geometry: ClipGeometry) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 frames [F0, H, W, 3] and float32 samples [1, N], exactly as long as asked."""
        self.placement.use(self.video_vae)
        video_BCFHW = self.video_vae.decode(latents.video)
        _check_finite(pictures=video_BCFHW)
        frames = to_pixels(video_BCFHW[0].transpose(0, 1))[: geometry.num_frames_asked]
        if latents.audio is None:
            return frames, None
        samples_BN = self._use_audio_vae().decode(latents.audio).float().cpu()
        _check_finite(sound=samples_BN)
        samples_BN = torch.nn.functional.pad(samples_BN, (0, max(0, geometry.num_samples - samples_BN.shape[1])))
        return frames, samples_BN[:, : geometry.num_samples].numpy()

    def encode_video(self, frames: np.ndarray) -> Tensor:
        """uint8 [F, H, W, 3], F = 4n + 1, to latents [1, C, T_v, h, w]."""
        self.placement.use(self.video_vae)
        return self.video_vae.encode(from_pixels(frames).transpose(0, 1)[None])

    def encode_audio(self, samples_N: np.ndarray, num_latents: int) -> Tensor:
        """Mono samples at the checkpoint's rate, padded with silence or cut, to latents [1, C, num_latents]."""
        audio_vae = self._use_audio_vae()
        wanted = num_latents * audio_vae.samples_per_latent
        samples_N = np.pad(samples_N[:wanted], (0, max(0, wanted - len(samples_N))))
        return audio_vae.encode(torch.from_numpy(samples_N)[None])

    def encode_voice(self, clip: AudioClip, seconds: float | None, notes: list[str]) -> Tensor:
        """Latents [1, C, T_r] of a reference: the clip's first `seconds` (None: the checkpoint's own), or of what there
        is, and the silence that the checkpoint hears behind it."""
        unit = self._use_audio_vae().samples_per_latent
        seconds = self.config.reference_seconds if seconds is None else seconds
        samples, said = fit_reference_audio(clip, seconds, unit, self.config.sample_rate)
        notes.extend(said)
        silence = round(self.config.reference_silence * self.config.sample_rate) // unit
        return self.encode_audio(samples, len(samples) // unit + silence)

    def _use_audio_vae(self) -> AudioAutoencoder:
        """Ready on the device. Raises ValueError for a checkpoint without sound."""
        if self.audio_vae is None:
            raise ValueError("This checkpoint makes no sound, so it has no audio autoencoder; take one that does.")
        self.placement.use(self.audio_vae)
        return self.audio_vae

    def _given(self, request: GenerateRequest, geometry: ClipGeometry, notes: list[str]) -> tuple[AVLatents, AVLatents]:
        """Given latents and masks (1 = generate). What is not given is zero under a mask of 1."""
        shape = geometry.video_shape(1, self.config.video_channels)
        video, video_mask = torch.zeros(shape), torch.ones(1, 1, shape[2], 1, 1)
        audio, audio_mask = None, None
        if self.config.interaction == "global" and (request.video is not None or request.audio is not None):
            notes.append("This checkpoint was not trained with one side given, so the other may follow it loosely.")
        if request.video is not None:
            frames, said = fit_video(request.video, geometry)
            notes.extend(said)
            video[:], video_mask[:] = self.encode_video(frames), 0
        if self.config.audio:
            shape = geometry.audio_shape(1, self.config.audio_channels)
            audio, audio_mask = torch.zeros(shape), torch.ones(1, 1, shape[2])
            if request.audio is not None:
                samples, said = fit_audio(request.audio, geometry.num_samples, geometry.sample_rate)
                notes.extend(said)
                audio[:], audio_mask[:] = self.encode_audio(samples, geometry.num_audio_latents), 0
        if request.image is not None:
            image, said = fit_image(request.image, geometry.height, geometry.width)
            notes.extend(said)
            video[:, :, :1], video_mask[:, :, :1] = self.encode_video(image[None]), 0
        return AVLatents(video, audio), AVLatents(video_mask, audio_mask)

    def _inputs(
        self,
        given: AVLatents,
        requests: Sequence[GenerateRequest],
        references: dict[str, Tensor],
        notes: list[list[str]],
        negative: bool,
    ) -> AVInput:
        """What the transformer reads, a row a request: what is given, clean, with texts and references."""
        video_rows, audio_rows, transcripts = [], [], []
        for request, said in zip(requests, notes, strict=True):
            texts = self._negative_texts(request) if negative else self.texts(request)
            self.placement.use(self.text_encoder)
            features, unknown = self.text_encoder.encode(list(texts[:2]), self.device)
            said.extend(unknown)
            video_rows.append(features[0])
            audio_rows.append(features[1])
            if self.config.speech is not None:
                transcripts.append(self._tokens(request, texts[2], said))
        video, audio = (torch.stack(rows).to(self.device, self.dtype) for rows in (video_rows, audio_rows))
        transcript = torch.cat(same_length([ids[None] for ids in transcripts])).to(self.device) if transcripts else None
        picture = VideoInput(given.video, clean_sigma(given.video), video, references.get("video"))
        if given.audio is None:
            return AVInput(picture, None)
        sigma = clean_sigma(given.audio)
        return AVInput(picture, AudioInput(given.audio, sigma, audio, transcript, references.get("audio")))

    def _tokens(self, request: GenerateRequest, text: str, notes: list[str]) -> Tensor:
        """Token ids of a transcript, as the checkpoint reads it."""
        assert self.config.speech is not None
        if self.config.reads_transcript_across:
            return read_across(text, self.config.speech, request.language, request.reference_transcript)
        tokens, left_out = tokenize_transcript(text, self.config.speech)
        notes.extend(left_out)
        return tokens

    def _silent_transcript(self, requests: Sequence[GenerateRequest]) -> Tensor | None:
        """What is read beside mute audio, a row a request; None where that is what is read beside any."""
        if self.config.speech is None or self.config.mute_reads_transcript:
            return None
        rows = [self._tokens(request, "", [])[None] for request in requests]
        return torch.cat(same_length(rows)).to(self.device)

    def texts(self, request: GenerateRequest) -> tuple[str, str, str]:
        """What the video branch, the audio branch and the speech encoder read."""
        texts = request.prompt, request.audio_prompt, request.transcript
        if self.config.prompt_format == "separate":
            return texts
        caption = ovi_caption.caption(*texts, self.config.prompt_format)
        return caption, caption, ""

    def _negative_texts(self, request: GenerateRequest) -> tuple[str, str, str]:
        video, audio = request.negative_prompt, request.negative_audio_prompt
        return (
            self.config.negative_prompt if video is None else video,
            self.config.negative_audio_prompt if audio is None else audio,
            "",
        )

    def _references(
        self, requests: Sequence[GenerateRequest], geometry: ClipGeometry, notes: list[list[str]]
    ) -> dict[str, Tensor]:
        """Latents of what is to be followed, by stream, a row a request."""
        found: dict[str, list[Tensor]] = {}
        for request, said in zip(requests, notes, strict=True):
            if request.reference_audio is not None:
                found.setdefault("audio", []).append(
                    self.encode_voice(request.reference_audio, request.reference_seconds, said)
                )
            if request.reference_images:
                found.setdefault("video", []).append(self._reference_images(request, geometry, said))
        return {name: torch.cat(rows).to(self.device, self.dtype) for name, rows in found.items()}

    def _reference_images(self, request: GenerateRequest, geometry: ClipGeometry, notes: list[str]) -> Tensor:
        """Latents [1, C, J, h, w], each picture encoded by itself."""
        latents = []
        for image in request.reference_images:
            fitted, said = fit_reference_image(image, geometry.height, geometry.width)
            notes.extend(said)
            latents.append(self.encode_video(fitted[None]))
        return torch.cat(latents, dim=2)

    def _anchors(self, request: GenerateRequest, geometry: ClipGeometry) -> AVLatents:
        """Static video and mute audio, fixed for the run."""
        image = None
        if request.image is not None and request.static_video in ("auto", "image"):
            image = from_pixels(fit_image(request.image, geometry.height, geometry.width)[0])
        self.placement.use(self.video_vae)
        video = static_video(self.video_vae, geometry, image)
        return AVLatents(video, mute_audio(self._use_audio_vae(), geometry))

    def _estimated_still(self, geometry: ClipGeometry) -> Callable[[AVLatents], Tensor]:
        """A still of the current estimate's first frame, a row each."""

        def still(clean: AVLatents) -> Tensor:
            self.placement.use(self.video_vae)
            first_BCHW = self.video_vae.decode(clean.video[:, :, :1])[:, :, 0]
            video = torch.cat([static_video(self.video_vae, geometry, first_CHW) for first_CHW in first_BCHW])
            self.placement.use(self.transformer)
            return video

        return still


def _check_finite(**parts: Tensor | None) -> None:
    """Raises ValueError for results that are no numbers."""
    for name, part in parts.items():
        if part is not None and not bool(part.isfinite().all()):
            raise ValueError(f"The {name} came out as values that are not numbers; lower the scales, or take float32.")
