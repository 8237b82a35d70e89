"""ODE solvers on denoised predictions.

Each takes `denoise(x, sigma, step) -> clean estimate` and steps `x` through `sigmas`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..quoting import quoted
from .latents import AVLatents

Denoise = Callable[[AVLatents, Tensor, int], AVLatents]
Callback = Callable[[int, AVLatents], None]  # (step, clean estimate)


def euler(denoise: Denoise, x: AVLatents, sigmas: Tensor, callback: Callback) -> AVLatents:
    """First order: x moves along (x - clean) / sigma."""
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        clean = denoise(x, sigma, step)
        x = x.map(lambda x, clean, a=sigma, b=following: x + (x - clean) / a * (b - a), clean)
        callback(step, clean)
    return x


def dpmpp_2m(denoise: Denoise, x: AVLatents, sigmas: Tensor, callback: Callback) -> AVLatents:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2) for alpha = 1 - sigma, in float64 half-log-SNR.

    The first step and any step from pure noise are first order; the step to zero noise is its limit.
    """
    log_snr = torch.log((1 - sigmas.double()) / sigmas.double())
    previous: AVLatents | None = None
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        clean = denoise(x, sigma, step)
        width = log_snr[step + 1] - log_snr[step]
        target = clean
        if previous is not None and torch.isfinite(width) and torch.isfinite(log_snr[step - 1]):
            ratio = float((log_snr[step] - log_snr[step - 1]) / width)
            target = clean.map(lambda now, before, r=ratio: now + (now - before) / (2 * r), previous)
        keep = float(following / sigma)
        add = float(-(1 - following) * torch.expm1(-width))
        x = x.map(lambda x, target, keep=keep, add=add: keep * x + add * target, target)
        previous = clean
        callback(step, clean)
    return x


SOLVERS = {"euler": euler, "dpmpp_2m": dpmpp_2m}


def solver(name: str) -> Callable[[Denoise, AVLatents, Tensor, Callback], AVLatents]:
    """The named solver; a wrong name is an error that lists them."""
    if name not in SOLVERS:
        raise ValueError(f"Unknown solver {quoted(name)}. Solvers: {', '.join(SOLVERS)}.")
    return SOLVERS[name]
