"""The figure of the energies: the change of K against the depth, and against the step."""

from typing import TYPE_CHECKING

from regimes.control.tableau import STORMER_VERLET
from regimes.experiments.control.non_autonomous_energy.numbers import (
    COLUMNS,
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
    """The change of K against the depth, and against the step."""
    made, panels = figures.figure(1, 2, width=figures.DOUBLE, height=4.6)
    with figures.style():
        for number, name in enumerate(dict.fromkeys(rows.method)):
            values = known({n: value(rows, name, n) for n in depths(rows)})
            label = figures.with_exponent(name, exponent(rows, name))
            figures.curve(panels[0], values, number=number, label=label)
            column = "spread" if name in ORDER else "drift"
            some = LAWS.values(rows, column, name)
            label = figures.with_exponent(f"{name}, {COLUMNS[column]}", LAWS.exponents(rows, column).get(name))
            figures.curve(panels[1], some, number=number, label=label)
        changes = known({n: geometric_mean(deep(rows, STORMER_VERLET.name).get(f"H_{n}", [])) for n in depths(rows)})
        if changes:
            figures.curve(panels[0], changes, number=7, linestyle=":", label="H, Störmer-Verlet")
        panels[0].set(xscale="log", yscale="log", xlabel="layers", ylabel="root mean square change of K", title="depth")
        panels[1].set(xscale="log", yscale="log", xlabel="step h", ylabel="change, or drift by time", title="step")
        for ax, words in zip(panels, ("method: exponent", "method: order"), strict=True):
            if len(rows):
                ax.legend(title=words, loc="upper left", bbox_to_anchor=(0.0, -0.2))
        seeds = rows.seed.nunique()
        figures.explain(made, f"Geometric means of {seeds} networks; {figures.intervals('bands', seeds)}.")
    return made
