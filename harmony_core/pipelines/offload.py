"""Where the weights are while a clip is made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..model.blocks import SelfAttention
from ..model.layers import norm_then_rope

OFFLOADS = ("none", "model", "layers")


class Placement:
    """Keeps modules on `device`, or brings them there for as long as they are used.

    Results do not depend on `offload`, memory does: `none` holds everything on the device; `model` one module at a
    time; `layers` streams the `streamed` modules layer by layer from host memory, and treats the others as `model`.

    Args:
        whole: modules that are needed as one (their methods are called, not their layers' alone).
        streamed: modules whose layers can come one by one.

    Raises:
        ValueError: an unknown `offload`.
    """

    def __init__(
        self, whole: Sequence[nn.Module], streamed: Sequence[nn.Module], device: torch.device, offload: str
    ) -> None:
        if offload not in OFFLOADS:
            raise ValueError(f"offload is {offload!r}; choose one of {', '.join(OFFLOADS)}.")
        self.device, self._hooks = device, {}
        swapped = {"none": (), "model": (*whole, *streamed), "layers": whole}[offload]
        for module in (*whole, *streamed):
            if module in swapped:
                self._swap(module)
            elif offload == "layers":
                self._stream(module)
            else:
                module.to(device)

    def use(self, module: nn.Module) -> None:
        """Bring `module` to the device, and send away whichever other one is there."""
        if module not in self._hooks:
            return
        for other, hook in self._hooks.items():
            if other is not module:
                hook.offload()
        hook = self._hooks[module]
        hook.hook.pre_forward(module)

    def _swap(self, module: nn.Module) -> None:
        from accelerate import cpu_offload_with_hook

        self._hooks[module] = cpu_offload_with_hook(module, self.device)[1]

    def _stream(self, module: nn.Module) -> None:
        """accelerate fetches a module's own weights for its `forward`; the fused op would read the norms' outside."""
        from accelerate import cpu_offload

        cpu_offload(module, self.device)
        for part in module.modules():
            if isinstance(part, SelfAttention):
                part.qk_norm_rope = norm_then_rope
