"""SyncCFG on ComfyUI's native LTX-2 model class, tiny and with random weights.

python ltxav.py COMFYUI_TREE
"""

from __future__ import annotations

import sys

from refusals import message_of

from tools.comfyui.install import REPOSITORY
from tools.comfyui.pack import load_pack

load_pack(sys.argv[1])
sys.path.append(str(REPOSITORY / "tests" / "host" / "probe_nodes"))

import comfy.model_patcher  # noqa: E402
import comfy.nested_tensor  # noqa: E402
import comfy.samplers  # noqa: E402
import torch  # noqa: E402
from core_models import LTX_WIDTH, ltxav  # noqa: E402
from harmony_pack.harmony_core.diffusion.guidance import Isolated, SkipLayer, SyncCFG, TextCFG  # noqa: E402
from harmony_pack.nodes.host.guider import SyncCFGGuider  # noqa: E402
from harmony_pack.nodes.host.sampler import check_model  # noqa: E402

VIDEO, AUDIO = (1, 128, 3, 2, 2), (1, 8, 9, 16)


def nested(*tensors: torch.Tensor) -> comfy.nested_tensor.NestedTensor:
    return comfy.nested_tensor.NestedTensor(tensors)


def random_pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VIDEO, generator=generator), torch.randn(AUDIO, generator=generator)


def run(
    guider: comfy.samplers.CFGGuider, latent: tuple, mask: tuple | None = None, sigmas: tuple = (1.0, 0.6, 0.0)
) -> list[torch.Tensor]:
    """Two Euler steps from one noise; [video, audio]."""
    sampler = comfy.samplers.sampler_object("euler")
    masks = None if mask is None else nested(*mask)
    noise = nested(*random_pair(1))
    return guider.sample(noise, nested(*latent), sampler, torch.tensor(sigmas), masks, seed=1).unbind()


def check_other_negatives(patcher: comfy.model_patcher.ModelPatcher, positive: list) -> None:
    """One step away from two deaf streams and from a skipped layer, both made with core's own switches."""
    latent, sigmas = (torch.zeros(VIDEO), torch.zeros(AUDIO)), (0.8, 0.0)

    def plain(changed: comfy.model_patcher.ModelPatcher) -> list[torch.Tensor]:
        core = comfy.samplers.CFGGuider(changed)
        core.set_conds(positive, positive)
        core.set_cfg(1.0)
        return run(core, latent, sigmas=sigmas)

    deaf, shallow = patcher.clone(), patcher.clone()
    deaf.model_options["transformer_options"] |= {"a2v_cross_attn": False, "v2a_cross_attn": False}
    shallow.set_model_patch_replace(lambda args, _: args, "dit", "double_block", 1)
    joint, isolated, skipped = plain(patcher), plain(deaf), plain(shallow)
    extra = scales(Isolated, 1.5, 3), scales(SkipLayer, 2, 1.25, layers=(1,))
    guider = SyncCFGGuider(patcher, scales(SyncCFG, 1, 1), scales(TextCFG, 1, 1), random_pair(2), extra)
    guider.inner_set_conds({"positive": positive})
    for index, guided in enumerate(run(guider, latent, sigmas=sigmas)):
        strength = [(0.5, 1.0), (2.0, 0.25)][index]
        negatives = isolated[index], skipped[index]
        deltas = [s * (joint[index] - negative) for s, negative in zip(strength, negatives, strict=True)]
        assert all(delta.abs().max() > 1e-4 for delta in deltas)
        torch.testing.assert_close(guided, joint[index] + sum(deltas), atol=1e-5, rtol=0)


def main() -> None:
    torch.manual_seed(0)
    patcher = ltxav()
    positive = [[torch.randn(1, 128, 2 * LTX_WIDTH, generator=torch.Generator().manual_seed(3)), {"frame_rate": 25}]]
    negative = [[torch.randn(1, 128, 2 * LTX_WIDTH, generator=torch.Generator().manual_seed(4)), {"frame_rate": 25}]]
    empty = torch.zeros(VIDEO), torch.zeros(AUDIO)
    anchors = random_pair(2)

    seen = []
    original = type(patcher.model).process_timestep

    def spy(self, timestep, *args, **kwargs):
        result = original(self, timestep, *args, **kwargs)
        parts = result if isinstance(result, tuple) else (result, result)
        seen.append(tuple(round(float(part.max()), 4) for part in parts))
        return result

    type(patcher.model).process_timestep = spy

    core = comfy.samplers.CFGGuider(patcher)
    core.set_conds(positive, negative)
    core.set_cfg(3.0)
    expected = run(core, empty)
    off = SyncCFGGuider(patcher, scales(SyncCFG, 1, 1), scales(TextCFG, 3, 3), anchors)
    off.inner_set_conds({"positive": positive, "negative": negative})
    actual = run(off, empty)
    for one, other in zip(expected, actual, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)

    seen.clear()
    on = SyncCFGGuider(patcher, scales(SyncCFG, 3, 2), scales(TextCFG, 1, 1), anchors)
    on.inner_set_conds({"positive": positive})
    guided = run(on, empty)
    assert sorted(seen[:3]) == [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)], seen
    assert len(seen) == 6, seen
    for one, other in zip(expected, guided, strict=True):
        assert not torch.allclose(one, other, atol=1e-3)

    seen.clear()
    sound = random_pair(5)[1]
    mask = torch.ones(1, 1, *VIDEO[2:]), torch.zeros(1, 1, *AUDIO[2:])
    driven = run(on, (torch.zeros(VIDEO), sound), mask)
    assert seen[:2] == [(1.0, 0.0)] * 2, seen
    assert len(seen) == 4, seen
    torch.testing.assert_close(driven[1], sound, atol=1e-5, rtol=0)

    message = message_of(check_model, patcher)
    assert "not LTXAV. For LTX-2 use Harmony SyncCFG" in message, message

    check_other_negatives(patcher, positive)
    print("ok")


def scales(kind: type, video: float, audio: float, **options):
    return kind(video_scale=float(video), audio_scale=float(audio), **options)


if __name__ == "__main__":
    with torch.no_grad():
        main()
