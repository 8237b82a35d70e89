"""Published kinds of files at toy size: real classes, random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MMAUDIO = Path(__file__).parent / "fixtures" / "mmaudio"
WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "ball", "hits", "wood", "hello")
TEXT_DIM = 24


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """name -> file: `wan`, `ovi`, `ovi_video` and `ovi_audio`, `harmony`, `video_vae`, `audio_vae`, `vocoder`,
    `text_encoder`, `tokenizer`."""
    pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("parts")
    return {
        **_transformers(folder),
        "video_vae": _video_vae(folder),
        "audio_vae": MMAUDIO / "vae_weights_raw_unnormalised.safetensors",
        "vocoder": MMAUDIO / "vocoder_weights_weightnorm.safetensors",
        "text_encoder": _text_encoder(folder, transformers),
        "tokenizer": _tokenizer(folder, transformers),
    }


def _transformers(folder: Path) -> dict[str, Path]:
    """One head of 128, so that a file without a config tells its sizes. Heads are random, or every clip is the same."""
    from harmony_core.config import SpeechConfig
    from harmony_core.model import HarmonyTransformer
    from harmony_core.model.initialize import initialize
    from harmony_core.presets import preset

    toy = {"dim": 128, "ffn_dim": 160, "num_heads": 1, "num_layers": 2, "freq_dim": 32, "text_dim": TEXT_DIM}
    toy |= {"height": 32, "width": 32, "seconds": "9/24", "steps": 2}
    changes = {
        "wan": ("wan2.2-ti2v-5b", {}),
        "ovi": ("ovi-11b", {"audio_ffn_conv_dim": 32}),
        "harmony": ("harmony-5b", {"speech": SpeechConfig(vocab="letters", vocab_size=28, max_len=16, dim=32)}),
    }
    files = {}
    for name, (base, own) in changes.items():
        config = preset(base).with_(**toy, **own)
        model = HarmonyTransformer(config)
        generator = torch.Generator().manual_seed(1)
        initialize(model, generator)
        for key, parameter in model.named_parameters():
            if ".o." in key or "head.head" in key:
                parameter.data.normal_(std=0.1, generator=generator)
        tensors = {key: value.clone() for key, value in model.state_dict().items()}
        files[name] = folder / f"{name}.safetensors"
        save_file(tensors, files[name], metadata={"config": json.dumps({"transformer": config.to_dict()})})
    return files


def _video_vae(folder: Path) -> Path:
    from harmony_core.autoencoders.video import WanVideoVAE

    torch.manual_seed(0)
    vae = WanVideoVAE({"base_dim": 8, "decoder_base_dim": 8})
    path = folder / "wan2.2_vae.safetensors"
    save_file({key: value.contiguous() for key, value in vae.vae.state_dict().items()}, path)
    return path


def _text_encoder(folder: Path, transformers) -> Path:
    torch.manual_seed(0)
    config = transformers.UMT5Config(
        vocab_size=len(WORDS), d_model=TEXT_DIM, d_kv=8, d_ff=40, num_layers=2, num_heads=3
    )
    model = transformers.UMT5EncoderModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    path = folder / "umt5.safetensors"
    save_file({key: value.clone() for key, value in model.state_dict().items()}, path)
    return path


def _tokenizer(folder: Path, transformers) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    path = folder / "tokenizer"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    return path
