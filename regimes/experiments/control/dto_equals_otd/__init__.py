"""When is the gradient of the discrete network that of the discretised adjoint equation?

Back-propagation differentiates the steps: discretise, then optimise. The other way steps the adjoint equation
p' = −∂f/∂zᵀ p by weights b and coefficients ã: optimise, then discretise. ⟨p, δz⟩ does not change along the exact
equations. A pair (a, ã) keeps it in every step if and only if b_i ã_ij + b_j a_ji = b_i b_j, and then p is exactly the
derivative of the cost by the state, at every layer: both gradients agree to rounding. It is so for the symplectic
partner of any method, and for a method as its own companion if it keeps quadratic invariants (Gauss).

Any other method as its own companion changes ⟨p, δz⟩, which is a quadratic invariant of state, variation and adjoint
together. After a fixed time it is off by O(h^q), q the order to which the method keeps quadratic invariants:
`product_order` finds it from rooted trees. q is the method's order p, save for Heun's: its defect in a step is
−(h²/4) ⟨k_1 − k_2, ℓ_1 − ℓ_2⟩ = O(h⁴), so q = 3 where p = 2. The corrections are of relative size h, hence ±0.1.
The adjoint solved backwards in time together with the states, by the same explicit method, also differs by O(h^p), as
both are that near to the equation's; some terms cancel by symmetry, so its slope is claimed to be p − 0.1 or more.
"""

from typing import TYPE_CHECKING, Any

from regimes.control.trees import product_order
from regimes.experiments.control.dto_equals_otd.config import Config as Config
from regimes.experiments.control.dto_equals_otd.runs import BACK, METHODS, PARTNER, SAME
from regimes.experiments.control.dto_equals_otd.runs import measure as measure
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab import figures
from regimes.lab.averages import most
from regimes.lab.numbers import Number, cells, geometric_mean, judged, largest
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

EXACT = Interval(0.0, 1e-12)
WITH_PARTNER = "symplectic partners, all methods: largest distance of a layer"
OWN = "Gauss's methods as their own companions: largest distance of a layer"
OTHERS = {name: each for name, each in METHODS.items() if not each.symplectic}
EXPLICIT = {name: each for name, each in METHODS.items() if each.explicit}


def _same(name: str) -> str:
    return f"{name} as its own companion: order in h of the distance"


def _back(name: str) -> str:
    return f"{name} backwards in time: order in h of the distance"


STATEMENT = Statement(
    title="Both gradients of a network agree if the pair is symplectic",
    claim="The gradient by the discretised adjoint equation is that by back-propagation to rounding, layer by layer, "
    "for symplectic pairs; for other pairs they differ at the order to which the method keeps quadratic invariants.",
    source="[SanzSerna2016], [Benning2019]; the orders of the others are derived here",
    predictions=(
        Prediction(WITH_PARTNER, EXACT, "published"),
        Prediction(OWN, EXACT, "published"),
        *(
            Prediction(_same(name), Interval.around(float(product_order(each.a, each.b, 6)), 0.1), "derived")
            for name, each in OTHERS.items()
        ),
        *(
            Prediction(_back(name), Interval(each.order - 0.1, float("inf")), "derived")
            for name, each in EXPLICIT.items()
        ),
    ),
)
GRID = ("method", "substeps", "seed")
BATCHED = ("seed",)
COMPANIONS = {PARTNER: "symplectic partner", SAME: "the method itself", BACK: "backwards in time"}
LAWS = PowerLaws(COMPANIONS, ("h", "h"), ("method", "method"))


def judge(rows: "DataFrame") -> Judgement:
    """Largest distances of the symplectic pairs, and orders of the others."""
    own: Any = rows[~rows.method.isin(list(OTHERS))]
    found: dict[str, Number | None] = {
        WITH_PARTNER: largest(rows.partner),
        OWN: largest(own.same) if len(own) else None,
    }
    for column, name, some in ((SAME, _same, OTHERS), (BACK, _back, EXPLICIT)):
        among: Any = rows[rows.method.isin(list(some))]
        exponents = LAWS.exponents(among, column)
        found |= {name(method): exponents.get(method) for method in some}
    return judged(STATEMENT, found, {})


def table(rows: "DataFrame") -> "DataFrame":
    """For each method and companion the largest distance of every layer at the shortest step, and the order."""
    import pandas

    lines = []
    for method in dict.fromkeys(rows.method):
        some: Any = rows[rows.method == method]
        for column, words in COMPANIONS.items():
            line: dict[str, Any] = {"method": method, "adjoint by": words}
            shortest = some[some.h == some.h.min()]
            for layer in range(sum(name.startswith(f"{column}_") for name in rows.columns)):
                line[f"layer {layer}"] = most(shortest[f"{column}_{layer}"])
            lines.append(
                line
                | cells("order", LAWS.exponents(some, column).get(method) if some[column].min() > EXACT.high else None)
            )
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Distance against the step for every companion."""
    made, panels = figures.figure(1, 3, width=figures.DOUBLE, height=4.0, sharey=True)
    with figures.style():
        for ax, (column, words) in zip(panels, COMPANIONS.items(), strict=True):
            for number, method in enumerate(METHODS):
                some: Any = rows[rows.method == method]
                if len(some):
                    known = {h: geometric_mean(some[some.h == h][column] + 1e-18) for h in sorted(set(some.h))}
                    shown = {h: one for h, one in known.items() if one is not None}
                    figures.curve(ax, shown, number=number, label=method)
            ax.axhline(EXACT.high, color=figures.GREY, linestyle=":", linewidth=1)
            ax.set(xscale="log", yscale="log", xlabel="step h", title=words)
            figures.ticks_at(ax.xaxis, sorted(set(rows.h)))
        panels[0].set(ylabel="relative distance to back-propagation")
        figures.legend(made, *panels, ncols=4)
        seeds = rows.seed.nunique()
        words = f"Geometric means of {seeds} networks; {figures.intervals('bands', seeds)}."
        words += " Distance: over the largest gradient of a layer. Dotted: 1e-12; zeros are drawn at 1e-18."
        figures.explain(made, words)
    return made
