"""Test loss against the width m under the scalings 1/m and 1/√m: the second becomes lazy, the first does not.

Student f = s(m) Σ_j a_j relu(b_j·x) with s = 1/√m or 1/m, weights N(0, 1), not doubled; inputs uniform on the unit
sphere of R^100; teacher of three ReLU neurons with ‖b_j‖ = 1, a_j = ±100 (±d, so that a smoke run with smaller d
keeps the published steps stable); 1000 training and 1000 test samples; square risk with ½; m = 2, 3, 4, 6, 8, 12,
16, 24, 32, 64, 128, 256, 512; 25000 steps of full-batch gradient descent.

Steps, as published: W ← W − (step/s)·g with step = 1/m for s = 1/√m, 0.05/m for s = 1/m, and g the residuals pulled
back through the net without its scaling, g = ∇R/s. So the step on R itself is step/s²: 1 for 1/√m and 0.05·m (the
particle flow with time step 0.05) for 1/m. Losses are plotted × 0.1, as published: with targets × 100 this is 1000
× the loss of the unit teacher.

Repetitions are trials: teacher and data are drawn once a trial, the initialisation anew for each width and each
scaling. The test loss is looked at every 50 steps for its minimum (the published figure has the end only). float32:
in one trial at m = 3, 8, 32 and 256 the test losses of both scalings differ from those in float64 by less than 0.02
(0.002 as plotted).

Predictions (the published figure has ticks at 0 and 1 only). At m ≥ 128 the 1/√m net is at least twice as bad; its
loss rises with m from m = 16 on; it is then near what a linear function plus a constant leaves, 100²·m0(1 −
2/π)/(8d) (13.6, plotted 1.36): above a third of it, while the 1/m net is below. The thresholds were set after a
pilot of two trials with m ≤ 128, before the run.
"""

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.synthetic import teacher_student
from regimes.lab import figures
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import geometric_mean_interval, loglog_slope, mean_interval
from regimes.meanfield.flow import descend
from regimes.meanfield.layout import tile_work
from regimes.meanfield.particles import gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent.laziness import weight_motion

MEAN_FIELD, LAZY = "1/m", "1/sqrt(m)"
SCALINGS = {MEAN_FIELD: lambda m: 1 / m, LAZY: lambda m: 1 / math.sqrt(m)}
STEPS = {MEAN_FIELD: lambda m: 0.05 * m, LAZY: lambda m: 1.0}  # on the gradient of R
WIDE, RISING_FROM = 128, 16
PLOTTED = 0.1

RATIO = f"test loss of 1/√m over that of 1/m, m ≥ {WIDE}"
SLOPE = f"slope of log test loss against log m for 1/√m, m ≥ {RISING_FROM}"
LAZY_SHARE = f"test loss of 1/√m, m ≥ {WIDE}, over what linear + constant leaves"
MEAN_FIELD_SHARE = f"test loss of 1/m, m ≥ {WIDE}, over what linear + constant leaves"

STATEMENT = Statement(
    claim="As the width m grows, the 1/√m scaling becomes lazy and its test loss rises, while the 1/m scaling keeps "
    "generalising.",
    source="[ChizatOyallonBach2019] Fig. 2a",
    predictions=(
        Prediction(RATIO, Interval.at_least(2.0), "after a pilot"),
        Prediction(SLOPE, Interval.at_least(0.0), "after a pilot"),
        Prediction(LAZY_SHARE, Interval.at_least(1 / 3), "after a pilot"),
        Prediction(MEAN_FIELD_SHARE, Interval.at_most(1 / 3), "after a pilot"),
    ),
)
GRID = ("width", "seed", "scaling")
BATCHED = ("scaling",)


class Config(Settings):
    """Widths, trials and sizes; the defaults are a smoke run, configs/width_scaling.yaml is the published size."""

    width: list[int] = Field([16, 128], min_length=1)
    scaling: list[Literal["1/m", "1/sqrt(m)"]] = Field([MEAN_FIELD, LAZY], min_length=1)
    seeds: int = Field(3, ge=1)
    inputs: int = Field(50, ge=2)  # and the teacher's |a_j|, which keeps the published steps stable
    samples: int = Field(400, ge=1)
    test_samples: int = Field(500, ge=1)
    iterations: int = Field(5000, ge=1)
    precision: Literal["float32", "float64"] = "float32"


def work(config: Config, points: list[dict[str, Any]]) -> int:
    """Multiply-adds of a typical product."""
    return tile_work(len(points), points[0]["width"], torch.empty(config.samples, config.inputs))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses of one trial at one width; both scalings are one ensemble, with α = s·m of the 1/m net."""
    dtype = getattr(torch, config.precision)
    width, seed = points[0]["width"], points[0]["seed"]
    data = teacher_student(
        config.samples,
        config.test_samples,
        inputs=config.inputs,
        magnitude=float(config.inputs),
        generator=generator(seed, 0),
        dtype=dtype,
    )
    names = [point["scaling"] for point in points]
    alpha = torch.tensor([SCALINGS[name](width) * width for name in names], dtype=torch.float64)
    # The risk's gradient is that of R/α², so α² is put back into the step.
    step = torch.tensor([STEPS[name](width) for name in names], dtype=torch.float64) * alpha.square()
    train = TwoLayerRisk(data.x_train[None], data.y_train[None], RELU, alpha=alpha)
    test = TwoLayerRisk(data.x_test[None], data.y_test[None], RELU, alpha=alpha)
    streams = [generator(seed, 1, width, list(SCALINGS).index(name)) for name in names]
    start = gaussian(width, config.inputs, generators=streams, dtype=dtype)
    record = {*range(0, config.iterations, 50), config.iterations}
    best = loss = torch.full_like(alpha, math.inf)
    particles = start
    for _, particles in descend(train, start, step=step.to(dtype), iterations=config.iterations, record=record):
        loss = test.risk(particles).double()
        best = torch.minimum(best, loss)
    unit = config.inputs**2 * 3 * (1 - 2 / math.pi) / (8 * config.inputs)
    columns = (
        train.risk(particles),
        loss,
        best,
        weight_motion(particles.to(torch.float64), start.to(torch.float64), runs=1),
    )
    return [
        {"train_end": train_end, "test_end": test_end, "test_best": test_best, "weight_motion": motion, "linear": unit}
        for train_end, test_end, test_best, motion in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _wide(rows: Any, scaling: str) -> Any:
    """Mean test loss of each trial over the large widths."""
    chosen = rows[(rows.scaling == scaling) & (rows.width >= WIDE)]
    return chosen.groupby("seed").test_end.mean()


def judge(rows: pd.DataFrame) -> Judgement:
    """Student intervals over trials: geometric for the ratio, one slope a trial, means for the shares."""
    lazy, mean_field = _wide(rows, LAZY), _wide(rows, MEAN_FIELD)
    linear = float(rows.linear.iloc[0])
    ratio = geometric_mean_interval(lazy / mean_field)
    rising: Any = rows[(rows.scaling == LAZY) & (rows.width >= RISING_FROM)]
    slope = loglog_slope(rising.width, rising.test_end, groups=rising.seed.to_numpy())
    lazy_share, mean_field_share = mean_interval(lazy / linear), mean_interval(mean_field / linear)
    measured = {
        RATIO: ratio.interval,
        SLOPE: slope.interval,
        LAZY_SHARE: lazy_share.interval,
        MEAN_FIELD_SHARE: mean_field_share.interval,
    }
    merits = {
        "trials": float(rows.seed.nunique()),
        f"0.1 × test loss of 1/√m, m ≥ {WIDE}": PLOTTED * float(lazy.mean()),
        f"0.1 × test loss of 1/m, m ≥ {WIDE}": PLOTTED * float(mean_field.mean()),
        "0.1 × what a linear function plus a constant leaves": PLOTTED * linear,
        "ratio": ratio.value,
        "slope": slope.value,
    }
    return STATEMENT.judge(measured, merits=merits)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and half width of the 95% interval of 0.1 × test loss, for each width and scaling."""
    lines = []
    for width, scaling in rows[["width", "scaling"]].drop_duplicates().itertuples(index=False):
        cell: Any = rows[(rows.width == width) & (rows.scaling == scaling)]
        mean, interval = mean_interval(PLOTTED * cell.test_end)
        lines.append(
            {
                "m": width,
                "scaling": scaling,
                "0.1 × test loss": mean,
                "±": interval.high - mean,
                "0.1 × best test loss": PLOTTED * cell.test_best.mean(),
                "0.1 × train loss": PLOTTED * cell.train_end.mean(),
                "‖w − w0‖/‖w0‖": cell.weight_motion.mean(),
            }
        )
    return pd.DataFrame(lines)


def draw(rows: pd.DataFrame) -> Figure:
    """Test loss against m: one dot a trial, lines through the means, bands their 95% intervals."""
    figure, ax = figures.figure(width=figures.COLUMN, height=2.8)
    linear = PLOTTED * float(rows.linear.iloc[0])
    with figures.style():
        for scaling, label, color, marker in (
            (LAZY, r"scaling $1/\sqrt{m}$", figures.PALETTE[0], "o"),
            (MEAN_FIELD, "scaling $1/m$", figures.PALETTE[1], "s"),
        ):
            part: Any = rows[rows.scaling == scaling]
            widths = sorted(part.width.unique())
            means = [mean_interval(PLOTTED * part[part.width == width].test_end) for width in widths]
            ax.plot(part.width, PLOTTED * part.test_end, marker, color=color, markersize=1.8, alpha=0.5)
            ax.plot(widths, [mean.value for mean in means], color=color, label=label)
            if part.seed.nunique() > 1:
                figures.band(ax, widths, *np.array([mean.interval for mean in means]).T, color=color)
        ax.axhline(linear, linestyle=":", color="#000000", label="linear function plus constant")
        ax.set(xscale="log", xlabel="width m", ylabel="0.1 × test loss (targets × 100)")
        ax.set_ylim(bottom=0, top=2 * linear)
        ax.legend(loc="upper right")
    return figure
