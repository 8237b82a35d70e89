"""umT5 in Wan's and Hugging Face's names, and prompts as Wan reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harmony_core.checkpoints import CheckpointError
from harmony_core.checkpoints.layout import map_keys
from harmony_core.checkpoints.parts import load_text_encoder
from harmony_core.checkpoints.wan import UMT5
from harmony_core.text.umt5 import clean

transformers = pytest.importorskip("transformers")

KEYMAP = Path(__file__).parents[1] / "fixtures" / "umt5" / "keymap_wan_to_hf.json"
WORDS = ("<pad>", "</s>", "<unk>", "a", "ball", "hits", "wood", "&")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word tokeniser that ends every text with </s> and pads with id 0, as umT5's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = tmp_path_factory.mktemp("tokenizer")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.UMT5Config(
        vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, relative_attention_num_buckets=8
    )
    model = transformers.UMT5EncoderModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def weights(model: torch.nn.Module, layout: str) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    if layout == "hf":
        return {key: value.clone() for key, value in state.items()}
    return {wan: state[hf].clone() for wan, hf in json.loads(KEYMAP.read_text()).items()}


def test_the_recorded_key_map() -> None:
    recorded = json.loads(KEYMAP.read_text())
    sources, strange = map_keys(UMT5, recorded)
    assert not strange
    assert sources == {hf: wan for wan, hf in recorded.items()}


@pytest.mark.parametrize("layout", ["wan", "hf"])
def test_features_are_transformers_own(
    theirs: torch.nn.Module, tokenizer_folder: Path, tmp_path: Path, layout: str
) -> None:
    path = tmp_path / "umt5.safetensors"
    save_file(weights(theirs, layout), path)
    encoder = load_text_encoder(path, tokenizer_folder, torch.float32, text_len=10)
    features, notes = encoder.encode(["a  ball hits\nwood", "ball"])
    assert features.shape == (2, 10, 24)
    assert not notes
    ids = torch.tensor([[3, 4, 5, 6, 1] + [0] * 5, [4, 1] + [0] * 8])
    mask = (ids != 0).long()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(features, expected * mask[..., None], atol=1e-6)
    assert features[0, 5:].abs().max() == 0
    assert features[0, :5].abs().amax(dim=-1).min() > 0


def test_the_token_table_is_held_once(theirs: torch.nn.Module, tokenizer_folder: Path, tmp_path: Path) -> None:
    save_file(weights(theirs, "wan"), tmp_path / "umt5.safetensors")
    encoder = load_text_encoder(tmp_path / "umt5.safetensors", tokenizer_folder, torch.bfloat16)
    assert encoder.model.shared.weight is encoder.model.encoder.embed_tokens.weight
    assert encoder.model.shared.weight.dtype == torch.bfloat16


def test_a_long_prompt_is_cut_and_keeps_its_end(
    theirs: torch.nn.Module, tokenizer_folder: Path, tmp_path: Path
) -> None:
    save_file(weights(theirs, "wan"), tmp_path / "umt5.safetensors")
    encoder = load_text_encoder(tmp_path / "umt5.safetensors", tokenizer_folder, torch.float32, text_len=4)
    ids, mask, notes = encoder.tokenize(["a ball hits wood"])
    assert ids.tolist() == [[3, 4, 5, 1]]
    assert mask.tolist() == [[1, 1, 1, 1]]
    assert notes == ("The prompt has 5 tokens; the text encoder reads the first 4.",)


def test_prompts_are_cleaned_as_wan_does() -> None:
    assert clean("  a &amp;amp; b\n\t c  ") == "a & b c"
    assert clean("&lt;S&gt;hi&lt;E&gt;") == "<S>hi<E>"


def test_other_files_are_named(tokenizer_folder: Path, tmp_path: Path) -> None:
    save_file({"text_model.embeddings.weight": torch.zeros(1)}, tmp_path / "clip.safetensors")
    with pytest.raises(CheckpointError, match=r"clip\.safetensors is none of: umT5 in Wan's layout; .*text_model"):
        load_text_encoder(tmp_path / "clip.safetensors", tokenizer_folder)
