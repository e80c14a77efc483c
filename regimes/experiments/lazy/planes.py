"""Exponents in the width over a plane of scalings, and the plane as a map: shared by the statements on phases.

Exponents are pandas series with the index (first axis, second axis, seed).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.lab.numbers import Number, known, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

COLOURS = "PuOr_r"  # diverging, and told apart with any colour vision


def exponents_over(rows: "DataFrame", axes: tuple[str, str], column: str) -> Any:
    """Slope of the log of the column against log width, by both axes and seed, where no width is missing.

    NaN where the column is at one of the widths.
    """
    by = rows.set_index([*axes, "seed", "width"])[column]
    whole = by.isna().unstack().notna().all(axis=1)
    values: Any = by.unstack()[whole]
    log_width = np.log(values.columns.to_numpy(dtype=float))
    centred = log_width - log_width.mean()
    if not centred.any():
        return values.iloc[:0].sum(axis=1)
    return (np.log(values) * centred).sum(axis=1, skipna=False) / (centred**2).sum()


def of_points(found: Any) -> dict[tuple[float, float], Number]:
    """The exponent of each point, the mean over the seeds."""
    return known({point: mean(some) for point, some in found.groupby(level=[0, 1])})


def crossing(places: np.ndarray, values: np.ndarray) -> float:
    """Place at which the values pass from below 0 to 0 or above for good, by straight lines.

    NaN where they do not, or one of them is.
    """
    if np.isnan(values).any():
        return float("nan")
    below = np.flatnonzero(values < 0)
    if not below.size or below[-1] + 1 == values.size:
        return float("nan")
    last = below[-1]
    share = -values[last] / (values[last + 1] - values[last])
    return float(places[last] + share * (places[last + 1] - places[last]))


def heat_map(made: "Figure", ax: Any, numbers: dict[tuple[float, float], Number], *, extent: float) -> None:
    """The exponents as colours, the first axis to the right and the second up; beyond ± extent the end colours."""
    right, up = (sorted({point[axis] for point in numbers}) for axis in (0, 1))
    missing = float("nan")
    values = [[numbers[x, y].value if (x, y) in numbers else missing for x in right] for y in up]
    shown = ax.pcolormesh(_edges(right), _edges(up), values, cmap=COLOURS, vmin=-extent, vmax=extent)
    made.colorbar(shown, ax=ax, label="exponent", extend="both")
    ax.grid(visible=False)
    ax.set(xlim=_edges(right)[[0, -1]], ylim=_edges(up)[[0, -1]])


def named(ax: Any, names: dict[str, tuple[float, float]], size: float) -> None:
    """Stars with names at places of a map."""
    for name, place in names.items():
        ax.plot(*place, "*", color="white", markeredgecolor="black", markersize=8, clip_on=False)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        ax.annotate(name, place, (5, 6), textcoords="offset points", fontsize=size, bbox=box)


def _edges(values: list[float]) -> np.ndarray:
    """Edges of cells around these places; a single place has a cell of width 1."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (np.array(values[1:]) + np.array(values[:-1])) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
