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
        ({"interaction": "local"}, r"interaction is 'local'.*framewise, global, masked, none"),
        ({"rope_alignment": "time"}, r"rope_alignment is 'time'.*timestamp"),
        ({"style_pooling": "mean"}, r"style_pooling is 'mean'"),
        ({"audio_patch_embedding": "conv"}, r"audio_patch_embedding is 'conv'"),
        ({"num_heads": 7}, r"dim \d+ .*num_heads \(7\)"),
        ({"dim": 18, "num_heads": 6}, r"even head size"),
        ({"audio": False}, r"'framewise' needs an audio branch"),
        ({"temporal_stride": 8}, r"temporal stride of 4, not 8"),
        ({"reference_seconds": 0.0}, r"reference_seconds is 0.0, but must be from 0.01 to 60"),
        ({"references": "appended"}, r"'appended' needs interaction 'global', not 'framewise'"),
        ({"references": "first"}, r"references is 'first'.*prepended, appended"),
        ({"num_heads": 0}, "num_heads is 0, but must be 1 or more"),
        ({"prompt_format": "xml"}, r"prompt_format is 'xml'.*separate, ovi, ovi-suffix"),
        ({"a2v_window": -1}, "a2v_window is -1, but must be from 0"),
        ({"v2a_window": -3}, "v2a_window is -3, but must be from 0"),
        ({"freq_dim": 63}, "freq_dim is 63, but must be even"),
        ({"freq_dim": 2**40}, "freq_dim is 1099511627776, but must be at most 16384"),
        ({"num_layers": 10**9}, "num_layers is 1000000000, but must be at most 1024"),
        ({"dim": 10**12}, "dim is 1000000000000, but must be at most 65536"),
        ({"audio_channels": 0}, "audio_channels is 0, but must be 1 or more"),
        ({"width": -64}, "width is -64, but must be 1 or more"),
        ({"sample_rate": 0}, "sample_rate is 0, but must be 1 or more"),
        ({"temporal_stride": 0, "rope_alignment": "index"}, "temporal_stride is 0"),
        ({"spatial_stride": 0}, "spatial_stride is 0"),
        ({"steps": 0}, "steps is 0, but must be 1 or more"),
        ({"steps": 10**6}, "steps is 1000000, but must be at most 10000"),
        ({"eps": -1e-6}, "eps is -1e-06, but must be from 0 to 1"),
        ({"eps": float("nan")}, "eps is nan, but must be from 0 to 1"),
        ({"shift": 0.0}, "shift is 0.0, but must be from 0.001 to 1000"),
        ({"shift": float("inf")}, "shift is inf"),
        ({"video_sync_scale": float("nan")}, "video_sync_scale is nan, but must be from -1000 to 1000"),
        ({"audio_text_scale": float("-inf")}, "audio_text_scale is -inf"),
        ({"audio_reference_scale": 1e9}, r"audio_reference_scale is 1000000000.0"),
        ({"cross_rope_scale": 0.0}, "cross_rope_scale is 0.0"),
        ({"audio_rope_scale": -1.0}, "audio_rope_scale is -1.0"),
        ({"audio_ffn_conv_dim": -8}, "audio_ffn_conv_dim is -8"),
        ({"patch_size": (1, 0, 2)}, r"patch_size is \(1, 0, 2\), but must be three sizes of 1 to 64"),
        ({"patch_size": (1, 2)}, r"patch_size is \(1, 2\)"),
        ({"fps": "0"}, "fps is '0', but must be a number above 0"),
        ({"fps": "-24"}, "fps is '-24'"),
        ({"fps": "1/0"}, "fps is '1/0'"),
        ({"seconds": "nan"}, "seconds is 'nan'"),
        ({"seconds": "1e999999999"}, "seconds is '1e999999999'"),
        ({"audio_latent_rate": "9" * 5000}, "audio_latent_rate is '9{20}', but"),
        ({"num_audio_latents": ((31, 0),)}, r"num_audio_latents has \(31, 0\)"),
        ({"num_audio_latents": ((31,),)}, r"num_audio_latents has \(31,\)"),
    ],
)
def test_values_that_do_not_fit(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset("harmony-tiny").with_(**changes)


@pytest.mark.parametrize("name", ["vocab_size", "max_len", "dim", "num_blocks", "conv_mult"])
@pytest.mark.parametrize(("value", "message"), [(0, "is 0, but must be 1 or more"), (2**40, "but must be at most")])
def test_speech_sizes_that_do_not_fit(name: str, value: int, message: str) -> None:
    values = preset("harmony-tiny").to_dict()
    values["speech"] = dict(values["speech"], **{name: value})
    with pytest.raises(ValueError, match=rf"^{name} .*{message}"):
        HarmonyConfig.from_dict(values)


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
