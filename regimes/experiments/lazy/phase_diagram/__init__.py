"""How far do the input weights of a two-layer ReLU net move, over the plane of output and initialisation scalings?

Set-up. f(x) = (1/α) Σ_j a_j σ(w_j·x), a_j ~ N(0, β₁²), w_j ~ N(0, β₂²), trained by gradient flow on the square risk
until it has fallen to 1 %. κ = β₁β₂/α = m^-γ and κ' = β₁/β₂ = m^-γ' are the axes of [Luo2021]: the NTK scaling is
(1/2, 0), the mean-field scaling (1, 0), the usual initialisations by fan-in (1/2, 1/2). Half of the neurons mirror the
other half with −a, so that f = 0 at the start; without this f is of order m^{1/2 − γ} there and γ < 1/2 is another
subject. Quantity: the exponent in m of RD = sup_t ‖w(t) − w(0)‖/‖w(0)‖, over all input weights. Theorems 1 and 2 of
[Luo2021]: RD → 0 for γ < 1 or γ' > γ − 1 (linear), RD → ∞ for γ > 1 and γ' < γ − 1 (condensed); between them, on the
critical line γ = 1 + max(γ', 0), it stays of order 1. The exponents themselves are derived here.

Derivation. In units of β₁ and β₂ a neuron obeys a' = (κ/κ') w e, w' = κκ' a e, e the residual along its input. With
dτ = κ e dt that is a hyperbolic rotation, a − a_0 = (cosh τ − 1) a_0 + sinh τ w_0/κ' and
w − w_0 = (cosh τ − 1) w_0 + κ' sinh τ a_0. Summed over the neurons f = (κm/2) sinh 2τ (κ' + 1/κ'), which has to become
y = O(1), so sinh 2τ = 2y/(κm (κ' + 1/κ')) and RD² = (cosh τ − 1)² + κ'² sinh² τ. This is exact for linear nets of
one sample. ReLU nets of n samples change factors only, as neurons are active on half of the samples and share a.
* τ small, that is γ < 1 + |γ'|: RD is the larger of τ² and κ'τ, where τ ~ m^{γ − 1 − |γ'|}. So the exponent is γ − 1
  for γ' < 0; γ − 1 − 2γ' for γ' > 0, γ < 1; and 2(γ − 1 − γ') for γ' > 0, γ > 1.
* τ large: RD ~ e^τ max(1, κ'), and the exponent is (γ − 1 − γ')/2.
Its zeros are the boundary of Luo et al. The output weights have the same exponents with −γ' for γ'.

Finite widths. Evaluated at m = 256, 1024, 4096, the formula with y between 1/2 and 4 differs from the exponents above
by up to 0.13 at single points near an edge, by at most 0.07 in the mean over a region, and moves the zero by at most
0.05. The tolerances are ±0.1 therefore. Points on an edge belong to no region. A pilot with other seeds, from 1000 on,
and other widths chose samples and tolerances at which the flow is cheap; it moved no prediction.
"""

from functools import partial
from typing import TYPE_CHECKING

from regimes.experiments.lazy.phase_diagram.config import Config as Config
from regimes.experiments.lazy.phase_diagram.figure import draw as draw
from regimes.experiments.lazy.phase_diagram.numbers import (
    COLUMNS,
    boundary_errors,
    deviations,
    exponents,
    merits,
    with_error,
)
from regimes.experiments.lazy.phase_diagram.runs import measure as measure
from regimes.experiments.lazy.phase_diagram.theory import REGIONS, exponent, region
from regimes.experiments.lazy.planes import of_points
from regimes.lab.numbers import cells, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

OF_REGION = {one.name: f"{one.name}; measured − derived exponent, mean over the region" for one in REGIONS}
FLAT = "boundary at γ' ≤ 0: γ where the exponent is 0, minus 1"
TILTED = "boundary at γ' > 0: γ where the exponent is 0, minus 1 + γ'"
STATEMENT = Statement(
    title="Two-layer nets have a linear and a condensed phase",
    claim="Over the plane of output and initialisation scalings, the relative motion of the input weights is a power "
    "of the width, with the exponent derived for each of five regions; it is 0 on the boundary of Luo et al.",
    source="[Luo2021] for the plane and its boundary; exponents derived here",
    predictions=(
        *(Prediction(words, Interval(-0.1, 0.1), "derived") for words in OF_REGION.values()),
        Prediction(FLAT, Interval(-0.1, 0.1), "derived"),
        Prediction(TILTED, Interval(-0.1, 0.1), "derived"),
    ),
)
GRID = ("width", "gamma", "gamma_prime", "seed")
BATCHED = ("gamma_prime", "seed")


def judge(rows: "DataFrame") -> Judgement:
    """The exponents against those derived, region by region, and the zeros against the boundary."""
    both = [exponents(rows, column) for column in COLUMNS]
    found = {OF_REGION[one.name]: with_error(both, partial(deviations, inside=one)) for one in REGIONS}
    found[FLAT] = with_error(both, partial(boundary_errors, positive=False))
    found[TILTED] = with_error(both, partial(boundary_errors, positive=True))
    return judged(STATEMENT, found, merits(rows))


def table(rows: "DataFrame") -> "DataFrame":
    """The exponent of each point of the plane beside the derived one."""
    import pandas

    lines = []
    for (gamma, gamma_prime), number in of_points(exponents(rows)).items():
        inside = region(gamma, gamma_prime)
        lines.append(
            {"γ": gamma, "γ'": gamma_prime, "region": inside.name.split(":")[0] if inside else "edge"}
            | {"derived": exponent(gamma, gamma_prime)}
            | cells("exponent", number)
        )
    return pandas.DataFrame(lines)
