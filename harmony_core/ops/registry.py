"""Which implementation of an op runs where.

An op runs on CPU by torch, on CUDA and HIP devices by Triton if Triton can compile it there and its results agree with
the naive implementation's, else by torch. `HARMONY_<OP>` in the environment, or `use(op, name)`, decides instead.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable

import torch
from torch import Tensor

from .constant import compile_time_constant
from .framewise_attention.naive import Groups
from .rope import RopeTable, rope_table

log = logging.getLogger(__name__)

# Op -> name -> module and function. The first name is the default without Triton.
IMPLEMENTATIONS = {
    "framewise_attention": {
        "sdpa": (".framewise_attention.sdpa", "framewise_attention_sdpa"),
        "naive": (".framewise_attention.naive", "framewise_attention_naive"),
        "triton": (".framewise_attention.triton", "framewise_attention_triton"),
    },
    "qk_norm_rope": {
        "torch": (".qk_norm_rope.torch_", "qk_norm_rope_torch"),
        "naive": (".qk_norm_rope.naive", "qk_norm_rope_naive"),
        "triton": (".qk_norm_rope.triton", "qk_norm_rope_triton"),
    },
}

TOLERANCES = {torch.float32: 5e-3, torch.bfloat16: 5e-2}  # relative to the largest value; float32 may be tf32

_forced: dict[str, str] = {}
_resolved: dict[tuple[str, str], str] = {}  # (op, device type) -> key of _loaded
_loaded: dict[str, Callable] = {}


def use(op: str, name: str | None) -> None:
    """Run `op` by the implementation called `name` from now on; None goes back to the registry's own choice.

    Code that torch.compile has already compiled keeps the implementation that it was compiled with.

    Raises:
        ValueError: an unknown op or name.
    """
    if op not in IMPLEMENTATIONS:
        raise ValueError(f"There is no op {op!r}; choose one of {', '.join(IMPLEMENTATIONS)}.")
    if name is None:
        _forced.pop(op, None)
    else:
        _check(op, name, f"{op} implementation")
        _forced[op] = name
    for key in [key for key in _resolved if key[0] == op]:
        del _resolved[key]


def implementation(op: str, name: str) -> Callable:
    """One implementation by name, whatever the device."""
    module, function = IMPLEMENTATIONS[op][name]
    return getattr(importlib.import_module(module, __package__), function)


def resolve(op: str, device_type: str) -> Callable:
    """The implementation of `op` for a device type: decided, and logged, at its first use there.

    Raises:
        ValueError: the environment names an unknown implementation.
    """
    return _loaded[_resolve_name(op, device_type)]


@compile_time_constant
def _resolve_name(op: str, device_type: str) -> str:
    key = (op, device_type)
    if key not in _resolved:
        name, reason = _choose(op, device_type)
        log.info("%s on %s: %s (%s)", op, device_type, name, reason)
        _resolved[key] = f"{op}/{name}"
        _loaded[_resolved[key]] = implementation(op, name)
    return _resolved[key]


def _choose(op: str, device_type: str) -> tuple[str, str]:
    variable = f"HARMONY_{op.upper()}"
    if op in _forced:
        return _forced[op], "asked for"
    if variable in os.environ:
        return _check(op, os.environ[variable], variable), variable
    fallback = next(iter(IMPLEMENTATIONS[op]))
    if device_type != "cuda":  # also the type of HIP devices
        return fallback, "Triton kernels are for CUDA and HIP devices"
    if "triton" not in IMPLEMENTATIONS[op]:
        return fallback, "there is no Triton kernel of it"
    trouble = self_check(op, device_type)
    return (fallback, trouble) if trouble else ("triton", "compiled, and agrees with the naive implementation")


def _check(op: str, name: str, what: str) -> str:
    if name not in IMPLEMENTATIONS[op]:
        raise ValueError(f"{what} is {name!r}; choose one of {', '.join(IMPLEMENTATIONS[op])}.")
    return name


def self_check(op: str, device_type: str) -> str:
    """Why the Triton implementation of `op` cannot be used on this device; empty if it can."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for dtype, tolerance in TOLERANCES.items():
                runs = (_CHECKS[op](implementation(op, name), device_type, dtype) for name in ("triton", "naive"))
                error = _disagreement(*runs)
                if not error < tolerance:
                    return f"Triton is off by {error:.1e} in {dtype}"
    except Exception as trouble:  # whatever a compiler or driver raises, torch can do the work
        return f"Triton failed: {type(trouble).__name__}: {(str(trouble).strip() or 'no message').splitlines()[0]}"
    return ""


def _disagreement(results: list[Tensor], expected: list[Tensor]) -> float:
    """Largest error, relative to the largest value of each result; NaN counts as infinite."""
    pairs = [(a.float(), b.float()) for a, b in zip(results, expected, strict=True)]
    errors = [(a - b).abs().max() / b.abs().max() for a, b in pairs]
    return max(float(error.nan_to_num(nan=float("inf"))) for error in errors)


def _with_gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> list[Tensor]:
    weights = [torch.linspace(-1, 1, out.numel(), device=out.device, dtype=out.dtype).view_as(out) for out in outputs]
    return [*(out.detach() for out in outputs), *torch.autograd.grad(outputs, inputs, weights)]


def _draw(shape: tuple[int, ...], seed: int, device_type: str, dtype: torch.dtype) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(device_type, dtype).requires_grad_()


def _check_framewise_attention(op: Callable, device_type: str, dtype: torch.dtype) -> list[Tensor]:
    groups = ((0, 3, 0, 20), (3, 40, 2, 37), (40, 41, 9, 45))
    q, k, v = (_draw((2, length, 2, 64), length + i, device_type, dtype) for i, length in enumerate((41, 46, 46)))
    tables = [
        tuple(part.to(device_type) for part in rope_table(torch.arange(x.shape[1])[None] * 0.7, 20)) for x in (q, k)
    ]
    return _with_gradients((op(q, k, v, groups, *tables),), [q, k, v])


def _check_qk_norm_rope(op: Callable, device_type: str, dtype: torch.dtype) -> list[Tensor]:
    q, k = (_draw((2, 7, 3 * 64), seed, device_type, dtype) for seed in (1, 2))
    weights = [_draw((3 * 64,), seed, device_type, dtype) for seed in (3, 4)]
    table = tuple(part.to(device_type) for part in rope_table(torch.arange(7)[None] * 0.7, 20))
    return _with_gradients(op(q, k, *weights, 3, table, 1e-6), [q, k, *weights])


_CHECKS = {"framewise_attention": _check_framewise_attention, "qk_norm_rope": _check_qk_norm_rope}


def framewise_attention(
    q_BLHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    groups: Groups,
    rope_q: RopeTable | None = None,
    rope_k: RopeTable | None = None,
) -> Tensor:
    """See `framewise_attention_naive`."""
    return resolve("framewise_attention", q_BLHD.device.type)(q_BLHD, k_BSHD, v_BSHD, groups, rope_q, rope_k)


def qk_norm_rope(
    q_BLD: Tensor, k_BLD: Tensor, weight_q_D: Tensor, weight_k_D: Tensor, num_heads: int, rope: RopeTable, eps: float
) -> tuple[Tensor, Tensor]:
    """See `qk_norm_rope_naive`."""
    op = resolve("qk_norm_rope", q_BLD.device.type)
    return op(q_BLD, k_BLD, weight_q_D, weight_k_D, num_heads, rope, eps)
