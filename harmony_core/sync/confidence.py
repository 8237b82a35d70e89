"""How sure a lag is: a logistic function of what the agreement of picture and sound looked like.

Its coefficients come from clips of known lag, and were tried on others:

    python -m benchmarks.sync_confidence
"""

from __future__ import annotations

import math

FEATURES = ("margin", "least_margin", "over_chance", "best_kind")
COEFFICIENTS = (0.79, 0.99, 3.40, 4.52)
CONSTANT = 2.43  # 0.6 below the fit: the strictest with which 81 % of the right lags of other clips are told


def features(evidence: dict[str, float]) -> tuple[float, ...]:
    """Logarithms of four ratios from the evidence of an `Agreement`, in the order of `FEATURES`.

    How far the best lag stands above the others, and how far when the part of the clip that favours it most is left
    out; how often it is the most that chance gives; how well the kind of curve that agrees best does.
    """
    ratios = (
        max(evidence["margin"], 0.05),
        max(evidence["least_margin"], 0.05),
        max(evidence["top"], 1e-3) / max(evidence["most_chance"], 0.05),
        max(evidence["best_kind"], 0.01),
    )
    return tuple(math.log(ratio) for ratio in ratios)


def confidence(evidence: dict[str, float]) -> float:
    """0..1; from 0.5 a lag is told."""
    logit = sum(factor * value for factor, value in zip(COEFFICIENTS, features(evidence), strict=True)) + CONSTANT
    return 1 / (1 + math.exp(-logit))
