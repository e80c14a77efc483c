"""How far can the states of a reversible method be rebuilt? Their error against depth follows λ^(−N)·ε.

Derivation. A step is y⁺ = λy + (1−λ)z + Ψ_h(z), z⁺ = z − Ψ_{−h}(y⁺). Let d be the error of y − z on the way back, and
h → 0 with N h = T fixed. Then a step back divides d by λ and adds the rounding of one step there and back. Adding the
increment and subtracting the same one again gives the same number, so what remains are four roundings: of λy and of its
sum with (1−λ)z, and of their undoing. They are as good as independent, with variance ulp²/12 each, and rounding after
step k is divided by λ k times until the start. So the error of the rebuilt start is, root mean square,
    sqrt(4/12 · Σ_{k=1..N} λ^(−2k) ulp_k²)  ≈  ulp · λ^(−N) / sqrt(3 (1 − λ²)).
* With λ fixed: exponent 1 in λ^(−N), in every method and both precisions.
* With λ = e^(−1/N), the default: a constant times √N.
* The field is left out: it multiplies the error of each direction by at most e^(LT), L its Lipschitz constant, about 1
  here, up or down, and by the same factor at any depth. Hence a factor 2 around the prefactor, and none on exponents,
  whose corrections are of order h.
* Where (1−λ)|y−z| is less than half an ulp of y, a step leaves y as it is, bit for bit, on both ways, and nothing is
  multiplied. Equal copies, with which networks start, stay so close by methods of high order. So the error from copies
  that stand apart (by 0.1 at the start) is the one predicted, and that from equal copies is at most so large.

After a pilot on other seeds (six networks, Euler, Kutta 4 and Bogacki-Shampine) the exponent of √N was no longer
predicted: it was 0.4 to 0.8 between depths 500 and 2,000, the prefactor right within 1.5. The rest was not moved.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.control.reversibility_limit.config import COUPLINGS, DEFAULT, METHODS, PRECISIONS
from regimes.experiments.control.reversibility_limit.config import Config as Config
from regimes.experiments.control.reversibility_limit.numbers import exponent, one_a_seed, over_predicted
from regimes.experiments.control.reversibility_limit.runs import measure as measure
from regimes.lab import figures
from regimes.lab.averages import average
from regimes.lab.numbers import Number, cells, each, geometric_mean, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def _exponent(method: str, precision: str) -> str:
    return f"{method}, {precision}: exponent of the error in λ^(−N)"


def _prefactor(precision: str, coupling: str) -> str:
    value = "e^(−1/N)" if coupling == DEFAULT else coupling
    return f"{precision}, λ = {value}: error over the predicted one"


def _equal(precision: str) -> str:
    return f"{precision}: error from equal copies over the predicted one"


PREDICTED = {
    **{_exponent(method, kind): Interval.around(1.0, 0.05) for method in METHODS for kind in PRECISIONS},
    **{_prefactor(kind, one): Interval(0.5, 2.0) for kind in PRECISIONS for one in COUPLINGS},
    **{_equal(kind): Interval(0.0, 2.0) for kind in PRECISIONS},
}
STATEMENT = Statement(
    title="Rebuilt states are off by λ^(−N) times rounding",
    claim="The error of states that a reversible method rebuilds through N steps is rounding times λ^(−N)/√(3(1−λ²)), "
    "whatever the explicit method and the precision; equal copies are rebuilt at least as well.",
    source="[McCallumFoster2024] for the scheme and the factor 1/λ of a step; the prefactor is derived here",
    predictions=tuple(Prediction(words, interval, "derived") for words, interval in PREDICTED.items()),
)
GRID = ("method", "precision", "coupling", "span", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Exponents by method, prefactors by coupling, each with one repetition a seed."""
    usual = rows[rows.coupling == DEFAULT]
    exponents = each(rows[rows.coupling != DEFAULT], ["method", "precision"], lambda some: exponent(some, "growth"))
    shares = each(rows, ["precision", "coupling"], lambda some: over_predicted(some, "error"))
    equal = each(rows[~(rows["equal"] <= 0)], "precision", lambda some: over_predicted(some, "equal"))
    found: dict[str, Number | None] = {_exponent(*key): one for key, one in exponents.items()}
    found |= {_prefactor(*key): one for key, one in shares.items()} | {_equal(kind): one for kind, one in equal.items()}
    roots = each(usual, "precision", lambda some: exponent(some, "depth"))
    merits = {f"{kind}, λ = e^(−1/N): exponent of the error in N, not predicted": one for kind, one in roots.items()}
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """The errors for each method, precision, coupling and depth."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["method", "precision", "coupling", "depth"], sort=False)
    for (method, kind, coupling, depth), some in groups:
        line = {"method": method, "precision": kind, "λ": coupling, "N": depth, "λ^(−N)": some.growth.iloc[0]}
        line |= cells("error", geometric_mean(some.error)) | cells("predicted", geometric_mean(some.predicted))
        lines.append(line | {"error from equal copies": average(some["equal"])})
    return pandas.DataFrame(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Error against depth for each λ, a panel for each precision: means over methods and seeds; dashed: predicted."""
    made, panels = figures.figure(1, 2, width=figures.DOUBLE, height=3.5)
    with figures.style():
        for ax, kind in zip(panels, PRECISIONS, strict=True):
            some: Any = rows[rows.precision == kind]
            for number, coupling in enumerate(dict.fromkeys(some.coupling)):
                own = some[some.coupling == coupling]
                label = r"$\lambda = e^{-1/N}$" if coupling == DEFAULT else f"λ = {coupling}"
                figures.curve(
                    ax, each(own, "depth", lambda at: one_a_seed(at.seed, at.error)), number=number, label=label
                )
                said = each(own, "depth", lambda at: one_a_seed(at.seed, at.predicted))
                ax.plot(list(said), [one.value for one in said.values()], "--", color=figures.PALETTE[number], lw=0.8)
                same = each(own[own["equal"] > 0], "depth", lambda at: one_a_seed(at.seed, at["equal"]))
                ax.plot(list(same), [one.value for one in same.values()], ":", color=figures.PALETTE[number], lw=0.8)
            ax.plot([], [], "--", color=figures.GREY, lw=0.8, label="predicted")
            ax.plot([], [], ":", color=figures.GREY, lw=0.8, label="from equal copies")
            ax.set(xscale="log", yscale="log", xlabel="depth N", title=kind)
        panels[0].set(ylabel="root mean square error\nof the rebuilt start")
        figures.legend(made, *panels, ncols=3)
        seeds, methods = rows.seed.nunique(), rows.method.nunique()
        bands = figures.intervals("bands", seeds)
        words = (
            f"Geometric means over {methods} methods and {seeds} seeds; {bands} over the seeds. Marks and predicted: "
        )
        words += "from copies that stand apart. States are drawn from N(0, 1)."
        figures.explain(made, words)
    return made
