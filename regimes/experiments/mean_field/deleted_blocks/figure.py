"""Test error against the share of deleted blocks, and change and departure of the outputs."""

from typing import TYPE_CHECKING

from regimes.experiments.mean_field.deleted_blocks.config import MEAN_FIELD
from regimes.experiments.mean_field.deleted_blocks.numbers import PERCENT, WORKS, deepest, trained
from regimes.lab import figures
from regimes.lab.numbers import each, geometric_mean, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def draw(rows: "DataFrame") -> "Figure":
    """Errors of the deepest nets of each kind; outputs of the residual nets of all depths."""
    made, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=3.2)
    with figures.style():
        left_out = []
        for number, net in enumerate(dict.fromkeys(rows.net)):
            kept = trained(rows[rows.net == net])
            depths = sorted(set(rows.layers[rows.net == net]) - set(kept.layers))
            left_out += [f"{net}, L = {layers}" for layers in depths]
            some = deepest(kept, net)
            if some.empty:
                continue
            found = each(some, "deleted", lambda part: mean(part.test_error, within=PERCENT))
            layers = int(some.layers.max())
            shares = {many / layers: value for many, value in found.items()}
            figures.curve(left, shares, number=number, label=f"{net}, L = {layers}", markersize=2.5)
        left.set(xlabel="share of the blocks deleted", ylabel="test error, %", ylim=(0, 100))
        if left.lines:
            left.legend(fontsize=7)
        residual = rows[(rows.net == MEAN_FIELD) & (rows.deleted > 0)]
        for number, (layers, some) in enumerate(residual.groupby("layers")):
            look = {"number": number, "markersize": 2.5}
            changes = each(some, "deleted", lambda part: geometric_mean(part.change))
            departures = each(some[some.deleted > 1], "deleted", lambda part: geometric_mean(part.departure))
            figures.curve(right, changes, label=f"L = {layers}", **look)
            figures.curve(right, departures, linestyle="--", **look)
        right.set(xscale="log", yscale="log", xlabel="blocks deleted", ylabel="change of the outputs")
        right.set(title="residual 1/L")
        if right.lines:
            right.legend(fontsize=7, loc="lower right")
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"Means of {seeds} seeds, right geometric; {figures.intervals('bands', seeds)}. "
            f"Left: of each kind the deepest nets that err on at most {WORKS:g} % as a whole{_told(left_out)}. "
            "Dashed: departure of the change from the sum of those of the single blocks.",
        )
    return made


def _told(left_out: list[str]) -> str:
    """The nets that have not trained."""
    return f" (so not {'; '.join(left_out)})" if left_out else ""
