"""How long steps of a method may be: its stability function, its region, and the radius of circle contractivity.

A field with ⟨f(x) − f(y), x − y⟩ ≤ −‖f(x) − f(y)‖²/c, such as −Aᵀσ(Az + b) with 0 ≤ σ' ≤ 1 and c = ‖A‖², is stepped
without moving any two states apart if h ≤ 2r/c, r the method's radius of circle contractivity. Proof: with Δ the
differences of two runs, Z_i the stages, K_i their velocities, m_ij = b_i a_ij + b_j a_ji − b_i b_j,
    ‖Δz⁺‖² = ‖Δz‖² + 2h Σ_i b_i ⟨ΔK_i, ΔZ_i⟩ − h² Σ_ij m_ij ⟨ΔK_i, ΔK_j⟩
           ≤ ‖Δz‖² − h² Σ_ij (m_ij + 2b_i δ_ij/(hc)) ⟨ΔK_i, ΔK_j⟩   where b ≥ 0,
and the last sum is not negative if M + diag(b)/r ≥ 0 and h ≤ 2r/c. The radius is the largest r for which this holds.
For time-dependent fields it is sharp; for others and a single method it is a sufficient condition.
Source: [DahlquistJeltsch2006].
"""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Inexact
from torch import Tensor

from regimes.checks import finite, kind, positive, real, shapes
from regimes.control.tableau import Tableau

ROUNDING = 1e-12  # of coefficients of size 1
LOOKS = 2001  # places at which an interval is looked at once more


def contractivity_radius(tableau: Tableau) -> float:
    """The largest r with M + diag(b)/r ≥ 0: inf for algebraically stable methods, 0 where no step is contractive.

    Stages on which the end of the step does not depend are left out. A weight b_i < 0, or one of 0 for a stage that
    counts, gives 0. Euler, Heun and Kutta's fourth-order method: 1.
    """
    kind("contractivity_radius", "tableau", tableau, Tableau, "a Tableau such as KUTTA4")
    a, b = _that_count(tableau)
    if (b <= ROUNDING).any():
        return 0.0
    m = b[:, None] * a + (b[:, None] * a).T - np.outer(b, b)
    least = float(np.linalg.eigvalsh(m / np.sqrt(np.outer(b, b)))[0])
    return math.inf if least > -ROUNDING else -1 / least


def contractive_step(tableau: Tableau, norm: float) -> float:
    """2r/‖A‖²: up to this step the method moves no two states of z' = −Aᵀσ(Az + b), 0 ≤ σ' ≤ 1, apart.

    inf or 0 where the quotient is beyond what a float holds.
    """
    positive("contractive_step", "norm", norm, single=True)
    return 2 * contractivity_radius(tableau) / float(norm) / float(norm)


def stability_function(tableau: Tableau, w: Inexact[Tensor, "*points"]) -> Inexact[Tensor, "*points"]:
    """R(w) = 1 + w bᵀ(I − wA)⁻¹ 1, the factor of a step for z' = λz with w = hλ; its region is where |R| ≤ 1.

    w: complex numbers, or real ones in float32 or float64. ValueError: one where I − wA has no inverse, a pole.
    """
    kind("stability_function", "tableau", tableau, Tableau, "a Tableau such as KUTTA4")
    shapes("stability_function", w=(w, "*points"))
    if not isinstance(w, Tensor) or w.dtype not in (torch.complex64, torch.complex128):
        real("stability_function", w=w)
    finite("stability_function", w=w)
    a, b = (torch.tensor(each, dtype=w.dtype, device=w.device) for each in (tableau.a, tableau.b))
    ones, eye = torch.ones(tableau.stages, 1, dtype=w.dtype, device=w.device), torch.eye(tableau.stages).to(a)
    matrix, ones = eye - w[..., None, None] * a, ones.expand(*w.shape, -1, -1)
    if tableau.explicit:  # 1 on the diagonal: no pole, which pivots might see in the rounding of a large w
        inner = torch.linalg.solve_triangular(matrix, ones, upper=False, unitriangular=True)
        return 1 + w * (b @ inner)[..., 0]
    inner, singular = torch.linalg.solve_ex(matrix, ones)
    if bool((singular != 0).any()):
        pole = w[singular != 0].flatten()[0].item()
        raise ValueError(
            f"stability_function needs w other than the poles of {tableau.name}; got {pole:.6g}. Leave it out."
        )
    return 1 + w * (b @ inner)[..., 0]


def real_interval(tableau: Tableau) -> float:
    """The largest x with |R(−s)| ≤ 1 for all s in [0, x]: the longest stable step of z' = −z; inf if there is no end.

    R = N/D with N(w) = det(I − w(A − 1bᵀ)) and D(w) = det(I − wA): |R| = 1 at the real roots of N ∓ D. |R| itself is
    computed by `stability_function`, and the end is bisected between what is found stable and what is not.
    ValueError: an interval within which |R| > 1 somewhere, as where many stages blur the roots.
    """
    kind("real_interval", "tableau", tableau, Tableau, "a Tableau such as KUTTA4")
    a, b = np.array(tableau.a), np.array(tableau.b)
    above, below = np.poly(a - np.ones(len(b))[:, None] * b)[::-1], np.poly(a)[::-1]  # coefficients of w^s..w^0
    roots = np.concatenate([np.roots(np.trim_zeros(above + sign * below, "f")) for sign in (-1, 1)])
    places = sorted(-root.real for root in roots if abs(root.imag) < 1e-6 and root.real < -1e-6)

    def stable(x: np.ndarray) -> np.ndarray:
        factors = stability_function(tableau, torch.from_numpy(-np.atleast_1d(x)))
        return factors.abs().numpy() <= 1 + ROUNDING

    ends = [0.0, *places, 2 * places[-1] + 1 if places else 1.0]
    tried = np.sort([*((left + right) / 2 for left, right in pairwise(ends)), *np.geomspace(1e-3, 1e12, 151)])
    unstable = np.flatnonzero(~stable(tried))
    first = int(unstable[0]) if len(unstable) else len(tried)
    inside = float(tried[first - 1]) if first else 0.0
    outside = float(tried[first]) if first < len(tried) else math.inf
    if outside < math.inf:
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if stable(np.array(middle))[0] else (inside, middle)
    if not stable(np.linspace(0, min(inside, 2 * ends[-1]), LOOKS)).all():
        raise ValueError(
            f"real_interval finds no interval for {tableau.name}: up to {inside:.6g}, where its roots say that steps "
            "are stable, some are not. Look at stability_function on a grid."
        )
    return math.inf if outside == math.inf else inside


def _that_count(tableau: Tableau) -> tuple[np.ndarray, np.ndarray]:
    """A and b of the stages on which the end of the step depends."""
    a, b = np.array(tableau.a), np.array(tableau.b)
    counts = b != 0
    for _ in b:
        counts = counts | (a[counts] != 0).any(0)
    return a[np.ix_(counts, counts)], b[counts]
