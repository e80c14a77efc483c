"""The figure: the dual certificate of one problem for few and for many particles, and success against their number."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regimes.experiments.mean_field.sparse_deconvolution.config import BIRTHS, CONE, PARTICLES, SIGNED
from regimes.lab import figures
from regimes.lab.numbers import Number
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.risk import SpikeRisk, observed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 2000


def panels(rows: Any, rates: dict[tuple[int, str, str], dict[int, Number]]) -> "Figure":
    """Above: η with true and found spikes, where particles fail and where spikes are born; below: shares against m."""
    kinds = list(dict.fromkeys(key[0] for key in rates))
    made, axes = figures.figure(2, 2, width=figures.DOUBLE, height=5.2)
    with figures.style():
        for ax, (title, row) in zip(axes[0], _examples(rows).items(), strict=False):
            _certificate(ax, row, title)
        for ax, dim in zip(axes[1], kinds, strict=False):
            _shares(ax, dim, rates)
        for ax in (*axes[0][len(_examples(rows)) :], *axes[1][len(kinds) :]):
            ax.set_axis_off()
        axes[0][0].set_ylabel("η; mass over the largest")
        axes[1][0].set_ylabel("share of successes")
        figures.explain(
            made,
            "Above: the line is the dual certificate η; at a minimum it stays between −1 and 1 and touches them at the "
            "spikes. Open circles: true spikes, dots: found ones, each at its mass over the largest true one. Below: "
            "bars, side by side, are Wilson's 95 % intervals; the star is births and deaths from $m_0$ + 2 particles, "
            "$m_0$ the true number.",
        )
    return made


def _examples(rows: Any) -> dict[str, Any]:
    """A failure of as many particles as possible, but few, and the births on the same problem, where they are kept."""
    if "true_x0" not in rows or rows.empty:
        return {}
    kept = rows[rows.true_x0.notna() & rows.found_x0.notna() & (rows.spikes == rows.spikes.iloc[-1])]
    failed = kept[(kept.way == PARTICLES) & ~kept.success & (kept.m <= 8)]
    born = kept[kept.way == BIRTHS]
    found = {}
    if len(failed):
        row = failed.loc[failed.m.idxmax()]
        found[f"{int(row.m)} particles: a local minimum"] = row
    if len(born):
        found["births and deaths: the minimum"] = born.iloc[0]
    return found


def _measure(row: Any, name: str) -> Measure:
    names = [key.removeprefix(f"{name}_x") for key in row.index if key.startswith(f"{name}_x")]
    pairs = [(row[f"{name}_x{place}"], row[f"{name}_w{place}"]) for place in names]
    kept = torch.tensor([pair for pair in pairs if np.isfinite(pair[0])], dtype=torch.float64)
    return Measure(kept[None, :, :1], kept[None, :, 1])


def _certificate(ax: "Axes", row: Any, title: str) -> None:
    """η of the measure that was found, exactly as its closed form gives it."""
    truth, found = _measure(row, "true"), _measure(row, "found")
    risk = SpikeRisk(observed(truth, int(row.order)), penalty=row.penalty, signed=row.spikes == SIGNED)
    eta = risk.on_grid(risk.residual(found), POINTS).value[0].numpy()
    ax.plot(np.arange(POINTS) / POINTS, eta, color=figures.PALETTE[0], linewidth=1.0, label="η")
    for level in (-1, 1) if row.spikes == SIGNED else (1,):
        ax.axhline(level, color=figures.GREY, linewidth=0.8, linestyle="--")
    unit = float(truth.mass.abs().max())
    ax.plot(
        truth.position[0, :, 0], truth.mass[0] / unit, "o", mfc="none", mec="black", markersize=7, label="true spikes"
    )
    ax.plot(
        found.position[0, :, 0] % 1,
        found.mass[0] / unit,
        "o",
        color=figures.PALETTE[1],
        markersize=3.5,
        label="particles",
    )
    ax.set(title=title, xlabel="position", xlim=(0, 1))
    ax.legend(loc="best")


def _shares(ax: "Axes", dim: int, rates: dict[tuple[int, str, str], dict[int, Number]]) -> None:
    kinds = list(dict.fromkeys((way, spikes) for _, spikes, way in rates if way in (PARTICLES, CONE)))
    for (where, spikes, way), found in rates.items():
        if where == dim and way in (PARTICLES, CONE):
            number = kinds.index((way, spikes))
            apart = figures.beside_by(found, number, len(kinds), 1.025)
            figures.curve(ax, apart, number=number, bars=True, label=f"{way}, {spikes}")
        if where == dim and way == BIRTHS:
            ((m, born),) = found.items()
            ax.plot([m], [born.value], "*", color="black", markersize=9, zorder=5)
    ax.set(xscale="log", xlabel="particles m", ylim=(-0.03, 1.06), title="circle" if dim == 1 else "torus, d = 2")
    sizes = sorted({m for (where, _, way), found in rates.items() if where == dim and way == CONE for m in found})
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend(loc="best")
