"""The figure of one map: its clouds with both pairings, lengths of the steps, reduced costs, asymmetry by block."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from regimes.jobs.ot_gap.groups import Group
from regimes.lab.figures import DOUBLE, PALETTE, explain, style
from regimes.transport.verdict import ASYMMETRY

LINES = 40  # pairs that are drawn; more cover the clouds
FEW = 6  # pairs in an inset
ROUNDING = 1e-16  # asymmetries that are 0 but for the last digit
PANEL = 1.3  # width of the panel of the clouds over its height, about
LEGEND = 0.22  # share of that height
INSET = (0.3, 0.1, 0.68, 0.26)  # left, lower edge, width, height; shares of the panel
DOT = 0.1  # of the panel: a cloud below looks like a dot
SHORT = 0.03  # of the panel: displacements below cannot be seen
FLOOR = 1e-9  # reduced costs below, in units of the network's cost, are what a certificate leaves open
BINS = np.concatenate([[FLOOR / 10], np.geomspace(FLOOR, 1e4, 40)])
NETWORK, OPTIMAL, OTHERS = PALETTE[1], PALETTE[0], PALETTE[2]
Arrays = Mapping[str, np.ndarray]
NOTE = (
    "(a) {lines} of {points} points with their pairs. (b) Bars: the 10 to 90 % range over points. (c) What a pair "
    "costs more than the dual prices of its two points: the pairing is optimal if and only if that is 0 (left-most "
    "bin) for all its pairs. (d) 0, drawn at the lower edge, for the gradient of a function; bars: ± one standard "
    "error over points, often within the marks."
)


def draw(group: Group, arrays: Arrays) -> Figure:
    """Four panels at the width of a page; of a group of seeds its first map."""
    numbers = group.members[0]
    with style():
        figure = Figure(figsize=(DOUBLE, 6.2), layout="constrained")
        axes = figure.subplots(2, 2)
        _clouds(axes[0, 0], arrays)
        _lengths(axes[0, 1], arrays["steps"])
        _slack(axes[1, 0], numbers, arrays)
        _asymmetry(axes[1, 1], numbers)
        for axis, letter in zip(axes.flat, "abcd", strict=True):
            axis.annotate(
                f"({letter})",
                (0, 1),
                xytext=(-34, 6),
                xycoords="axes fraction",
                textcoords="offset points",
                weight="bold",
            )
        size = f"{numbers['points']} {numbers['split']} points, d = {numbers['dim']}"
        name = group.label
        if len(group.members) > 1:
            name = f"{group.label} (seed {numbers['seed']} of {len(group.members)} seeds)"
        figure.suptitle(f"Is it an OT map? {name}: {numbers['dataset']}, {size}", fontsize=10)
        explain(figure, NOTE.format(lines=min(LINES, len(arrays["before"])), points=numbers["points"]))
    return figure


def _clouds(axis: Axes, arrays: Arrays) -> None:
    before, after = arrays["before"], arrays["after"]
    axis.scatter(*before.T, s=9, facecolor="none", edgecolor="0.55", lw=0.6, label="before, x")
    axis.scatter(*after.T, s=7, color="0.15", lw=0, label="after, T(x)")
    _pairs(axis, arrays, slice(0, LINES))
    axis.autoscale_view()
    flat = int(arrays["dim"]) <= 2
    names = [f"feature {n}" if flat else f"component {n} ({100 * s:.0f} % of variance)" for n, s in _shares(arrays)]
    axis.set(xlabel=names[0], ylabel=names[1], title="clouds and pairings")
    inset = _inset(before, after)
    _make_room(axis, below=0.42 if inset is not None else 0.03, flat=flat)
    axis.legend(fontsize=7, loc="upper center", ncols=2, handlelength=1.6, labelspacing=0.25, borderaxespad=0.2)
    if inset is not None:
        _zoom(axis, arrays, *inset, flat)


def _make_room(axis: Axes, below: float, flat: bool) -> None:
    """Shares of the panel for the legend, above all points, and for an inset, below them: they can be anywhere."""
    low, high = axis.get_ylim()
    tall = (high - low) / (1 - LEGEND - below)
    if flat:
        left, right = axis.get_xlim()
        tall = max(tall, (right - left) / PANEL)
    top = high + LEGEND * tall
    axis.set_ylim(top - tall, top)
    if flat:
        _equal_units(axis, PANEL)


def _equal_units(axis: Axes, shape: float) -> None:
    """Limits widened to this width over height, so that hardly any of the room is lost, and no point is cut off."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    wide, tall = max(right - left, shape * (high - low)), max(high - low, (right - left) / shape)
    across, up = (left + right) / 2, (low + high) / 2
    axis.set(xlim=(across - wide / 2, across + wide / 2), ylim=(up - tall / 2, up + tall / 2))
    axis.set_aspect("equal", adjustable="box")


def _shares(arrays: Arrays) -> list[tuple[int, float]]:
    return list(enumerate((float(share) for share in arrays["share"]), 1))


def _pairs(axis: Axes, arrays: Arrays, some: Any) -> None:
    """Lines from points to where the network and the optimal plan send them."""
    before, after, optimal = (arrays[name][some] for name in ("before", "after", "optimal"))
    for ends, color, line, label in ((after, NETWORK, "-", "network's pair"), (optimal, OPTIMAL, "--", "OT pair")):
        lines = np.stack([before, ends], 1).tolist()
        axis.add_collection(LineCollection(lines, colors=color, lw=0.9, ls=line, label=label))


def _inset(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, str] | None:
    """Points to be enlarged and why: all where the first cloud is a dot, a few neighbours where pairs are too short."""
    size = float(np.ptp(np.concatenate([before, after]), axis=0).max())
    if size == 0:
        return None
    if np.ptp(before, axis=0).max() < DOT * size:
        return np.arange(len(before)), "the cloud before, enlarged"
    if np.median(np.linalg.norm(after - before, axis=1)) < SHORT * size:
        middle = np.linalg.norm(before - np.median(before, axis=0), axis=1)
        some = np.argsort(middle)[:FEW]
        if np.ptp(np.concatenate([before[some], after[some]]), axis=0).max() < size / 2:  # else nothing is enlarged
            return some, "pairs near the middle, enlarged"
    return None


def _zoom(axis: Axes, arrays: Arrays, some: np.ndarray, title: str, flat: bool) -> None:
    inner = axis.inset_axes(INSET)
    before, after = arrays["before"][some], arrays["after"][some]
    inner.scatter(*before.T, s=9, facecolor="none", edgecolor="0.55", lw=0.6)
    if len(some) <= FEW:
        inner.scatter(*after.T, s=7, color="0.15", lw=0)
        _pairs(inner, arrays, some)
    inner.autoscale_view()
    inner.margins(0.1)
    if flat:
        _equal_units(inner, PANEL * INSET[2] / INSET[3])
    inner.set_xticks([])
    inner.set_yticks([])
    inner.set_facecolor("white")
    inner.grid(visible=False)
    for side in inner.spines.values():
        side.set(visible=True, color="0.6", linewidth=0.6)
    inner.set_xlabel(title, fontsize=7, labelpad=2)
    axis.indicate_inset_zoom(inner, edgecolor="0.5", alpha=0.6)


def _lengths(axis: Axes, steps: np.ndarray) -> None:
    number = np.arange(1, steps.shape[1] + 1)
    low, high = np.quantile(steps, [0.1, 0.9], axis=0)
    axis.vlines(number, low, high, color=NETWORK, lw=4, alpha=0.25, label="10 to 90 % of points")
    axis.plot(number, steps.mean(0), "o-", color=NETWORK, lw=1.2, label="mean")
    axis.set(xlabel="block", ylabel="length of the step", title="how far each block moves the points")
    axis.set_ylim(0, 1.3 * float(high.max()) or None)
    axis.legend(fontsize=7, loc="best")
    _number_blocks(axis, number)


def _number_blocks(axis: Axes, number: np.ndarray) -> None:
    axis.set_xticks(number if len(number) <= 12 else number[:: len(number) // 8])
    axis.set_xlim(0.5, len(number) + 0.5)


def _slack(axis: Axes, numbers: Mapping[str, Any], arrays: Arrays) -> None:
    """Reduced costs on a logarithmic axis, all that is rounding in its first bin."""
    unit = numbers["cost_network"] or 1.0
    for name, label, color, filled in (
        ("other_slack", "best other pair", OTHERS, True),
        ("own_slack", "network's own pair", NETWORK, False),
    ):
        values = np.clip(arrays[name] / unit, FLOOR / 5, BINS[-1])
        kind: dict[str, Any] = {"alpha": 0.45} if filled else {"histtype": "step", "lw": 1.4}
        axis.hist(values, BINS.tolist(), color=color, label=label, **kind)
    axis.set_xscale("log")
    axis.set_xticks([FLOOR / 3, 1e-6, 1e-3, 1.0, 1e3], ["0", "10⁻⁶", "10⁻³", "1", "10³"])
    axis.minorticks_off()
    axis.set_yscale("log")
    status = "optimal" if numbers["certified"] else "best known"
    axis.set(
        xlabel="excess cost of a point's pair / mean cost",
        ylabel="points",
        title=f"slack under {status} dual prices",
    )
    axis.set_ylim(0.6, 12 * len(arrays["steps"]))
    axis.legend(fontsize=7, loc="upper right", ncols=2)


def _asymmetry(axis: Axes, numbers: Mapping[str, Any]) -> None:
    """Brenier's test of every block alone, and of the whole map; 0, and rounding, is drawn below all else."""
    values = [np.nan if value is None else value for value in numbers["block_asymmetry"]]
    errors = [0.0 if value is None else value for value in numbers["block_asymmetry_se"]]
    number = np.arange(1, len(values) + 1)
    whole, on_image = numbers["brenier_asymmetry"], numbers["image_asymmetry"]
    known = [value for value in (*values, whole, on_image, ASYMMETRY) if value is not None and np.isfinite(value)]
    floor = min(value for value in known if value > ROUNDING) / 10
    axis.errorbar(number, np.maximum(values, floor), errors, fmt="o", color=PALETTE[3], capsize=2, label="block alone")
    if whole is not None:
        axis.axhline(max(whole, floor), color=NETWORK, label="whole map, all directions")
    if on_image is not None:
        axis.axhline(max(on_image, floor), color=OPTIMAL, ls="-.", label="whole map, encoder's image")
    axis.axhline(ASYMMETRY, color="0.4", lw=0.9, ls=":", label="threshold")
    axis.set(yscale="log", xlabel="block", ylabel="(skew / symmetric part)²", title="asymmetry of the Jacobian")
    axis.set_ylim(floor / 2, 1000 * max(known))
    _number_blocks(axis, number)
    axis.legend(fontsize=7, loc="upper center", ncols=2)
