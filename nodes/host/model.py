"""HarmonyTransformer as a ComfyUI model: packed latents, masks as noise levels, roles, attention overrides."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import comfy.conds
import comfy.ldm.modules.attention
import comfy.model_base
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor
from torch.nn.functional import pad

from ...harmony_core.config import HarmonyConfig
from ...harmony_core.diffusion.guidance import PASSES
from ...harmony_core.diffusion.latents import AVLatents
from ...harmony_core.model.driver_cache import DriverCache
from ...harmony_core.model.inputs import AudioInput, Rows, VideoInput, picture_before
from ...harmony_core.model.roles import AUDIO_GIVEN, JOINT, VIDEO_GIVEN, role_with_voice
from ...harmony_core.model.transformer import HarmonyTransformer
from .av_latent import Shapes, pack, unpack
from .foreign import check_conditioning, check_latent, check_sampling, check_text
from .interrupts import stop_before
from .windows import HANDLER, audio_of_window
from .words import read_transcript, warn_of_caption

CACHES = "harmony_driver_caches"  # the transformer option in which a run keeps them
RAW = "harmony_raw"  # the mark of a packed latent whose video is still to be normalised


@dataclass(frozen=True)
class Row:
    """What a row of the batch is to the transformer: its role, and under which name its driver is kept."""

    role: str
    driver: Hashable


class CONDRows(comfy.conds.CONDConstant):
    """A `Row` per clip, batched and sent to other devices' copies of the model with the rest of a conditioning."""

    def process_cond(self, batch_size: int, *_: Any, **__: Any) -> CONDRows:
        return self._copy_with(self.cond * batch_size)

    def can_concat(self, *_: Any, **__: Any) -> bool:
        return True

    def concat(self, others: list[CONDRows], *_: Any, **__: Any) -> tuple[Row, ...]:
        return tuple(row for each in (self, *others) for row in each.cond)


class DriverCaches:
    """A driver cache for each device that a run uses; the only thing that its passes share."""

    def __init__(self, placement: str) -> None:
        self.placement = placement
        self._caches: dict[torch.device, DriverCache] = {}
        self._lock = Lock()

    def on(self, device: torch.device) -> DriverCache:
        with self._lock:
            if device not in self._caches:
                self._caches[device] = DriverCache(self.placement)
            return self._caches[device]


def _role(masks: list[Tensor]) -> str:
    """A stream is the driver only if its mask is 0 everywhere."""
    video_given, audio_given = (not bool(mask.any()) for mask in masks)
    return {(True, False): VIDEO_GIVEN, (False, True): AUDIO_GIVEN}.get((video_given, audio_given), JOINT)


def masks_of(mask: Tensor | None, shapes: Shapes, device: Any) -> list[Tensor]:
    """Generate masks [B,1,T_v,h,w] and [B,1,T_a] from the packed mask; None = all is made."""
    if mask is None:
        return [torch.ones(1, 1, *shape[2:], device=device) for shape in shapes]
    return [stream[:, :1] for stream in unpack(mask, shapes)]


def check_given(config: HarmonyConfig, masks: list[Tensor]) -> None:
    """Raises ValueError where a model that starts from a picture has none, or a part of its sound."""
    if not config.starts_from_picture:
        return
    video, audio = masks
    if bool(video[:, :, 0].any()):
        raise ValueError(
            "This model makes a clip from its first frame, and the latent has none; add Harmony First Frame, or "
            "connect a picture to first_frame of Harmony Clip (for the sound of a film: Harmony Given Video, whole)."
        )
    if bool((audio < 1).any()) and bool((audio > 0).any()):
        raise ValueError(
            "A part of the sound is given, but this model takes all of it for clean as soon as some is; give the whole "
            "(start_seconds and end_seconds of Harmony Given Audio at 0; silence follows a short one), or none."
        )


class ComfyTransformer(HarmonyTransformer):
    """The transformer with ComfyUI's calling convention; its parameters keep their names."""

    def __init__(self, harmony: HarmonyConfig, device: Any, dtype: Any, operations: Any, *_: Any, **__: Any) -> None:
        super().__init__(harmony, device=device, dtype=dtype, operations=operations)
        self.dtype = dtype  # ComfyUI asks for it
        stop_before(block for branch in self.branches for block in branch.blocks)

    def forward(
        self, x: list[Tensor], timestep: tuple[Tensor, Tensor], transformer_options: dict[str, Any], **kwargs: Any
    ) -> list[Tensor]:
        """Latents [video, audio] and their noise levels ([B,T_v], [B,T_a]) to velocities [video, audio]."""
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        if wrappers:  # EasyCache adds to what it is given, and ComfyUI computes with that afterwards
            x = [part.clone() for part in x]
        executor = WrapperExecutor.new_class_executor(self._predict, self, wrappers)
        return executor.execute(x, timestep, transformer_options=transformer_options, **kwargs)

    def _predict(
        self,
        x: list[Tensor],
        timestep: tuple[Tensor, Tensor],
        transformer_options: dict[str, Any],
        context: Tensor,
        audio_context: Tensor,
        video_mask: Tensor,
        audio_mask: Tensor,
        rows: tuple[Row, ...],
        transcript: Tensor | None = None,
        reference_audio: Tensor | None = None,
        reference_image: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> list[Tensor]:
        video, audio = x
        caches: DriverCaches | None = transformer_options.get(CACHES)
        attention = partial(comfy.ldm.modules.attention.optimized_attention, transformer_options=transformer_options)
        passes = Rows(
            roles=tuple(row.role for row in rows),
            drivers=tuple(row.driver for row in rows),
            # several GPUs run passes in threads, which ComfyUI names by the device
            cache=caches and caches.on(transformer_options.get("multigpu_thread_device", video.device)),
            skip_layers=transformer_options.get("harmony_skip_layers", frozenset()),
        )
        velocity = AVLatents(
            *super().forward(
                VideoInput(video, timestep[0], context, reference_image),
                AudioInput(audio, timestep[1], audio_context, transcript, reference_audio),
                passes,
                attention,
            )
        )
        # ComfyUI steps every latent by the step's sigma; where the mask is below 1 the noise level was lower.
        return [velocity.video * video_mask, velocity.sound * audio_mask]


class HarmonyModel(comfy.model_base.BaseModel):
    """Everything ComfyUI asks of a model. `latent_shapes` is what newer cores set before each run."""

    diffusion_model: ComfyTransformer

    def __init__(self, model_config: Any, harmony: HarmonyConfig, device: Any = None) -> None:
        network: Any = ComfyTransformer  # core's signature names its own UNet
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=network)
        self.harmony = harmony
        self._shapes: Shapes = []  # none before the first run
        self._shapes_are_fresh = False
        self._preview_decoder: Callable[[Tensor], Tensor] | None = None
        self.latent_format.latent_rgb_factors_reshape = self._preview_frame

    @property
    def latent_shapes(self) -> Shapes:
        return self._shapes

    @latent_shapes.setter
    def latent_shapes(self, shapes: Shapes) -> None:
        self._shapes, self._shapes_are_fresh = shapes, True

    def process_latent_in(self, latent: Any, *_: Any, **__: Any) -> Any:
        """Normalise the video stream. A packed latent of unknown shape is marked and finished by `extra_conds`."""
        if torch.is_tensor(latent) and latent.ndim == 3 and not self._shapes_are_fresh:
            latent = latent.clone()
            setattr(latent, RAW, True)
            return latent
        return self._map_video(latent, self.latent_format.process_in)

    def process_latent_out(self, latent: Any, *_: Any, **__: Any) -> Any:
        return self._map_video(latent, self.latent_format.process_out)

    def _map_video(self, latent: Any, function: Any) -> Any:
        if getattr(latent, "is_nested", False):
            video, audio = latent.unbind()
            return type(latent)((function(video), audio))
        if latent.ndim != 3:
            return function(latent)
        video, audio = unpack(latent, self._shapes)
        return pack(function(video), audio)

    def show_previews(self, decoder: Callable[[Tensor], Tensor]) -> None:
        """Previews are pictures that `decoder` makes of a latent frame [B,C,1,h,w], not flat colours."""
        self._preview_decoder = decoder
        self.latent_format.latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    def _preview_frame(self, latent: Any) -> Tensor:
        """The middle latent frame [B,C,1,h,w] of whatever a previewer is handed, decoded if there is a decoder."""
        if getattr(latent, "is_nested", False):
            latent = latent.unbind()[0]
        elif latent.ndim == 3:
            latent = unpack(latent, self._shapes)[0]
        middle = latent.shape[2] // 2
        frame = latent[:, :, middle : middle + 1]
        return frame if self._preview_decoder is None else self._preview_decoder(frame[:1])

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """What one conditioning contributes; the same keys and shapes for all, so that ComfyUI can batch them."""
        shapes = check_latent(self.harmony, kwargs.get("latent_shapes"))
        check_sampling(self.model_sampling)
        check_conditioning(kwargs.get("prompt_type", "positive"), [kwargs])
        self._finish_latent(kwargs.get("latent_image"), shapes)
        masks = masks_of(kwargs.get("denoise_mask"), shapes, kwargs["device"])
        check_given(self.harmony, masks)
        row = self._row(kwargs, masks)
        video_context = kwargs["cross_attn"]
        audio_context = kwargs.get("harmony_audio_context", video_context)
        conds = {
            "c_crossattn": self._padded("video", video_context),
            "audio_context": self._padded("audio", audio_context),
            "video_mask": masks[0],
            "audio_mask": masks[1],
        }
        words = [kwargs.get(f"harmony_{name}", "") for name in ("transcript", "language", "reference_transcript")]
        transcript = read_transcript(words[0], self.harmony.speech, words[1] or "en", words[2])
        if transcript is not None:
            conds["transcript"] = transcript[None]
        if self.harmony.reads_transcript_across and kwargs.get("harmony_audio_caption", "").strip():
            warn_of_caption(kwargs["harmony_audio_caption"])
        conds |= self._references(kwargs, shapes)
        if self.harmony.starts_from_picture:  # which it also sees before the clip
            conds["reference_image"] = picture_before(unpack(kwargs["latent_image"], shapes)[0])
        device = kwargs["device"]
        out = {name: comfy.conds.CONDRegular(value.to(device)) for name, value in conds.items()}
        out["latent_shapes"] = comfy.conds.CONDConstant(shapes)
        out["rows"] = CONDRows((row,))
        return out

    def _row(self, given: dict[str, Any], masks: list[Tensor]) -> Row:
        """A pass's role; with a voice that does not see the video, that of given sound, of which nothing is kept."""
        role = given.get("harmony_role") or _role(masks)
        name = given.get("prompt_type", "positive")
        negative = name == "negative" or (name in PASSES and PASSES[name].negative_text)
        voice = given.get("harmony_reference_audio") is not None
        heard = role_with_voice(role, self.harmony) if voice and not negative else role
        return Row(heard, given.get("uuid") if heard == role else None)

    def _references(self, given: dict[str, Any], shapes: Shapes) -> dict[str, Tensor]:
        """Latents of a voice and of pictures to follow, those that the pass goes `without` as zeros.

        Raises:
            ValueError: a voice or pictures for a model that was not trained with them, or pictures of another size
                than the clip.
        """
        found = {}
        if given.get("harmony_reference_audio") is not None:
            if not self.harmony.takes_reference_audio:
                raise ValueError(
                    "This model was not trained with a reference voice (Ovi has none); leave HarmonyReferenceAudio out."
                )
            found["reference_audio"] = given["harmony_reference_audio"]
        images = given.get("harmony_reference_image")
        if images is not None:
            if self.harmony.references != "appended":
                raise ValueError(
                    "This model was not trained with reference images; leave HarmonyReferenceImage out, "
                    "or load DreamID-Omni as `harmony convert --kind dreamid-omni` writes it."
                )
            sizes = [f"{width}x{height}" for height, width in (images.shape[3:], shapes[0][3:])]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"The reference images are {sizes[0]} latents, but the clip is {sizes[1]}; "
                    "give HarmonyReferenceImage the latent of this clip."
                )
            found["reference_image"] = self.latent_format.process_in(images)
        without = given.get("harmony_without")
        return {name: torch.zeros_like(value) if name == without else value for name, value in found.items()}

    def _finish_latent(self, latent: Tensor | None, shapes: Shapes) -> None:
        """Complete what `process_latent_in` could not do for want of shapes, in the tensor that ComfyUI holds."""
        self._shapes, self._shapes_are_fresh = shapes, False
        if latent is not None and getattr(latent, RAW, False):
            latent.copy_(self._map_video(latent, self.latent_format.process_in))
            setattr(latent, RAW, False)

    def _padded(self, name: str, context: Tensor) -> Tensor:
        """Text features zero-padded to the model's length. Raises ValueError when they are longer, or another's."""
        check_text(name, context.shape[2], self.harmony)
        missing = self.harmony.text_len - context.shape[1]
        if missing < 0:
            raise ValueError(f"The text has {context.shape[1]} tokens, but this model takes {self.harmony.text_len}.")
        return pad(context, (0, 0, 0, missing))

    def process_timestep(self, timestep: Tensor, video_mask: Tensor, audio_mask: Tensor, *_: Any, **__: Any) -> Any:
        """Noise level of every latent, 0..1: the step's times the mask's mean over space and channels."""
        unit = self.model_sampling.timestep(torch.ones_like(timestep))  # what this schedule calls a sigma of 1
        sigma_B1 = (timestep / unit)[:, None]
        return sigma_B1 * video_mask.float().mean((1, 3, 4)), sigma_B1 * audio_mask.float().mean(1)

    def scale_latent_inpaint(self, *_: Any, latent_image: Tensor, **__: Any) -> Tensor:
        """Given latents enter clean; the mask tells the model so."""
        return latent_image

    def map_context_window_to_modalities(
        self, primary_indices: list[int], latent_shapes: Shapes, *_: Any, **__: Any
    ) -> list[list[int]]:
        """The video latents of a context window, and the audio latents that belong to them."""
        video, audio = latent_shapes
        options: dict[str, Any] = self.current_patcher.model_options
        sound = audio_of_window(primary_indices, video[2], audio[2], self.harmony, options[HANDLER].causal_window_fix)
        return [primary_indices, sound]

    def resize_cond_for_context_window(
        self, cond_key: str, cond_value: Any, window: Any, _x_in: Any = None, device: Any = None, *_: Any, **__: Any
    ) -> Any:
        """What a window sees of each conditioning: its part of the masks, all of everything else."""
        if cond_key == "video_mask":
            return cond_value._copy_with(window.get_tensor(cond_value.cond, device, dim=2))
        if cond_key == "audio_mask":
            sound = window.get_window_for_modality(1)
            return cond_value._copy_with(sound.get_tensor(cond_value.cond, device, dim=2))
        return cond_value

    def memory_required(self, input_shape: Any, *_: Any, **__: Any) -> float:
        """ComfyUI counts positions; a packed latent [B, 1, N] has its channels among them.

        For harmony-5b at 704x1280x121 in bf16 this says 3.2 GB a row; the tensors that a pass holds peak at 2.4 GB.
        """
        if len(input_shape) != 3:  # a latent that will be refused
            return super().memory_required(input_shape)
        batch, _, numbers = input_shape
        return super().memory_required([batch, 1, numbers // self.harmony.video_channels])
