"""Device memory that is computed from shapes."""

from __future__ import annotations

from harmony_core.pipelines.memory import memory_table, parameters, peak_bytes
from harmony_core.presets import preset


def test_parameter_counts_are_the_published_ones() -> None:
    assert parameters(preset("wan2.2-ti2v-5b"))["transformer"] == 4_999_787_712
    assert parameters(preset("ovi-11b"))["transformer"] == 11_660_753_108
    assert "audio autoencoder" not in parameters(preset("wan2.2-ti2v-5b"))


def test_offloading_needs_less() -> None:
    for name in ("wan2.2-ti2v-5b", "ovi-11b", "harmony-5b"):
        peaks = peak_bytes(preset(name), "bfloat16")
        assert peaks["none"] > peaks["model"] > peaks["layers"] > 0
        assert peak_bytes(preset(name), "float32")["layers"] > peaks["layers"] / 2
        assert "--offload layers" in memory_table(preset(name))
