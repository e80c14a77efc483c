"""The figure of the main job: particle paths, loss curves, kernel spectra and weight motion."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.measure import MODELS, Measurement
from regimes.jobs.lazy_vs_meanfield.problem import NETS
from regimes.jobs.lazy_vs_meanfield.report import names
from regimes.lab.figures import DOUBLE, NOTE, PALETTE, explain, style

COLOURS = {"lazy": PALETTE[0], "tangent": PALETTE[1], "mean_field": PALETTE[2], "infinite_width": PALETTE[3]}
DASHES = {"lazy": "-", "tangent": "--", "mean_field": "-", "infinite_width": ":"}


def draw(measurement: Measurement, config: Config) -> Figure:
    """Six panels at the width of a page: paths of both nets, kernel spectra; losses and weight motion against time.

    Lines are geometric means over the seeds, bands the range of the seeds; paths are those of one seed.
    """
    label = names(config.alpha)
    with style():
        figure = Figure(figsize=(DOUBLE, 5.6), layout="constrained")
        parts: Any = figure.subfigures(2, 1)
        above, below = parts
        upper, lower = above.subplots(1, 3), below.subplots(1, 3)
        _both_paths(list(upper[:2]), measurement, label)
        _spectra(upper[2], measurement, label)
        _losses(lower[0], measurement, measurement.train_loss, "training loss")
        goal = config.loss_ratio / 2  # all targets have mean square 1, so that R(0) = ½
        lower[0].axhline(goal, color="0.4", lw=0.8, ls=(0, (1, 1)))
        lower[0].annotate("criterion", (measurement.times[0], goal), (0, 2), textcoords="offset points", fontsize=NOTE)
        # Losses of 1e-200 are below the panel, and would leave its top far above all lines.
        lower[0].set_ylim(goal / 10, 2 * max(float(np.nanmax(measurement.train_loss)), goal))
        _losses(lower[1], measurement, measurement.test_loss, "test loss")
        _motion(lower[2], measurement)
        marks = upper[0].get_legend_handles_labels()
        above.legend(*marks, loc="outside lower center", ncols=len(marks[0]), fontsize=NOTE, handletextpad=0.3)
        handles, texts = lower[0].get_legend_handles_labels()
        below.legend(handles, [label[text] for text in texts], loc="outside upper center", ncols=4)
        for axis, letter in zip((*upper, *lower), "abcdef", strict=True):
            place = {"xytext": (-30, 5), "xycoords": "axes fraction", "textcoords": "offset points"}
            axis.annotate(f"({letter})", (0, 1), weight="bold", **place)
        seeds = "one seed" if config.seeds == 1 else f"{config.seeds} seeds"
        sizes = f"n = {config.train_size} samples, m = {config.width} neurons, {seeds}"
        above.suptitle(f"Lazy against mean-field training: {config.dataset}, {sizes}", fontsize=10)
        averaged = (
            "(c) to (f): the same seed, the only one."
            if config.seeds == 1
            else "(d) to (f): lines are geometric means over the seeds, bands reach from the smallest to the largest. "
            "(c): means over the seeds."
        )
        explain(
            below,
            f"(a), (b): each neuron of seed {int(measurement.drawn)} is drawn at |a| b, the direction of its input "
            "weights times the size of its output weight; axes differ, a square shows the range of the other panel. "
            f"{averaged}",
        )
    return figure


class Square(NamedTuple):
    """The part of the plane that a panel shows."""

    x: float  # of the middle
    y: float
    side: float  # half of it


def _around(points: np.ndarray) -> Square:
    """The square that holds all points and 0, with a margin."""
    low, high = (end(np.append(points.reshape(-1, 2), [[0, 0]], axis=0), axis=0) for end in (np.min, np.max))
    x, y = (low + high) / 2
    return Square(float(x), float(y), 0.55 * float((high - low).max()))


def _both_paths(axes: Sequence[Axes], measurement: Measurement, label: dict[str, str]) -> None:
    """The neurons of each net on axes of its own; where both are one run, it and what lies near its start."""
    same = np.array_equal(measurement.paths[0], measurement.paths[1])
    squares = [_around(paths[[0, -1]]) for paths in measurement.paths]
    titles = [label[net] for net in NETS]
    if same:
        squares[1] = _around(measurement.paths[0, 0])
        titles[1] = "the same, near the start"
    for net, axis in enumerate(axes):
        _paths(axis, measurement, net, squares[net])
        axis.set_title(titles[net])
    axes[1].set_ylabel("")
    wide = int(squares[1].side > squares[0].side)
    x, y, side = squares[1 - wide]
    if squares[wide].side > 1.5 * side:  # the range of the other panel, so that the two can be compared
        box = Rectangle((x - side, y - side), 2 * side, 2 * side, fill=False, lw=0.8, color="k", zorder=4)
        axes[wide].add_patch(box)
        plain = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        look = {"xytext": (2, 2), "textcoords": "offset points", "weight": "bold", "fontsize": NOTE, "bbox": plain}
        axes[wide].annotate(f"({'ab'[1 - wide]})", (x + side, y + side), zorder=5, **look)


def _paths(axis: Axes, measurement: Measurement, net: int, shown: Square) -> None:
    paths = measurement.paths[net]  # (moments, m, 2)
    axis.plot(paths[:, :, 0], paths[:, :, 1], color="0.6", lw=0.6, zorder=1)
    axis.scatter(*paths[0].T, s=4, color="0.6", lw=0, zorder=2, label="start of a neuron")
    # Open marks for one sign: mirrored neurons that stay together remain visible as a pair.
    for value, colour, face in ((1, PALETTE[4], PALETTE[4]), (-1, PALETTE[0], "none")):
        chosen = measurement.signs[net] == value
        sign = ">" if value > 0 else "<"
        size = 5 if value > 0 else 12
        look = {"s": size, "facecolor": face, "edgecolor": colour, "lw": 0.6, "zorder": 3}
        axis.scatter(*paths[-1][chosen].T, label=f"its end, a {sign} 0", **look)
        for number, point in enumerate(measurement.teacher[measurement.teacher_signs == value]):
            direction = point / max(float(np.linalg.norm(point)), 1e-12)
            line = np.stack([0 * direction, 4 * shown.side * direction]).T
            name = None if number else f"teacher, a {sign} 0"
            axis.plot(*line, color=colour, ls=":", lw=1.2, zorder=0, label=name)
    xlim, ylim = ((middle - shown.side, middle + shown.side) for middle in (shown.x, shown.y))
    axis.set(xlim=xlim, ylim=ylim, xlabel=measurement.plane[0], ylabel=measurement.plane[1])
    axis.set_aspect("equal")


def _band(axis: Axes, times: np.ndarray, values: np.ndarray, model: str) -> None:
    """Geometric mean over seeds, and the range of the seeds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(values > 0, values, np.nan))
    shown = ~np.isnan(logs).any(0)
    times, logs = times[shown], logs[:, shown]
    axis.plot(times, np.exp(logs.mean(0)), color=COLOURS[model], ls=DASHES[model], label=model)
    axis.fill_between(times, np.exp(logs.min(0)), np.exp(logs.max(0)), color=COLOURS[model], alpha=0.18, lw=0)


def _losses(axis: Axes, measurement: Measurement, losses: np.ndarray, title: str) -> None:
    for index, model in enumerate(MODELS):
        _band(axis, measurement.times, losses[index], model)
    axis.set(xscale="log", yscale="log", xlabel="flow time t", ylabel="½‖f − y‖²", title=title)


def _spectra(axis: Axes, measurement: Measurement, label: dict[str, str]) -> None:
    start = measurement.spectrum_start.mean(0)
    rank = np.arange(1, len(start) + 1)
    axis.loglog(rank, start, color="k", lw=1, label="start")
    for net in NETS:
        end = measurement.spectrum_end[NETS.index(net)].mean(0)
        axis.loglog(
            rank, end, color=COLOURS[net], ls="--" if net == "lazy" else "-", label=f"end, {label[net].split(',')[0]}"
        )
    positive = start[start > 1e-12 * start[0]]
    axis.set(ylim=(positive[-1] / 3, None), xlabel="rank i", ylabel="eigenvalue of Θ/n", title="tangent kernel")
    axis.legend(fontsize="x-small", frameon=False)


def _motion(axis: Axes, measurement: Measurement) -> None:
    for index, net in enumerate(NETS):
        _band(axis, measurement.times, measurement.weight_motion[index], net)
    axis.set(xscale="log", yscale="log", xlabel="flow time t", ylabel="‖w − w₀‖ / ‖w₀‖", title="weight motion")
