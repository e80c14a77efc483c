"""Do gradient nets contract at the rate that their singular values bound, and plain residual nets not at all?

f_l(z) = −A_lᵀσ(A_l z + b_l) with 0 ≤ σ' ≤ 1 has the Jacobian −A_lᵀ D A_l, D the diagonal of slopes in [0, 1]. It is
symmetric, and AᵀDA ≤ AᵀA, so that its largest eigenvalue lies in
    −σ_min(A_l)² ≤ −λ_min(A_lᵀ D A_l) ≤ 0.
The one-sided Lipschitz constant ν of a net is the largest of these over all states and layers:
    −μ*² ≤ ν ≤ 0,  μ* = min_l σ_min(A_l),  and ν = −μ*² if σ(s) = s.
(For σ(s) = s both are predicted, of the same numbers: the equality implies the bound.)
Then ‖z_2(t) − z_1(t)‖ ≤ e^{νt} ‖z_2(0) − z_1(0)‖, and the adjoint p' = −Jᵀp, solved backwards as back-propagation does,
has ‖p(0)‖ ≤ e^{νT} ‖p(T)‖: both ways the net is stable. The ν that is found is attained by states or pairs, a lower
bound, so the last two test the search as well. In the plane ν is known from a grid and from the cells of relu nets, and
the search has to come within 5 % of μ*², the length of the interval in which ν can lie. Nets with as many rows as
columns can be all but switched off, and then ν = 0; with many more rows ν lies inside the interval.
Counter-example: z' = σ(B_l z + b_l), a plain residual net. D B is not symmetric, and as soon as one slope d_i acts
alone, λ_max of the symmetric part is d_i (B_ii + ‖B_i‖)/2 > 0. So ν > 0 at the larger width.
Tolerances: the difference of two velocities is rounded by about 4ε‖A‖²‖z‖, with ε = 2.2e-16, and the pairs of a search
are never nearer than 1e-4 ‖z‖. So ν is off by up to 1e-11 ‖A‖², and is held to that; in units of μ*² it would be any
number, since ‖A‖²/μ*² is 3e6 for some nets. For rates along the flow, where Kutta's method adds its error, and for the
grid: 1e-6. A first run, seeds 0 to 49, is the pilot of these: it had 1e-9 μ*² for rounding and met 3e-9, and a quarter
of the substeps, too few for the kinks of relu. Of earlier pilots came the number of rows: with six times as many as
columns the search missed small cells of relu nets, by up to 8 % of μ*²; with three times as many it missed none.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.control.contraction_bound.config import Config as Config
from regimes.experiments.control.contraction_bound.drawing import draw as draw
from regimes.experiments.control.contraction_bound.runs import GRADIENT, PLAIN, TIMES
from regimes.experiments.control.contraction_bound.runs import measure as measure
from regimes.experiments.control.gradient_nets import UNITS
from regimes.lab.averages import least, most
from regimes.lab.numbers import Number, extent, judged, largest, share, smallest
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statements import ERROR_FACTOR

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ROUNDING, INTEGRATION, NEAR = 1e-11, 1e-6, 0.05
LINEAR = "identity: ν less −μ*², over ‖A‖²"
EXACT = "width 2: what the search misses of the exact ν, over μ*²"
FORWARD = "largest rate log(‖Δ(t)‖/‖Δ(0)‖)/t along the flow, less ν"
BACKWARD = "largest rate log(‖p(0)‖/‖p(T)‖)/T of the adjoint, less ν"
COUNTER = "plain residual nets, largest width: least ν"


def _bound(name: str) -> str:
    return f"{name}: how far ν lies outside [−μ*², 0], over ‖A‖²"


STATEMENT = Statement(
    title="Gradient nets contract, at a rate between −μ*² and 0",
    claim="z' = −Aᵀσ(Az + b) with slopes of σ between 0 and 1 has a one-sided Lipschitz constant ν between −μ*² and 0, "
    "−μ*² if σ is linear; states and adjoints contract by e^(νt) at least, and those of plain residual nets do not.",
    source="[Celledoni2021]; the values in the plane are derived here",
    predictions=(
        *(Prediction(_bound(name), Interval.at_most(ROUNDING), "after a pilot") for name in UNITS),
        Prediction(LINEAR, Interval.around(0.0, ROUNDING), "after a pilot"),
        Prediction(EXACT, Interval(-INTEGRATION, NEAR), "after a pilot"),
        Prediction(FORWARD, Interval.at_most(INTEGRATION), "published"),
        Prediction(BACKWARD, Interval.at_most(INTEGRATION), "derived"),
        Prediction(COUNTER, Interval.at_least(0.0), "derived"),
    ),
)
GRID = ("activation", "width", "hidden", "seed")
BATCHED = ("seed",)


def missed(rows: Any) -> "Series":
    """What the search misses of the exact constant, over μ*²."""
    return (rows.exact - rows.nu) / rows.least


def judge(rows: "DataFrame") -> Judgement:
    """The constants against their bounds, the exact ones and the flows."""
    linear: Any = rows[rows.activation == "identity"]
    wide: Any = rows[rows.width == rows.width.max()]
    found: dict[str, Number | None] = {_bound(name): _outside(rows[rows.activation == name]) for name in UNITS}
    found |= {
        LINEAR: extent((linear.nu + linear.least) / linear.largest),
        EXACT: extent(missed(rows[rows.width == 2])),
        FORWARD: _worst(rows.rate - rows.nu, rows.rate_error),
        BACKWARD: _worst(rows.adjoint_rate - rows.nu, rows.adjoint_error),
        COUNTER: smallest(wide.plain),
    }
    pairs: Any = rows.nu_states - rows.nu_pairs
    merits = {
        "ν by states less ν by pairs, over μ*²: largest": largest(pairs / rows.least),
        "share of plain nets, largest width, whose adjoint grows": share(wide.plain_adjoint > 1, wide.plain_adjoint),
        "plain nets, largest width: largest ‖p(0)‖/‖p(T)‖": largest(wide.plain_adjoint),
        "plain nets, largest width: largest ‖Δ(T)‖/‖Δ(0)‖": largest(wide[f"{PLAIN}_{TIMES}"]),
    }
    return judged(STATEMENT, found, merits)


def _worst(excess: Any, error: Any) -> Number | None:
    """That of the net which is largest when widened by its own integration error."""
    if not len(excess):
        return None
    place = int(np.argmax((excess + ERROR_FACTOR * error).to_numpy()))  # the first NaN, if there is one
    return largest([excess.iloc[place]], error.iloc[place])


def _outside(some: Any) -> Number | None:
    """Of the net whose constant is farthest out; below 0 where it is inside."""
    return largest(np.maximum(some.nu, -some.least - some.nu) / some.largest)


def table(rows: "DataFrame") -> "DataFrame":
    """Of each activation and width: the range of ν, of the exact values, of the growth."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["activation", "width", "hidden"], sort=False)
    for (name, width, hidden), some in groups:
        share = some.nu / some.least
        line: dict[str, Any] = {"σ": name, "width": width, "rows of A": hidden * width, "nets": len(some)}
        line |= {"ν/μ*² from": least(share), "to": most(share)}
        line["largest miss of the exact ν, over μ*²"] = "" if some.exact.isna().all() else most(missed(some))
        line["largest ‖Δ(T)‖/‖Δ(0)‖"] = most(some[f"{GRADIENT}_{TIMES}"])
        line |= {"plain: ν from": least(some.plain), "plain: ν to": most(some.plain)}
        lines.append(line | {"plain: largest ‖Δ(T)‖/‖Δ(0)‖": most(some[f"{PLAIN}_{TIMES}"])})
    return pandas.DataFrame(lines)
