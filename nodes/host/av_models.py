"""What each model of video and sound can do. Nodes ask here, never for a model's class: the next one is a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import Tensor

ISOLATED_OPTIONS = {"a2v_cross_attn": False, "v2a_cross_attn": False}  # the names of LTX's own switches


@dataclass(frozen=True)
class AVModel:
    """One kind of model.

    Attributes:
        title: what people call it.
        blocks: the attribute of its network that lists its layers.
        alone: whether a pass whose noise levels differ from another's cannot share a batch with it.
        isolated: the transformer options in which its two streams are deaf to each other; None = it has no such switch.
        needs: what its class must have for clean latents to reach the network as clean ones; "" = they always do.
    """

    title: str
    blocks: str
    alone: bool = True
    isolated: dict[str, Any] | None = field(default_factory=dict)
    needs: str = ""


AV_MODELS = {
    "HarmonyModel": AVModel("Harmony", "blocks", alone=False),
    "LTXAV": AVModel("LTX-2", "transformer_blocks", isolated=ISOLATED_OPTIONS),
    "MiniMaxH3": AVModel("MiniMax H3", "blocks", isolated=None, needs="_token_grid_masks"),
}


def av_model(model: Any) -> AVModel:
    """The row of ComfyUI's model object. Raises ValueError for one that does not make video and sound together."""
    for ancestor in type(model).__mro__:
        if ancestor.__name__ in AV_MODELS:
            return AV_MODELS[ancestor.__name__]
    titles = ", ".join(known.title for known in AV_MODELS.values())
    raise ValueError(
        f"SyncCFG guides models of video and sound ({titles}; Ovi is a Harmony model here), not "
        f"{type(model).__name__}; use core's CFGGuider or KSampler."
    )


@dataclass(frozen=True)
class LatentKind:
    """The latents of one kind of clip, told by its channels.

    Attributes:
        title: whose they are.
        channels: of video and of audio.
        audio_time: the axis of audio latents [B, C, ...] that is time.
        audio_rate: audio latents a second.
        num_frames: how many pixel frames the first T video latents stand for.
        fps: the only frame rate there is; None = free.
        still_frames: so many frames of a still have all the latents there are, `still_period` of them, over and over;
            None = every latent of a still differs, so all must be encoded.
    """

    title: str
    channels: tuple[int, int]
    audio_time: int
    audio_rate: Fraction
    num_frames: Callable[[int], int]
    fps: Fraction | None = None
    still_frames: int | None = None
    still_period: int = 1

    def span(self, index: int) -> tuple[int, int]:
        """[first, end) of the pixel frames of video latent `index`."""
        return self.num_frames(index), self.num_frames(index + 1)


def causal_frames(stride: int) -> Callable[[int], int]:
    """Frame 0 has a latent of its own, then every latent stands for `stride` frames."""
    return lambda latents: max(0, stride * (latents - 1) + 1)


def _h3_frames(latents: int) -> int:
    """Groups of 17 frames have 5 latents: of 1, 4, 4, 4 and 4 frames."""
    groups, rest = divmod(latents, 5)
    return 17 * groups + causal_frames(4)(rest)


LTX = LatentKind("LTX-2", (128, 8), 2, Fraction(25), causal_frames(8), still_frames=1)
H3 = LatentKind("MiniMax H3", (24, 32), 3, Fraction(40), _h3_frames, fps=Fraction(24), still_frames=22, still_period=5)
NATIVE_LATENTS = {kind.channels: kind for kind in (LTX, H3)}
NATIVE_AUDIO = {kind.channels[1]: kind for kind in (LTX, H3)}


def native_latents(video: Tensor, audio: Tensor) -> LatentKind | None:
    """The kind of latents that ComfyUI's own models use; None for Harmony's."""
    return NATIVE_LATENTS.get((video.shape[1], audio.shape[1]))


def native_audio(audio_vae: Any) -> LatentKind | None:
    """The same, told by an audio autoencoder: ComfyUI's own have latents [B, C, ..., ...]."""
    return NATIVE_AUDIO.get(audio_vae.latent_channels) if audio_vae.latent_dim == 2 else None
