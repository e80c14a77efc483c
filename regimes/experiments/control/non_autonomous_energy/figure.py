"""The figure of the energies: the change of K against the depth, and against the step."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from regimes.control.tableau import STORMER_VERLET
from regimes.experiments.control.non_autonomous_energy.numbers import (
    DRIFT,
    LAWS,
    ORDER,
    deep,
    depths,
    exponent,
    value,
)
from regimes.lab import figures
from regimes.lab.numbers import geometric_mean, known

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """The change of K against the depth, and change and drift of K against the step."""
    made, panels = figures.figure(1, 3, width=figures.DOUBLE, height=3.9)
    methods = list(dict.fromkeys(rows.method))
    with figures.style():
        for number, name in enumerate(methods):
            values = known({n: value(rows, name, n) for n in depths(rows)})
            kept = name in ORDER
            column = "spread" if kept else "drift"
            exponents = [exponent(rows, name), LAWS.exponents(rows, column).get(name)]
            figures.curve(panels[0], values, number=number, label=figures.with_exponents(name, exponents))
            figures.curve(panels[1 if kept else 2], LAWS.values(rows, column, name), number=number)
        changes = known({n: geometric_mean(deep(rows, STORMER_VERLET.name).get(f"H_{n}", [])) for n in depths(rows)})
        if changes:
            look: dict[str, Any] = {"linestyle": ":", "color": "black", "marker": ""}
            figures.curve(panels[0], changes, label=f"H in place of K, {STORMER_VERLET.name}", **look)
        panels[0].set(xlabel="layers", ylabel="root mean square of $K - K_0$", title="depth")
        panels[1].set(xlabel="step h", ylabel="root mean square of $K - K_0$", title="step, symplectic")
        panels[2].set(xlabel="step h", ylabel="root mean square of $dK/dt$", title="step, not symplectic")
        for ax in panels:
            ax.set(xscale="log", yscale="log")
        for ax, some, apart in ((panels[1], ORDER, 1.5), (panels[2], DRIFT, 5.0)):
            figures.ticks_at(ax.xaxis, _steps(rows, some, apart))
        figures.legend(made, *panels, title="method: exponent in the depth, order in h", ncols=3)
        seeds = rows.seed.nunique()
        words = f"Geometric means of {seeds} networks; {figures.intervals('bands', seeds)}. Left: over the second half "
        words += "of so many layers, with one step h for all methods. Right: dK/dt, the drift, is the slope of K "
        figures.explain(made, words + "against time by least squares.")
    return made


def _steps(rows: "DataFrame", methods: Iterable[str], apart: float) -> list[float]:
    """Steps of these methods, from the shortest on, by at least this factor apart."""
    found: list[float] = []
    for step in sorted(set(rows[rows.method.isin(list(methods))].h)):
        if not found or step >= apart * found[-1]:
            found.append(float(step))
    return found
