"""Published files, a part each: what stands beside the transformer (autoencoders, text encoder), and all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.audio import MelConverter, MMAudioVAE, fold_convolutions, fold_weight_norm, folded
from ..autoencoders.mel_codec import QWEN_VOCODER, MelCodec
from ..autoencoders.video import WanVideoVAE
from ..autoencoders.vocoder import DEFAULT_CONFIG as VOCODER_CONFIG
from ..presets import preset
from ..text.umt5 import UMT5TextEncoder, encoder_config, load_tokenizer
from .bundle import Bundle
from .errors import CheckpointError
from .files import assign, check_weights, load_transformer, read_tensors
from .layout import Shapes, check_keys, map_keys, offending
from .sizes import count_blocks, size_of
from .wan import UMT5, VAE, Rules
from .weight_files import Paths, WeightFiles, open_files, plain_sources

Pattern = tuple[int | None, ...]  # a shape; None for a size that is any


@dataclass(frozen=True)
class PartLayout:
    """A naming of one part's weights. The empty rules leave every key as it is.

    A file is told by `needs`: keys with the shapes that every such file has there, since others have the same names.
    `each` is the beginning and the end of a key that every block has.
    """

    title: str
    rules: Rules
    needs: Mapping[str, Pattern]
    each: tuple[str, str] | None = None

    def complaint(self, shapes: Shapes) -> str:
        """What keeps a file from being this, "" if nothing does."""
        needs = dict(self.needs)
        if self.each is not None:
            start, end = self.each
            numbers = {key.removeprefix(start).partition(".")[0] for key in shapes if key.startswith(start)}
            needs |= {f"{start}{number}{end}": _MATRIX for number in sorted(numbers)}
        wrong = [
            f"{key} {list(shapes[key])} instead of [{', '.join('any' if n is None else str(n) for n in pattern)}]"
            for key, pattern in needs.items()
            if key in shapes and not _fits(shapes[key], pattern)
        ]
        return offending({"missing": [key for key in needs if key not in shapes], "of another shape": wrong})


def _fits(shape: tuple[int, ...], pattern: Pattern) -> bool:
    return len(shape) == len(pattern) and all(
        size > 0 if wanted is None else size == wanted for size, wanted in zip(shape, pattern, strict=True)
    )


_VECTOR, _MATRIX, _CONV1D, _CONV3D = ((None,) * axes for axes in (1, 2, 3, 5))
MEL_VOCODER = "Qwen2.5-Omni's vocoder"
VIDEO_CHANNELS = 48  # Wan2.1's autoencoder has 16
_LATENT_CONV = (VIDEO_CHANNELS, VIDEO_CHANNELS, 1, 1, 1)

VIDEO_VAE_LAYOUTS = (
    PartLayout(
        "the Wan2.2 VAE in its original (ComfyUI's) layout",
        VAE,
        {"encoder.conv1.weight": _CONV3D, "decoder.conv1.weight": _CONV3D, "conv2.weight": _LATENT_CONV},
    ),
    PartLayout(
        "the Wan2.2 VAE in diffusers' layout",
        (),
        {"encoder.conv_in.weight": _CONV3D, "decoder.conv_in.weight": _CONV3D, "post_quant_conv.weight": _LATENT_CONV},
    ),
)
# T5 has umT5's names, but says how far apart two words are in its first block alone.
TEXT_LAYOUTS = (
    PartLayout(
        "umT5 in Wan's layout",
        UMT5,
        {
            "token_embedding.weight": _MATRIX,
            "blocks.0.attn.q.weight": _MATRIX,
            "blocks.0.ffn.gate.0.weight": _MATRIX,
        },
        ("blocks.", ".pos_embedding.embedding.weight"),
    ),
    PartLayout(
        "umT5 in Hugging Face's and ComfyUI's layout",
        (),
        {
            "shared.weight": _MATRIX,
            "encoder.block.0.layer.0.SelfAttention.q.weight": _MATRIX,
            "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": _MATRIX,
        },
        ("encoder.block.", ".layer.0.SelfAttention.relative_attention_bias.weight"),
    ),
)
TEXT_EXTRAS = ("spiece_model", "encoder.embed_tokens.weight")  # ComfyUI's tokeniser; a second name of `shared`

# Parts of a merged audio file, and the beginnings of their keys in files of their own.
AUDIO_PARTS = (
    ("vae.", ("encoder.", "decoder.", "data_mean", "data_std")),
    ("vocoder.", ("conv_pre.", "ups.", "resblocks.", "activation_post.", "conv_post.")),
    ("mel_converter.", ("mel_basis", "hann_window")),
)
AUDIO_LAYOUTS = {
    "vae.": PartLayout(
        "MMAudio's autoencoder",
        (),
        {
            "data_mean": (1, None, 1),
            "encoder.conv_in.weight": _CONV1D,
            "encoder.conv_out.weight": _CONV1D,
            "encoder.mid.block_1.conv1.weight": _CONV1D,
        },
    ),
    "vocoder.": PartLayout(
        "MMAudio's vocoder (BigVGAN)", (), {"conv_pre.bias": _VECTOR, "activation_post.act.alpha": _VECTOR}
    ),
}


def load_video_vae(paths: Paths, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> WanVideoVAE:
    """Load `wan2.2_vae.safetensors`, or diffusers' `vae` folder.

    Raises:
        CheckpointError: another kind of file, or keys that do not fit.
    """
    files = open_files(paths)
    title, sources, scales = _recognise(files, VIDEO_VAE_LAYOUTS)
    shapes = files.shapes(sources)
    config = {
        "base_dim": shapes["encoder.conv_in.weight"][0],
        "decoder_base_dim": shapes["decoder.conv_in.weight"][0] // 4,
    }
    vae = WanVideoVAE(config, device="meta")
    assign(vae.vae, files, sources, scales, dtype, device, title)
    return vae.to(device).eval()


def load_audio_vae(
    paths: Paths, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> MMAudioVAE | MelCodec:
    """Load MMAudio's 16 kHz autoencoder and vocoder from ComfyUI's merged file, or from one file of each; or UniAVGen's
    vocoder.

    Weights may be as trained or folded, with or without weight norm, told apart by their names and norms.

    Raises:
        CheckpointError: another kind of file, or keys that do not fit.
    """
    files = open_files(paths)
    sources, scales = plain_sources(files)
    if is_mel_vocoder(sources):
        return load_mel_codec(files, device)
    tensors = audio_tensors(dict(read_tensors(files, sources, scales, torch.float32, "cpu")), files.name)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    config = audio_config(shapes, files.name)
    with torch.device("meta"):
        vae = MMAudioVAE(**config)
    converter = {"mel_converter." + key: value for key, value in MelConverter(config["num_mels"]).state_dict().items()}
    tensors = {**converter, **tensors}
    check_audio_tensors(tensors, config, files.name)
    vae.load_state_dict(tensors, assign=True)
    vae.vae.to(dtype)
    vae.vocoder.to(dtype)
    vae.requires_grad_(False)
    return vae.to(device).eval()


def is_mel_vocoder(keys: Iterable[str]) -> bool:
    """Qwen2.5-Omni's BigVGAN: MMAudio's has a bias in its last convolution."""
    keys = set(keys)
    return {"conv_pre.weight", "conv_post.weight", "activation_post.act.alpha"} <= keys and not keys & {
        "conv_post.bias",
        "conv_post.weight_g",
        "conv_post.parametrizations.weight.original0",
        "encoder.conv_in.weight",
    }


def load_mel_codec(files: WeightFiles, device: torch.device | str = "cpu") -> MelCodec:
    """UniAVGen's sound from Qwen2.5-Omni's vocoder: its folder, or one file. Filters are computed where none are held.

    Raises:
        CheckpointError: keys or shapes that are not the vocoder's.
    """
    sources, scales = plain_sources(files)
    codec, held = mel_codec_of(files.shapes(sources), files.name)
    check_weights(held, files, sources, MEL_VOCODER)
    tensors = dict(read_tensors(files, sources, scales, torch.float32, "cpu"))
    codec.vocoder.load_state_dict({**codec.vocoder.state_dict(), **tensors})
    codec.requires_grad_(False)
    return codec.to(device).eval()


def mel_codec_of(shapes: Shapes, name: str) -> tuple[MelCodec, dict[str, Tensor]]:
    """UniAVGen's sound in the size of a vocoder's file, and what of its vocoder such a file must hold.

    Raises:
        CheckpointError: keys or shapes that are not the vocoder's.
    """
    channels = size_of(shapes, "conv_pre.weight", 0, name)
    codec = MelCodec({**QWEN_VOCODER, "upsample_initial_channel": channels})
    own = codec.vocoder.state_dict()
    held = {key: value for key, value in own.items() if key in shapes or not key.endswith("filter")}
    check_keys({key: tuple(value.shape) for key, value in held.items()}, shapes, name, MEL_VOCODER)
    return codec, held


def check_audio_tensors(tensors: dict[str, Tensor], config: dict, name: str) -> None:
    """Nothing missing, nothing left over.

    Raises:
        CheckpointError: names the first offending keys.
    """
    with torch.device("meta"):
        expected = MMAudioVAE(**config).state_dict()
    check_keys(
        {key: tuple(value.shape) for key, value in expected.items()},
        {key: tuple(value.shape) for key, value in tensors.items()},
        name,
        "MMAudio's 16 kHz autoencoder and vocoder",
    )


def audio_tensors(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights under the merged file's names, folded.

    Raises:
        CheckpointError: keys of neither part, or a part missing.
    """
    merged, strange = {}, []
    for key, value in tensors.items():
        part = next((part for part, starts in AUDIO_PARTS if key.startswith((part, *starts))), None)
        if part is None:
            strange.append(key)
        else:
            merged[key if key.startswith(part) else part + key] = value
    absent = [part + "*" for part, _ in AUDIO_PARTS[:2] if not any(key.startswith(part) for key in merged)]
    complaint = offending({"unexpected": strange, "missing": absent})
    if complaint:
        raise CheckpointError(f"{name} is not MMAudio's autoencoder with its vocoder: {complaint}. Give both files.")
    shapes = {key: tuple(value.shape) for key, value in merged.items()}
    for part, layout in AUDIO_LAYOUTS.items():
        complaint = layout.complaint(audio_part(shapes, part))
        if complaint:
            raise CheckpointError(f"{name} is not {layout.title}: {complaint}.")
    autoencoder = {key: value for key, value in merged.items() if key.startswith("vae.")}
    vocoder = {key: value for key, value in merged.items() if key.startswith("vocoder.")}
    rest = {key: value for key, value in merged.items() if key.startswith("mel_converter.")}
    try:
        if not folded(autoencoder):
            autoencoder = fold_convolutions(autoencoder)
        vocoder = fold_weight_norm(vocoder)
    except (IndexError, RuntimeError) as error:  # a norm over axes that are not there, or sizes that do not match
        raise CheckpointError(f"{name} has weights of other shapes than MMAudio's: {error}.") from error
    return {**rest, **autoencoder, **vocoder}


def audio_part(shapes: Shapes, part: str) -> dict[str, tuple[int, ...]]:
    """What belongs to a part of `AUDIO_PARTS`, under its own names, in a merged file or one of its own."""
    starts = (part, *dict(AUDIO_PARTS)[part])
    return {key.removeprefix(part): shape for key, shape in shapes.items() if key.startswith(starts)}


def audio_config(shapes: Shapes, name: str) -> dict:
    """MMAudioVAE's arguments, from the sizes in a file."""
    bands = size_of(shapes, "vae.data_mean", 1, name)
    if bands != VOCODER_CONFIG["num_mels"]:
        raise CheckpointError(f"{name} has {bands} mel bands, but MMAudio's 16 kHz model has 80 (44.1 kHz: 128).")
    return {
        "num_mels": bands,
        "width": size_of(shapes, "vae.encoder.conv_in.weight", 0, name),
        "channels": size_of(shapes, "vae.encoder.conv_out.weight", 0, name) // 2,
        "vocoder": {
            **VOCODER_CONFIG,
            "upsample_initial_channel": size_of(shapes, "vocoder.conv_pre.weight", 0, name),
        },
    }


def load_text_encoder(
    paths: Paths,
    tokenizer: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    text_len: int = 512,
) -> UMT5TextEncoder:
    """Load umT5's encoder: Wan's layout (converted from its .pth), ComfyUI's, or a Hugging Face folder.

    Args:
        tokenizer: folder with umT5's tokeniser files (Wan ships `google/umt5-xxl`).

    Raises:
        CheckpointError: another kind of file, or keys that do not fit.
    """
    from transformers import UMT5EncoderModel

    files = open_files(paths)
    title, sources, scales = _recognise(files, TEXT_LAYOUTS)
    sources = {key: source for key, source in sources.items() if key not in TEXT_EXTRAS}
    shapes = files.shapes(sources)
    layers = count_blocks(shapes, "encoder.block.", files.name)
    with torch.device("meta"):
        model = UMT5EncoderModel(encoder_config(shapes, layers))
    # transformers has the token table under two names; it is read once and shared.
    own = {key.removeprefix("encoder."): source for key, source in sources.items() if key != "shared.weight"}
    own["embed_tokens.weight"] = sources["shared.weight"]
    factors = {key.removeprefix("encoder.").replace("shared.", "embed_tokens."): scales[key] for key in scales}
    assign(model.encoder, files, own, factors, dtype, device, title)
    model.set_input_embeddings(model.encoder.embed_tokens)
    return UMT5TextEncoder(model, load_tokenizer(tokenizer), text_len)


def _recognise(files: WeightFiles, layouts: tuple[PartLayout, ...]) -> tuple[str, dict[str, str], dict[str, str]]:
    """(title, our key -> file's key, our key -> key of its scale) of the layout that a file has."""
    names, scales = plain_sources(files)
    shapes = files.shapes(names)
    found = which(shapes, layouts)
    if found is None:
        first = ", ".join(sorted(names)[:3])
        nearest = max(layouts, key=lambda layout: len(layout.needs.keys() & names.keys()))
        raise CheckpointError(
            f"{files.name} is none of: {'; '.join(layout.title for layout in layouts)}. Its first keys: {first}. "
            f"To be {nearest.title}: {nearest.complaint(shapes)}."
        )
    sources, strange = map_keys(found.rules, names) if found.rules else ({key: key for key in names}, [])
    if strange:
        raise CheckpointError(f"{files.name} looks like {found.title}, but has {offending({'unexpected': strange})}.")
    return found.title, sources, {key: scales[source] for key, source in sources.items() if source in scales}


def which(shapes: Shapes, layouts: tuple[PartLayout, ...]) -> PartLayout | None:
    """The layout that a file has."""
    return next((layout for layout in layouts if not layout.complaint(shapes)), None)


@dataclass(frozen=True, kw_only=True)
class PartFiles:
    """Files of each part; several where a part is split (Ovi's two, MMAudio's autoencoder and vocoder).

    `preset` names the settings of a transformer file that stores none and that its shapes do not tell: `ovi-11b-960`
    and `dreamid-omni` have Ovi's keys.
    """

    model: Sequence[Path]
    video_vae: Path | None = None
    audio_vae: Sequence[Path] = ()
    text_encoder: Path | None = None
    tokenizer: Path | None = None
    preset: str | None = None


def load_parts(files: PartFiles, dtype: torch.dtype) -> Bundle:
    """Load every part on the CPU, memory-mapped where it already has its dtype: transformer and text encoder in
    `dtype`, autoencoders in float32.

    Raises:
        ValueError: a part is missing, one that the model has no use for is given, or CheckpointError for a wrong file.
    """
    required = {"--video-vae": files.video_vae, "--text-encoder": files.text_encoder, "--tokenizer": files.tokenizer}
    absent = [option for option, path in required.items() if path is None]
    if files.video_vae is None or files.text_encoder is None or files.tokenizer is None:
        raise ValueError(f"A transformer alone makes no clip; also give {', '.join(absent)}.")
    config, transformer = load_transformer(
        list(files.model), dtype, config=None if files.preset is None else preset(files.preset)
    )
    if config.audio and not files.audio_vae:
        raise ValueError(f"{files.model[0].name} makes sound; also give --audio-vae.")
    if files.audio_vae and not config.audio:
        raise ValueError(f"{files.model[0].name} makes no sound; leave --audio-vae out.")
    return Bundle(
        config=config,
        transformer=transformer,
        video_vae=load_video_vae(files.video_vae),
        audio_vae=load_audio_vae(list(files.audio_vae)) if config.audio else None,
        text_encoder=load_text_encoder(files.text_encoder, files.tokenizer, dtype, text_len=config.text_len),
        model_card={"files": [path.name for path in files.model]},
    )
