"""Has every integrator the order that it claims, on equations that depend on time?

A method of order p is off by O(h^p) after a fixed time. Its order conditions, one for each rooted tree, decide p
without any run; the slope of log error against log h is the independent check of coefficients and of the stepper.
Corrections to the slope are of relative size h, so three halvings from the steps of the real size leave less than 0.1.

One pair of method and problem is left out. The terms of order 5 in the error of Dormand and Prince's method are made so
small that on nonlinear networks those of order 6 and 7 count at every step whose error is above rounding: the slopes of
single networks in a pilot (other seeds) were 4.4 to 6.2. So there its slope is measured, and nothing is predicted.
"""

from typing import TYPE_CHECKING, Any

from regimes.control.tableau import DORMAND_PRINCE, TABLEAUS
from regimes.experiments.control.integrator_order.config import NETWORK, OSCILLATOR
from regimes.experiments.control.integrator_order.config import Config as Config
from regimes.experiments.control.integrator_order.runs import measure as measure
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab import figures
from regimes.lab.numbers import Number, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WITHIN = 0.1
PROBLEMS = {OSCILLATOR: "pushed oscillator", NETWORK: "random network"}


def _name(problem: str, method: str) -> str:
    return f"{PROBLEMS[problem]}, {method}: order"


LEFT_OUT = _name(NETWORK, DORMAND_PRINCE.name)
ORDERS = {_name(problem, each.name): each.order for problem in PROBLEMS for each in TABLEAUS}
STATEMENT = Statement(
    title="Every integrator has the order that it claims",
    claim="The error of a Runge-Kutta method of order p after a fixed time falls like h^p, explicit or implicit, on a "
    "linear equation with a force and on a network whose layers are its steps.",
    source="[HairerLubichWanner2006]",
    predictions=tuple(
        Prediction(words, Interval.around(float(order), WITHIN), "derived")
        for words, order in ORDERS.items()
        if words != LEFT_OUT
    ),
)
GRID = ("problem", "method", "halvings", "seed")
BATCHED = ("seed",)
LAWS = PowerLaws({"error": "error"}, ("h", "h"), ("method", "method"), "rounding")


def judge(rows: "DataFrame") -> Judgement:
    """The slope for each problem and method."""
    found: dict[str, Number | None] = {}
    for problem in PROBLEMS:
        some: Any = rows[rows.problem == problem]
        found |= {_name(problem, method): one for method, one in LAWS.exponents(some, "error").items()}
    merits = {f"{LEFT_OUT}, not predicted": found.pop(LEFT_OUT, None)}
    return judged(STATEMENT, found, {words: one for words, one in merits.items() if one is not None})


def table(rows: "DataFrame") -> "DataFrame":
    """The error for each problem, method and step."""
    import pandas

    tables = []
    for problem, words in PROBLEMS.items():
        some: Any = rows[rows.problem == problem]
        if len(some):
            tables.append(LAWS.table(some).assign(problem=words))
    joined: Any = pandas.concat(tables)
    return joined[["problem", *[name for name in tables[0] if name != "problem"]]]


def draw(rows: "DataFrame") -> "Figure":
    """Error against the step, a panel for each problem; orders are in the legend."""
    made, panels = figures.figure(1, 2, width=figures.DOUBLE, height=4.2)
    parts: list[Any] = [rows[rows.problem == problem] for problem in PROBLEMS]
    orders = [LAWS.exponents(some, "error") for some in parts]
    with figures.style():
        for ax, some, words in zip(panels, parts, PROBLEMS.values(), strict=True):
            for number, method in enumerate(dict.fromkeys(rows.method)):
                label = figures.with_exponents(method, [found.get(method) for found in orders])
                figures.curve(ax, LAWS.values(some, "error", method), number=number, label=label)
            ax.set(xscale="log", yscale="log", xlabel="step h", title=words)
        panels[0].set(ylabel="root mean square error at the end")
        figures.legend(made, *panels, title=f"method: order, {' and '.join(PROBLEMS.values())}", ncols=3)
        seeds = rows.seed.nunique()
        words = f"Geometric means of {seeds} problems; {figures.intervals('bands', seeds)}. "
        figures.explain(made, words + "Where two methods lie on each other, the later in the legend is seen.")
    return made
