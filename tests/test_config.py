"""HarmonyConfig is strict and survives JSON."""

from __future__ import annotations

import json

import pytest

from harmony_core.config import HarmonyConfig
from harmony_core.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = preset(name)
    again = HarmonyConfig.from_json(config.to_json())
    assert again == config
    assert hash(again) == hash(config)  # windows are cached by config
    assert json.loads(config.to_json()) == json.loads(again.to_json())


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'harmony-7b'.*harmony-tiny"):
        preset("harmony-7b")


def test_unknown_and_missing_keys_are_named() -> None:
    values = preset("harmony-tiny").to_dict()
    del values["dim"]
    with pytest.raises(ValueError, match=r"unknown: colour; missing: dim"):
        HarmonyConfig.from_dict(values | {"colour": "red"})


@pytest.mark.parametrize("name", ["seconds", "height", "width"])
def test_a_config_without_its_clip_is_refused(name: str) -> None:
    values = preset("harmony-tiny").to_dict()
    del values[name]
    with pytest.raises(ValueError, match=f"missing: {name}"):
        HarmonyConfig.from_dict(values)


def test_a_reference_is_as_long_as_its_checkpoint_heard() -> None:
    """Files from before the setting are heard as they were."""
    values = preset("harmony-tiny").to_dict()
    del values["reference_seconds"]
    assert HarmonyConfig.from_dict(values) == preset("harmony-tiny")
    assert preset("harmony-tiny").reference_seconds == 0.48
    assert preset("harmony-5b").reference_seconds == 2.0


def test_unknown_speech_keys_are_named() -> None:
    values = preset("harmony-tiny").to_dict()
    values["speech"] = dict(values["speech"], volume=11)
    with pytest.raises(ValueError, match=r"SpeechConfig.*unknown: volume"):
        HarmonyConfig.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interaction": "local"}, r"interaction is 'local'.*framewise, global, none"),
        ({"rope_alignment": "time"}, r"rope_alignment is 'time'.*timestamp"),
        ({"style_pooling": "mean"}, r"style_pooling is 'mean'"),
        ({"audio_patch_embedding": "conv"}, r"audio_patch_embedding is 'conv'"),
        ({"num_heads": 7}, r"dim \d+ .*num_heads \(7\)"),
        ({"dim": 18, "num_heads": 6}, r"even head size"),
        ({"audio": False}, r"'framewise' needs an audio branch"),
        ({"temporal_stride": 8}, r"temporal stride of 4, not 8"),
        ({"reference_seconds": 0.0}, r"reference_seconds is 0.0, but must be a number above 0"),
        ({"references": "appended"}, r"'appended' needs interaction 'global', not 'framewise'"),
        ({"references": "first"}, r"references is 'first'.*prepended, appended"),
        ({"num_heads": 0}, "num_heads is 0, but must be 1 or more"),
        ({"prompt_format": "xml"}, r"prompt_format is 'xml'.*separate, ovi, ovi-suffix"),
    ],
)
def test_values_that_do_not_fit(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset("harmony-tiny").with_(**changes)


def test_values_of_another_kind() -> None:
    values = preset("harmony-tiny").to_dict()
    for changes, message in (
        ({"dim": "160"}, "dim is '160', but must be of type int"),
        ({"speech": 3}, "speech is 3, but must be settings or null"),
        ({"speech": {"dim": "wide"}}, "SpeechConfig.dim is 'wide'"),
    ):
        with pytest.raises(ValueError, match=message):
            HarmonyConfig.from_dict(values | changes)


def test_head_is_split_as_in_wan() -> None:
    assert preset("wan2.2-ti2v-5b").head_dim == 128
    assert preset("wan2.2-ti2v-5b").rope_dims == (44, 42, 42)
    assert sum(preset("harmony-tiny").rope_dims) == preset("harmony-tiny").head_dim


def test_the_5b_model_is_wan_with_an_audio_branch() -> None:
    wan, harmony = preset("wan2.2-ti2v-5b"), preset("harmony-5b")
    for name in ("dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "video_channels", "patch_size"):
        assert getattr(wan, name) == getattr(harmony, name)
    assert (wan.audio, harmony.audio, harmony.interaction) == (False, True, "framewise")
    assert (harmony.video_sync_scale, harmony.audio_sync_scale) == (3.0, 2.0)  # paper 4.1


def test_ovi_has_its_own_guidance_and_prompts() -> None:
    for name, text_scales in (("ovi-11b", (4.0, 3.0)), ("ovi-11b-960", (4.0, 3.0)), ("dreamid-omni", (3.0, 4.0))):
        config = preset(name)
        assert (config.video_text_scale, config.audio_text_scale, config.steps) == (*text_scales, 50)
        assert (config.video_sync_scale, config.audio_sync_scale) == (1.0, 1.0)
        assert "jitter" in config.negative_prompt
        assert "robotic" in config.negative_audio_prompt
    assert preset("ovi-11b-960").prompt_format == "ovi-suffix"
    assert preset("harmony-5b").prompt_format == "separate"
    assert preset("wan2.2-ti2v-5b").negative_prompt
