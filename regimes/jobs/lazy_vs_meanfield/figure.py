"""The figure of the main job: particle paths, loss curves, kernel spectra and weight motion."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regimes.jobs.lazy_vs_meanfield.measure import MODELS, Measurement
from regimes.jobs.lazy_vs_meanfield.problem import NETS
from regimes.jobs.lazy_vs_meanfield.report import names
from regimes.lab.figures import PALETTE, style

COLOURS = {"lazy": PALETTE[0], "tangent": PALETTE[1], "mean_field": PALETTE[2], "infinite_width": PALETTE[3]}
DASHES = {"lazy": "-", "tangent": "--", "mean_field": "-", "infinite_width": ":"}


def draw(measurement: Measurement, alpha: float, dataset: str, loss_ratio: float) -> Figure:
    """Six panels at the width of a page: paths of both nets, kernel spectra; losses and weight motion against time.

    Lines are geometric means over the seeds, bands the range of the seeds; paths are those of the first seed.
    """
    label = names(alpha)
    with style():
        figure = Figure(figsize=(7.0, 4.9), layout="constrained")
        axes = figure.subplots(2, 3)
        reach = _reach(measurement)
        for column, net in enumerate(NETS):
            _paths(axes[0, column], measurement, column, reach)
            axes[0, column].set_title(label[net])
        axes[0, 1].set_ylabel("")
        _spectra(axes[0, 2], measurement, label)
        _losses(axes[1, 0], measurement, measurement.train_loss, "training loss")
        goal = loss_ratio / 2  # all targets have mean square 1, so that R(0) = ½
        axes[1, 0].axhline(goal, color="0.4", lw=0.8, ls=(0, (1, 1)))
        axes[1, 0].annotate("criterion", (measurement.times[0], goal), (0, 2), textcoords="offset points", fontsize=7)
        axes[1, 0].set_ylim(goal / 10, None)
        axes[0, 0].legend(
            loc="lower left", fontsize=6, handletextpad=0.3, borderaxespad=0.1, handlelength=1.2, labelspacing=0.2
        )
        _losses(axes[1, 1], measurement, measurement.test_loss, "test loss")
        _motion(axes[1, 2], measurement)
        handles, texts = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, [label[text] for text in texts], loc="outside lower center", ncols=4, frameon=False)
        for axis, letter in zip(axes.flat, "abcdef", strict=True):
            axis.annotate(
                f"({letter})",
                (0, 1),
                xytext=(-30, 5),
                xycoords="axes fraction",
                textcoords="offset points",
                weight="bold",
            )
        figure.suptitle(f"Lazy against mean-field training: {dataset}", fontsize=10)
    return figure


def _reach(measurement: Measurement) -> float:
    """Half side of the square that shows all particles of both nets at the end."""
    return 1.08 * float(np.abs(measurement.paths[:, -1]).max())


def _paths(axis: Axes, measurement: Measurement, net: int, reach: float) -> None:
    paths = measurement.paths[net]  # (moments, m, 2)
    axis.plot(paths[:, :, 0], paths[:, :, 1], color="0.6", lw=0.6, zorder=1)
    axis.scatter(*paths[0].T, s=4, color="0.6", lw=0, zorder=2, label="start")
    # Open marks for one sign: mirrored neurons that stay together remain visible as a pair.
    for value, colour, face in ((1, PALETTE[4], PALETTE[4]), (-1, PALETTE[0], "none")):
        chosen = measurement.signs[net] == value
        label = f"end, a {'>' if value > 0 else '<'} 0"
        size = 7 if value > 0 else 14
        axis.scatter(*paths[-1][chosen].T, s=size, facecolor=face, edgecolor=colour, lw=0.7, zorder=3, label=label)
        for number, point in enumerate(measurement.teacher[measurement.teacher_signs == value]):
            direction = point / max(float(np.linalg.norm(point)), 1e-12)
            line = np.stack([0 * direction, 2 * reach * direction]).T
            name = None if number else f"teacher, a {'>' if value > 0 else '<'} 0"
            axis.plot(*line, color=colour, ls=":", lw=1.2, zorder=0, label=name)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel=measurement.plane[0], ylabel=measurement.plane[1])
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
