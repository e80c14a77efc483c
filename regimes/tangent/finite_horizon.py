"""Proved bounds between a network and its tangent model."""

from typing import NamedTuple

from regimes.checks import not_negative, positive


class FiniteHorizonBound(NamedTuple):
    """Bounds at flow time T, and whether the theorem applies.

    outputs: on ‖αh(w(T)) − αh̄(w̄(T))‖ / ‖αh(w_0) − y‖, in the function norm of the risk.
    weights: on ‖w(T) − w̄(T)‖.
    `applies` is whether α >= `least_alpha`; where it is not, the two bounds are no more than formulas.
    """

    outputs: float
    weights: float
    least_alpha: float
    applies: bool


def finite_horizon_bound(
    horizon: float,
    *,
    lipschitz: float,
    lipschitz_derivative: float,
    alpha: float,
    initial_distance: float,
    radius: float = float("inf"),
) -> FiniteHorizonBound:
    """Distance of the α-scaled net from its tangent model at flow time `horizon`, for R = ½‖f − y‖², w' = −∇R(αh)/α².

    With K = T Lip(h)² and D = ‖αh(w_0) − y‖, on a ball of the given radius around w_0 where h is Lip(h)- and Dh is
    Lip(Dh)-Lipschitz: outputs <= (K²/α) Lip(Dh)/Lip(h)² D and weights <= D/(α Lip(h)) · (K²/α) Lip(Dh)/Lip(h)² D (2 +
    4K/3), if α >= K D/(r Lip(h)). The half mean square risk of regimes.conventions is ½‖·‖² in L² of the empirical
    measure, so the constants are those of h into that space. For the flow w' = −m∇F over m particles measure weights by
    √(1/m Σ_j ‖·‖²) and the constants with it.
    Source: [ChizatOyallonBach2019] Theorem 2.3 and appendix B.2.
    """
    for name, value in {"horizon": horizon, "lipschitz": lipschitz, "alpha": alpha}.items():
        positive("finite_horizon_bound", name, value)
    positive("finite_horizon_bound", "radius", radius, infinite=True)
    # No bound holds where Dh jumps (inf): a net of ReLUs has none, and inf · 0 would be NaN.
    for name, value in {"lipschitz_derivative": lipschitz_derivative, "initial_distance": initial_distance}.items():
        not_negative("finite_horizon_bound", name, value)
    k = horizon * lipschitz**2
    outputs = k**2 / alpha * lipschitz_derivative / lipschitz**2 * initial_distance
    weights = initial_distance / (alpha * lipschitz) * outputs * (2 + 4 * k / 3)
    least = k * initial_distance / (radius * lipschitz)
    return FiniteHorizonBound(outputs, weights, least, alpha >= least)
