"""The derived exponents of the plane, region by region, and the boundary of Luo et al."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from regimes.experiments.lazy.scaled_nets import one_sample_course


class Region(NamedTuple):
    """A part of the plane: its name, whether (γ, γ') lies inside, and the exponent there.

    Both are linear in γ and γ': inside is where every one of `margins` is positive.
    """

    name: str
    margins: tuple[tuple[float, float, float], ...]  # (c, c_γ, c_γ'): c + c_γ γ + c_γ' γ' > 0
    exponent: tuple[float, float, float]

    def holds(self, gamma: float, gamma_prime: float) -> bool:
        """Whether the point lies inside, not on an edge."""
        return all(_value(margin, gamma, gamma_prime) > 1e-9 for margin in self.margins)


REGIONS = (
    Region("linear, γ < 1, γ' < 0: γ − 1", ((1.0, -1.0, 0.0), (0.0, 0.0, -1.0)), (-1.0, 1.0, 0.0)),
    Region("linear, γ < 1, γ' > 0: γ − 1 − 2γ'", ((1.0, -1.0, 0.0), (0.0, 0.0, 1.0)), (-1.0, 1.0, -2.0)),
    Region("linear, 1 < γ < 1 + γ': 2(γ − 1 − γ')", ((-1.0, 1.0, 0.0), (1.0, -1.0, 1.0)), (-2.0, 2.0, -2.0)),
    Region("condensed, 1 < γ < 1 − γ': γ − 1", ((-1.0, 1.0, 0.0), (1.0, -1.0, -1.0)), (-1.0, 1.0, 0.0)),
    Region("condensed, γ > 1 + |γ'|: (γ − 1 − γ')/2", ((-1.0, 1.0, 1.0), (-1.0, 1.0, -1.0)), (-0.5, 0.5, -0.5)),
)


@cache
def region(gamma: float, gamma_prime: float) -> Region | None:
    """The region of the point; None on an edge between two."""
    return next((one for one in REGIONS if one.holds(gamma, gamma_prime)), None)


def exponent(gamma: float, gamma_prime: float) -> float:
    """Exponent of the relative motion of the input weights in the width, as the width grows."""
    if gamma <= 1:
        return gamma - 1 - 2 * max(gamma_prime, 0.0)
    if gamma - 1 <= gamma_prime:
        return 2 * (gamma - 1 - gamma_prime)
    return min(gamma - 1, (gamma - 1 - gamma_prime) / 2)


def boundary(gamma_prime: float) -> float:
    """γ of the critical line: 1 for γ' ≤ 0, 1 + γ' for γ' > 0. Source: [Luo2021] figure 1 and theorems 1 and 2."""
    return 1 + max(gamma_prime, 0.0)


def one_sample_motion(width: int, gamma: float, gamma_prime: float, strength: float) -> float:
    """‖w − w_0‖/‖w_0‖ of the linear net of one sample at this width: √((cosh τ − 1)² + κ'² sinh² τ)."""
    scale, ratio = (torch.tensor(width, dtype=torch.float64) ** -power for power in (gamma, gamma_prime))
    tau = float(one_sample_course(width, scale, ratio, strength))
    return math.hypot(2 * math.sinh(tau / 2) ** 2, float(ratio) * math.sinh(tau))


def one_sample_exponent(widths: Sequence[int], gamma: float, gamma_prime: float, strength: float) -> float:
    """Slope of log motion against log width over these widths, for the linear net of one sample."""
    motions = [one_sample_motion(width, gamma, gamma_prime, strength) for width in widths]
    return float(np.polyfit(np.log(widths), np.log(motions), 1)[0])


def _value(linear: tuple[float, float, float], gamma: float, gamma_prime: float) -> float:
    return linear[0] + linear[1] * gamma + linear[2] * gamma_prime
