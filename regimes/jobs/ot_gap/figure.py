"""The figure of one map: its clouds with both pairings, displacements, reduced costs and asymmetry by block."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from regimes.jobs.ot_gap.verdict import ASYMMETRY
from regimes.lab.figures import DOUBLE, PALETTE, style

LINES = 40  # pairs that are drawn; more cover the clouds
FLOOR = 1e-9  # reduced costs below, in units of the network's cost, are what a certificate leaves open
BINS = np.concatenate([[FLOOR / 10], np.geomspace(FLOOR, 1e4, 40)])
NETWORK, OPTIMAL, OTHERS = PALETTE[1], PALETTE[0], PALETTE[2]


def draw(figures: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Figure:
    """Four panels at the width of a page."""
    with style():
        figure = Figure(figsize=(DOUBLE, 5.6), layout="constrained")
        axes = figure.subplots(2, 2)
        _clouds(axes[0, 0], arrays)
        _displacement(axes[0, 1], arrays["steps"])
        _slack(axes[1, 0], figures, arrays)
        _asymmetry(axes[1, 1], figures)
        for axis, letter in zip(axes.flat, "abcd", strict=True):
            axis.annotate(
                f"({letter})",
                (0, 1),
                xytext=(-34, 6),
                xycoords="axes fraction",
                textcoords="offset points",
                weight="bold",
            )
        size = f"{figures['points']} {figures['split']} points, d = {figures['dim']}"
        figure.suptitle(f"Is it an OT map? {figures['label']}: {figures['dataset']}, {size}", fontsize=10)
    return figure


def _clouds(axis: Axes, arrays: Mapping[str, np.ndarray]) -> None:
    before, after, optimal = arrays["before"], arrays["after"], arrays["optimal"]
    axis.scatter(*before.T, s=9, facecolor="none", edgecolor="0.55", lw=0.6, label="before, x")
    axis.scatter(*after.T, s=7, color="0.15", lw=0, label="after, T(x)")
    some = slice(0, LINES)
    moved = LineCollection(np.stack([before[some], after[some]], 1).tolist(), colors=NETWORK, lw=0.9, label="network")
    best = LineCollection(
        np.stack([before[some], optimal[some]], 1).tolist(), colors=OPTIMAL, lw=0.9, ls="--", label="OT pairing"
    )
    axis.add_collection(moved)
    axis.add_collection(best)
    axis.autoscale_view()
    if int(arrays["dim"]) <= 2:
        axis.set_aspect("equal", adjustable="box")
    if int(arrays["dim"]) > 2:
        first, second = (f"component {n} ({100 * s:.0f} % of variance)" for n, s in enumerate(arrays["share"], 1))
    else:
        first, second = "feature 1", "feature 2"
    axis.set(xlabel=first, ylabel=second, title="clouds and pairings")
    # Room above the points: they can be anywhere.
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.22 * (high - low))
    axis.legend(fontsize=7, loc="upper center", ncols=2, handlelength=1.6, labelspacing=0.25, borderaxespad=0.2)


def _displacement(axis: Axes, steps: np.ndarray) -> None:
    number = np.arange(1, steps.shape[1] + 1)
    low, high = np.quantile(steps, [0.1, 0.9], axis=0)
    axis.vlines(number, low, high, color=NETWORK, lw=4, alpha=0.25, label="10 to 90 % of points")
    axis.plot(number, steps.mean(0), "o-", color=NETWORK, lw=1.2, label="mean")
    axis.set(xlabel="block k", ylabel="‖v_k‖, length of the step", title="displacement")
    axis.set_ylim(0, 1.3 * float(high.max()) or None)
    axis.legend(fontsize=7, loc="best")
    axis.set_xticks(number if len(number) <= 12 else number[:: len(number) // 8])


def _slack(axis: Axes, figures: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Reduced costs on a logarithmic axis, all that is rounding in its first bin."""
    unit = figures["cost_network"] or 1.0
    for name, label, color, filled in (
        ("other_slack", "best other pair", OTHERS, True),
        ("own_slack", "network's own pair", NETWORK, False),
    ):
        values = np.clip(arrays[name] / unit, FLOOR / 5, BINS[-1])
        kind: dict[str, Any] = {"alpha": 0.45} if filled else {"histtype": "step", "lw": 1.4}
        axis.hist(values, BINS.tolist(), color=color, label=label, **kind)
    axis.set_xscale("log")
    axis.set_xticks([FLOOR / 3, 1e-6, 1e-3, 1.0, 1e3], ["≤10⁻⁹", "10⁻⁶", "10⁻³", "1", "10³"])
    axis.minorticks_off()
    axis.set_yscale("log")
    status = "optimal" if figures["certified"] else "best known"
    axis.set(
        xlabel="reduced cost (c_ij − u_i − v_j) / mean cost",
        ylabel="points",
        title=f"slack under {status} potentials",
    )
    axis.set_ylim(0.6, 12 * len(arrays["steps"]))
    axis.legend(fontsize=7, loc="upper right", ncols=2)


def _asymmetry(axis: Axes, figures: Mapping[str, Any]) -> None:
    """Brenier's test of every block alone, and of the whole map; 0 is drawn at the lower edge."""
    values = [np.nan if value is None else value for value in figures["block_asymmetry"]]
    errors = [0.0 if value is None else value for value in figures["block_asymmetry_se"]]
    number = np.arange(1, len(values) + 1)
    floor = 1e-16
    axis.errorbar(
        number, np.maximum(values, floor), errors, fmt="o", color=PALETTE[3], capsize=2, label="block, z ↦ z + v(z)"
    )
    whole, on_image = figures["brenier_asymmetry"], figures["image_asymmetry"]
    if whole is not None:
        axis.axhline(max(whole, floor), color=NETWORK, label="T, all directions")
    if on_image is not None:
        axis.axhline(max(on_image, floor), color=OPTIMAL, ls="-.", label="T, image of encoder")
    axis.axhline(ASYMMETRY, color="0.4", lw=0.9, ls=":", label="threshold")
    axis.set(yscale="log", xlabel="block k", ylabel="‖(J − Jᵀ)v‖² / ‖(J + Jᵀ)v‖²", title="asymmetry (Brenier)")
    shown = [value for value in (*values, whole, on_image, ASYMMETRY) if value is not None and np.isfinite(value)]
    axis.set_ylim(max(min(shown), floor) / 10, max(max(shown), ASYMMETRY) * 1000)
    axis.set_xticks(number if len(number) <= 12 else number[:: len(number) // 8])
    axis.legend(fontsize=7, loc="upper center", ncols=2)
