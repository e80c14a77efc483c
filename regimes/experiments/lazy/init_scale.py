"""Test loss of a two-layer net against the scale τ of its initialisation: small is better than lazy.

Student f = Σ_j a_j relu(b_j·x) of 50 neurons, no scaling; (a, b) = τ·N(0, 1), doubled so that f = 0 at first;
inputs uniform on the unit sphere of R^100; teacher of three ReLU neurons with ‖a_j b_j‖ = 1 and random signs;
square risk with ½.

`full_batch` (Fig. 1c): 1000 training and 1000 test samples, 10000 steps of gradient descent of size min(10,
0.1/τ²), τ = 10^−2.2, 10^−2.1, ..., 10; the test loss at the end and the best one along training. `population` (Fig.
2b): 20000 steps on 200 fresh samples each, that is, on the population loss. The student is divided by m = 50, the
teacher by 200, the gradient of b is multiplied by d, and steps of min(0.25/τ², 25) are taken on the unscaled net.
By 2-homogeneity its τ is 2τ in the units of Fig. 1c. The loss is the mean over the last 2000 batches, given here in
the units of the undivided teacher (× 200²), because the published scale of the y axis is not explained by the
published code; `fresh` is the loss on 2000 more samples at the end. Plotted losses are × 1000, as published.

Repetitions are trials: teacher, data and the unscaled initialisation are drawn once a trial and shared by all τ.
Departures: in the population setting all τ of a trial also share their batches (published: drawn anew for each τ);
the test loss is looked at every 10 steps (published: at each). Gradients are computed in float32 (configuration
`precision`), weights are kept in float64: with weights in float32 the late steps of a lazy net round to nothing,
which lowered the test loss at τ = 10 from 3.19 to 2.69 in one trial; with gradients alone in float32 it changed by
2·10⁻⁴. Doubling here leaves the sign of the first half's a as drawn: the doubled net is the same set of neurons as
with |a|.

Predictions. The end and best plateaus published in the first version, 3.7 and 2.06, within a third. A lazy net of
this width learns little more than the linear and the constant part of the teacher, which leaves m0(1 − 2/π)/(8d) =
1.36/1000: within a third. The small initialisation is at least 5 times (full batch) and 10 times (population)
better. Losses are compared in units of m0/(4d), the mean loss of f = 0 over teachers. The thresholds were set after
a pilot of two trials, before the run.

Measured at the published size, 10 trials: best plateau 2.08 (published 2.06), end plateau 3.15 (published in the
first version: 3.7, outside the 95% interval 2.96 to 3.34). These nets are still training after 10000 steps
(training loss 0.04/1000): the minimum-norm interpolant of their tangent model, where a lazy net ends after infinite
time, has 3.81 on the same ten trials, so the older figure fits a longer training.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.synthetic import sphere, teacher_student
from regimes.data.teacher import Teacher, random_teacher
from regimes.lab import figures
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import geometric_mean_interval, mean_interval
from regimes.meanfield.flow import descend
from regimes.meanfield.layout import tile_work
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent.laziness import weight_motion

LAZY = 1.99  # scales τ from here on (10^0.3 is the first) are called lazy
TEACHER_DIVISOR = 200.0  # of the population setting
PUBLISHED_END, PUBLISHED_BEST, PUBLISHED_UNIT = 3.7e-3, 2.06e-3, 7.5e-3
LINEAR_SHARE = (1 - 2 / math.pi) / 2  # of m0/(4d): what the best linear function plus a constant leaves

END = "test loss at the end for τ ≥ 2, over m0/(4d)"
BEST = "best test loss along training for τ ≥ 2, over m0/(4d)"
GAIN = "test loss at the end: τ ≥ 2 over the best τ"
PLATEAU = "population loss for τ ≥ 2, over m0/(4d)"
POPULATION_GAIN = "population loss: τ ≥ 2 over the best τ"


def _within_a_third(value: float) -> Interval:
    return Interval(2 / 3 * value, 4 / 3 * value)


STATEMENT = Statement(
    claim="A large initialisation makes training lazy, and the lazy net generalises worse: its test loss has a plateau "
    "at large τ, several times the loss of a small initialisation, on 1000 samples (Fig. 1c) and on the population "
    "loss (Fig. 2b).",
    source="[ChizatOyallonBach2019] Fig. 1c and 2b",
    predictions=(
        Prediction(END, _within_a_third(PUBLISHED_END / PUBLISHED_UNIT), "after a pilot"),
        Prediction(BEST, _within_a_third(PUBLISHED_BEST / PUBLISHED_UNIT), "after a pilot"),
        Prediction(GAIN, Interval.at_least(5.0), "after a pilot"),
        Prediction(PLATEAU, _within_a_third(LINEAR_SHARE), "after a pilot"),
        Prediction(POPULATION_GAIN, Interval.at_least(10.0), "after a pilot"),
    ),
)
GRID = ("setting", "seed", "tau")
BATCHED = ("tau",)


class Config(Settings):
    """Scales, trials and sizes; the defaults are a smoke run, configs/init_scale.yaml is the published size."""

    tau: list[float] = Field([0.02, 0.2, 2.0], min_length=1)
    tau_population: list[float] = Field([0.02, 0.2, 2.0], min_length=1)
    seeds: int = Field(2, ge=1)
    inputs: int = Field(20, ge=2)
    neurons: int = Field(16, ge=2, multiple_of=2)
    samples: int = Field(200, ge=1)
    test_samples: int = Field(500, ge=1)
    iterations: int = Field(1000, ge=1)
    batch: int = Field(50, ge=1)
    population_iterations: int = Field(2000, ge=1)
    averaged: int = Field(200, ge=1)
    precision: Literal["float32", "float64"] = "float32"


def points(config: Config) -> list[dict[str, Any]]:
    """Both settings, each with its own scales; a trial is a seed."""
    scales = {"full_batch": config.tau, "population": config.tau_population}
    return [
        {"setting": setting, "seed": seed, "tau": tau}
        for setting, taus in scales.items()
        for seed in range(config.seeds)
        for tau in taus
    ]


def work(config: Config, points: list[dict[str, Any]]) -> int:
    """Multiply-adds of a typical product."""
    samples = config.samples if points[0]["setting"] == "full_batch" else config.batch
    return tile_work(len(points), config.neurons, torch.empty(samples, config.inputs))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses of one trial in one setting, all its scales as one ensemble."""
    measure_setting = {"full_batch": _full_batch, "population": _population}[points[0]["setting"]]
    scales = torch.tensor([point["tau"] for point in points], dtype=torch.float64)
    return measure_setting(config, points[0]["seed"], scales)


def _start(config: Config, seed: int, scales: Tensor) -> Particles:
    """The doubled net of the trial, times each τ: the same numbers for all of them."""
    streams = [generator(seed, 1) for _ in scales]
    return double(gaussian(config.neurons // 2, config.inputs, generators=streams, std=scales))


def _full_batch(config: Config, seed: int, scales: Tensor) -> list[dict[str, Any]]:
    dtype = getattr(torch, config.precision)
    data = teacher_student(config.samples, config.test_samples, inputs=config.inputs, generator=generator(seed, 0))
    train, test = (
        TwoLayerRisk(x[None], y[None], RELU, scale=1.0) for x, y in ((data.x_train, data.y_train), data[3:5])
    )
    rounded, looked_at = (risk.replace(risk.x.to(dtype), risk.y.to(dtype)) for risk in (train, test))
    start = particles = _start(config, seed, scales)
    step = (0.1 / scales.square()).clamp(max=10)
    record = {*range(0, config.iterations, 10), config.iterations}
    best = torch.full_like(scales, math.inf)
    best_at = torch.zeros_like(scales)
    gradient = _in_precision(rounded.gradient, dtype)
    for iteration, particles in descend(gradient, start, step=step, iterations=config.iterations, record=record):
        loss = looked_at.risk(particles.to(dtype)).double()
        best_at = torch.where(loss < best, iteration, best_at)
        best = torch.minimum(best, loss)
    end = {"train_end": train.risk(particles), "test_end": test.risk(particles)}
    return _rows(config, particles, start, {**end, "test_best": best, "best_iteration": best_at})


def _population(config: Config, seed: int, scales: Tensor) -> list[dict[str, Any]]:
    dtype = getattr(torch, config.precision)
    teacher = random_teacher(config.inputs, generator=generator(seed, 0), magnitude=1 / TEACHER_DIVISOR)
    start = _start(config, seed, scales)
    # Published steps act on the gradient without the factor 1/m, and that of b is multiplied by d.
    step = config.neurons * (0.25 / scales.square()).clamp(max=25)
    batches = _Batches(teacher, config, generator(seed, 2))
    gradient, last = _in_precision(batches.gradient, dtype), config.population_iterations
    ((_, particles),) = descend(gradient, start, step=(step, config.inputs * step), iterations=last, record={last})
    losses = torch.stack(tuple(batches.losses)).double().mean(0)
    fresh = TwoLayerRisk(*batches.draw(2000), RELU).risk(particles)
    end = {"test_end": losses * TEACHER_DIVISOR**2, "fresh": fresh * TEACHER_DIVISOR**2}
    return _rows(config, particles, start, end)


def _in_precision(gradient: Callable[[Particles], Particles], dtype: torch.dtype) -> Callable[[Particles], Particles]:
    """The gradient computed in another precision, for weights that stay in float64."""
    return lambda particles: gradient(particles.to(dtype)).to(torch.float64)


class _Batches:
    """Gradient of the risk on a fresh batch at each call; keeps the losses of the last batches."""

    def __init__(self, teacher: Teacher, config: Config, stream: torch.Generator) -> None:
        self.teacher, self.config, self.stream = teacher, config, stream
        self.dtype = getattr(torch, config.precision)
        self.losses: deque[Tensor] = deque(maxlen=config.averaged)
        x, y = self.draw(config.batch)
        self.risk = TwoLayerRisk(x.to(self.dtype), y.to(self.dtype), RELU)

    def draw(self, samples: int) -> tuple[Tensor, Tensor]:
        x = sphere(samples, self.config.inputs, generator=self.stream)
        return x[None], self.teacher(x)[None]

    def gradient(self, particles: Particles) -> Particles:
        x, y = self.draw(self.config.batch)
        losses, gradient = self.risk.replace(x.to(self.dtype), y.to(self.dtype)).risk_and_gradient(particles)
        self.losses.append(losses)
        return gradient


def _rows(config: Config, end: Particles, start: Particles, columns: dict[str, Tensor]) -> list[dict[str, Any]]:
    """One row a scale; `unit` is m0/(4d), the mean loss of f = 0."""
    motion = weight_motion(end, start, runs=1)
    lists = {name: values.tolist() for name, values in columns.items()} | {"weight_motion": motion.tolist()}
    unit = {"unit": 3 / (4 * config.inputs)}
    return [dict(zip(lists, values, strict=True)) | unit for values in zip(*lists.values(), strict=True)]


def _settings(rows: Any) -> tuple[Any, Any]:
    return rows[rows.setting == "full_batch"], rows[rows.setting == "population"]


def _lazy(rows: Any, column: str) -> Any:
    """Mean of a column over the lazy scales of each trial."""
    return rows[rows.tau >= LAZY].groupby("seed")[column].mean()


def _best_scale(rows: Any) -> float:
    """The scale whose test loss at the end is least in the mean of all trials."""
    return float(rows.groupby("tau").test_end.mean().idxmin())


def _gain(rows: Any) -> Any:
    """In each trial: mean loss of the lazy scales over the loss at the best scale."""
    return _lazy(rows, "test_end") / rows[rows.tau == _best_scale(rows)].set_index("seed").test_end


def judge(rows: pd.DataFrame) -> Judgement:
    """Student intervals over trials: of means for the plateaus, of geometric means for the ratios."""
    full, population = _settings(rows)
    unit = float(rows.unit.iloc[0])
    end, best, plateau = (
        mean_interval(_lazy(part, column) / unit)
        for part, column in ((full, "test_end"), (full, "test_best"), (population, "test_end"))
    )
    gain, population_gain = (geometric_mean_interval(_gain(part)) for part in (full, population))
    measured = {
        END: end.interval,
        BEST: best.interval,
        GAIN: gain.interval,
        PLATEAU: plateau.interval,
        POPULATION_GAIN: population_gain.interval,
    }
    merits = {
        "trials": float(full.seed.nunique()),
        "1000 × test loss at the end, τ ≥ 2 (published: 3.7)": 1000 * unit * end.value,
        "1000 × best test loss, τ ≥ 2 (published: 2.06)": 1000 * unit * best.value,
        "1000 × population loss, τ ≥ 2": 1000 * unit * plateau.value,
        "1000 × what a linear function plus a constant leaves": 1000 * unit * LINEAR_SHARE,
        "test loss, τ ≥ 2 over the best τ": gain.value,
        "the best τ, full batch": _best_scale(full),
        "population loss, τ ≥ 2 over the best τ": population_gain.value,
    }
    return STATEMENT.judge(measured, merits=merits)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and half width of the 95% interval of 1000 × loss, for each setting and scale."""
    lines = []
    for setting, part in zip(("full batch", "population"), _settings(rows), strict=True):
        for tau, cell in part.groupby("tau"):
            line: dict[str, Any] = {"setting": setting, "τ": tau}
            for column, name in (("test_end", "1000 × loss"), ("test_best", "1000 × best loss")):
                if column == "test_end" or setting == "full batch":
                    mean, interval = mean_interval(1000 * cell[column])
                    line[name], line[f"± ({name})"] = mean, interval.high - mean
            lines.append(line | {"‖w − w0‖/‖w0‖": cell.weight_motion.mean()})
    return pd.DataFrame(lines).astype(object).fillna("")


def draw(rows: pd.DataFrame) -> Figure:
    """Test loss against τ: Fig. 1c on the left, Fig. 2b on the right; bands are 95% intervals of the mean."""
    figure, (left, right) = figures.figure(1, 2, width=figures.DOUBLE, height=2.8)
    unit = 1000 * float(rows.unit.iloc[0])
    full, population = _settings(rows)
    with figures.style():
        _curve(left, full, "test_end", figures.PALETTE[0], "-", "end of training")
        _curve(left, full, "test_best", figures.PALETTE[1], "--", "best along training")
        for value, label in ((PUBLISHED_END, "published plateaus"), (PUBLISHED_BEST, None)):
            level = value / PUBLISHED_UNIT * unit
            left.plot([LAZY, full.tau.max()], [level, level], ":", color="#000000", label=label)
        _curve(right, population, "test_end", figures.PALETTE[0], "-", "end of training")
        right.axhline(LINEAR_SHARE * unit, linestyle=":", color="#000000", label="linear + constant")
        for ax, title in ((left, "fixed training set, full batch"), (right, "fresh samples: population loss")):
            ax.set(xscale="log", xlabel="scale τ of the initialisation", ylabel="1000 × test loss", title=title)
            ax.set_ylim(bottom=0)
            ax.legend(loc="lower right")
    return figure


def _curve(ax: Any, rows: Any, column: str, color: str, line: str, label: str) -> None:
    taus = sorted(rows.tau.unique())
    means = [mean_interval(1000 * rows[rows.tau == tau][column]) for tau in taus]
    ax.plot(taus, [mean.value for mean in means], line, color=color, label=label)
    if rows.seed.nunique() > 1:
        figures.band(ax, taus, *np.array([mean.interval for mean in means]).T, color=color)
