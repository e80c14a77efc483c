"""Paths of neurons in the plane: a small initialisation sends them to the teacher's directions, a large one does not.

d = 2, 15 training samples uniform on the unit circle; teacher of three ReLU neurons with ‖a_j b_j‖ = 1 and random
signs; student f = Σ_j a_j relu(b_j·x) of 16 neurons, no scaling: b_j uniform on the unit circle, a_j ~ U(0, 1),
doubled ((a, b) and (−a, b), so 8 drawn neurons), all weights times τ = 0.1 (not lazy) or 2 (lazy); 100000 steps of
size 0.005 of full-batch gradient descent on the square risk with ½; weights looked at at 100 times, equally spaced
in log time.

The paper says 20 neurons, its code 16: 16 here (configuration `neurons`). The code as committed multiplies by 0.2,
its comment and the paper give 0.1; 0.1 here. The poster prints the two labels the wrong way round. One published
seed; here `seeds` of them, the same data and the same unscaled initialisation for both τ, and intervals over seeds.
float64.

Predictions, made before the run. Both nets fit the data: risk at the end at most 1% of the risk of f = 0. Mass
balance gives ‖w − w0‖ ≫ ‖w0‖ when τ² is far below the teacher's mass over m: at least twice at τ = 0.1, at most a
quarter at τ = 2. Share of the mass Σ_j |a_j|‖b_j‖ whose neuron lies within 20° of a teacher neuron of its own sign
(chance: about 1/6): at least half at τ = 0.1, at most a third at τ = 2.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.dataset import Dataset
from regimes.data.synthetic import sphere, teacher_student
from regimes.lab import figures
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import geometric_mean_interval, mean_interval
from regimes.meanfield.flow import descend
from regimes.meanfield.particles import Particles, double
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent.laziness import weight_motion

SMALL, LARGE = 0.1, 2.0
NEAR = math.cos(math.radians(20))
COLORS = {1.0: figures.PALETTE[1], -1.0: figures.PALETTE[0]}
SHOWN = 100  # times, equally spaced in log time

FIT = "risk at the end over the risk of f = 0, worse of the two τ"
SMALL_MOTION = f"‖w − w0‖/‖w0‖ at τ = {SMALL:g}"
LARGE_MOTION = f"‖w − w0‖/‖w0‖ at τ = {LARGE:g}"
SMALL_SHARE = f"share of mass within 20° of the teacher at τ = {SMALL:g}"
LARGE_SHARE = f"share of mass within 20° of the teacher at τ = {LARGE:g}"

STATEMENT = Statement(
    claim="With a small initialisation (τ = 0.1) the neurons move to the teacher's directions; with a large one "
    "(τ = 2) training is lazy: the same data are fitted by neurons that hardly move.",
    source="[ChizatOyallonBach2019] Fig. 1a,b",
    predictions=(
        Prediction(FIT, Interval.at_most(0.01), "chosen"),
        Prediction(SMALL_MOTION, Interval.at_least(2.0), "chosen"),
        Prediction(LARGE_MOTION, Interval.at_most(0.25), "chosen"),
        Prediction(SMALL_SHARE, Interval.at_least(0.5), "chosen"),
        Prediction(LARGE_SHARE, Interval.at_most(1 / 3), "chosen"),
    ),
)
GRID = ("tau", "seed")
BATCHED = ("tau", "seed")


class Config(Settings):
    """Scales, seeds and the length of training; configs/trajectories.yaml is the published size."""

    tau: list[float] = Field([SMALL, LARGE], min_length=1)
    seeds: int = Field(5, ge=1)
    neurons: int = Field(16, ge=2, multiple_of=2)
    samples: int = Field(15, ge=1)
    iterations: int = Field(20_000, ge=SHOWN)
    step: float = Field(0.005, gt=0)
    drawn: int = Field(1, ge=1)  # seeds whose paths are kept for the figure


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The end of each run in a row of kind `end`; for the first seeds also its path and its teacher."""
    data = [_data(config, point["seed"]) for point in points]
    starts = [_start(config, point["seed"], point["tau"]) for point in points]
    start = Particles(*map(torch.stack, zip(*starts, strict=True)))
    risk = TwoLayerRisk(torch.stack([d.x_train for d in data]), torch.stack([d.y_train for d in data]), RELU, scale=1.0)
    initial = risk.risk(start)
    paths: list[tuple[int, Particles]] = []
    record = {round(config.iterations ** (k / (SHOWN - 1))) for k in range(SHOWN)} | {0}
    for iteration, particles in descend(risk, start, step=config.step, iterations=config.iterations, record=record):
        paths.append((iteration, particles))
    end = paths[-1][1]
    fit = risk.risk(end) / initial
    return [
        [_end_row(start, end, fit, run, data[run])] + (_path_rows(paths, run, data[run]) if seed < config.drawn else [])
        for run, seed in enumerate(point["seed"] for point in points)
    ]


def _data(config: Config, seed: int) -> Dataset:
    return teacher_student(config.samples, 200, inputs=2, generator=generator(seed, 0))


def _start(config: Config, seed: int, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Published law: unit b_j, a_j ~ U(0, 1), doubled, times τ. Draws b first, then a."""
    stream = generator(seed, 1)
    half = config.neurons // 2
    directions = sphere(half, 2, generator=stream)
    outputs = torch.rand(half, 1, generator=stream, dtype=torch.float64)
    output, input = double(Particles(tau * outputs[None], tau * directions[None]))
    return output[0], input[0]


def _end_row(start: Particles, end: Particles, fit: torch.Tensor, run: int, data: Dataset) -> dict[str, Any]:
    return {
        "kind": "end",
        "fit": float(fit[run]),
        "motion": float(weight_motion(end, start, runs=1)[run]),
        "share": aligned_share(end.output[run], end.input[run], data),
        "share_start": aligned_share(start.output[run], start.input[run], data),
    }


def aligned_share(output: torch.Tensor, input: torch.Tensor, data: Dataset) -> float:
    """Share of Σ_j |a_j|‖b_j‖ in neurons within 20° of a teacher neuron of the same sign."""
    teacher = data.teacher
    assert teacher is not None
    norms = input.norm(dim=1)
    cosines = (input / norms[:, None]) @ (teacher.input / teacher.input.norm(dim=1, keepdim=True)).T
    same_sign = output.sign() == teacher.output.sign().T
    near = ((cosines >= NEAR) & same_sign).any(1)
    mass = output[:, 0].abs() * norms
    return float(mass[near].sum() / mass.sum())


def _path_rows(paths: list[tuple[int, Particles]], run: int, data: Dataset) -> list[dict[str, Any]]:
    teacher = data.teacher
    assert teacher is not None
    signs = paths[-1][1].output[run, :, 0].sign()
    rows = [
        {"kind": "teacher", "iteration": 0, "neuron": j, "x": point[0], "y": point[1], "sign": sign}
        for j, (point, sign) in enumerate(
            zip(teacher.particles.tolist(), teacher.output[:, 0].sign().tolist(), strict=True)
        )
    ]
    for iteration, particles in paths:
        shown = (particles.output[run].abs() * particles.input[run]).tolist()
        rows += [
            {
                "kind": "path",
                "iteration": iteration,
                "neuron": j,
                "x": round(x, 5),
                "y": round(y, 5),
                "sign": float(signs[j]),
            }
            for j, (x, y) in enumerate(shown)
        ]
    return rows


def _ends(rows: Any, tau: float) -> Any:
    return rows[(rows.kind == "end") & (rows.tau == tau)]


def judge(rows: pd.DataFrame) -> Judgement:
    """Student intervals over seeds: geometric for the fit and the motion, means for the shares."""
    small, large = _ends(rows, SMALL), _ends(rows, LARGE)
    fits = [geometric_mean_interval(part.fit.clip(lower=1e-30)) for part in (small, large)]
    fit = max(fits, key=lambda mean: mean.interval.high)
    motions = [geometric_mean_interval(part.motion) for part in (small, large)]
    shares = [mean_interval(part.share) for part in (small, large)]
    measured = {
        FIT: fit.interval,
        SMALL_MOTION: motions[0].interval,
        LARGE_MOTION: motions[1].interval,
        SMALL_SHARE: shares[0].interval,
        LARGE_SHARE: shares[1].interval,
    }
    merits = {
        "seeds": float(small.seed.nunique()),
        SMALL_MOTION: motions[0].value,
        LARGE_MOTION: motions[1].value,
        SMALL_SHARE: shares[0].value,
        LARGE_SHARE: shares[1].value,
        "share of mass within 20° of the teacher at the start": float(small.share_start.mean()),
    }
    return STATEMENT.judge(measured, merits=merits)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the end of training."""
    ends: Any = rows[rows.kind == "end"]
    columns = {"fit": "risk / risk of f = 0", "motion": "‖w − w0‖/‖w0‖", "share": "share of mass within 20°"}
    return ends.groupby("tau")[list(columns)].mean().rename(columns=columns).rename_axis("τ").reset_index()


def draw(rows: pd.DataFrame) -> Figure:
    """Paths of |a_j| b_j of one seed at both τ; arrows are the teacher's neurons, circles the start, dots the end."""
    seed = rows[rows.kind == "path"].seed.min()
    figure, axes = figures.figure(1, 2, width=figures.DOUBLE, height=3.9)
    with figures.style():
        for ax, tau, regime in zip(axes, (SMALL, LARGE), ("not lazy", "lazy"), strict=True):
            _panel(ax, rows[(rows.seed == seed) & (rows.tau == tau)])
            motion = _ends(rows, tau).motion
            ax.set_title(
                f"τ = {tau:g}: {regime}\n‖w − w₀‖ / ‖w₀‖ = {motion.median():.2g} (median of {len(motion)} seeds)"
            )
        for sign, name in ((1.0, "positive output weight"), (-1.0, "negative output weight")):
            axes[0].plot([], [], "-o", color=COLORS[sign], label=name)
        axes[0].plot([], [], "o", markerfacecolor="none", color="#666666", label="start")
        axes[0].plot([], [], color="#999999", linewidth=4, alpha=0.5, label="teacher")
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def _panel(ax: Any, rows: Any) -> None:
    path, teacher = rows[rows.kind == "path"], rows[rows.kind == "teacher"]
    angles = np.linspace(0, 2 * math.pi, 200)
    ax.plot(np.cos(angles), np.sin(angles), ":", color="#666666", linewidth=1)
    for x, y, sign in teacher[["x", "y", "sign"]].itertuples(index=False):
        shape = {"arrowstyle": "-|>", "linewidth": 4, "mutation_scale": 18, "alpha": 0.4, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x, y), (0, 0), arrowprops={"color": COLORS[sign], **shape}, zorder=1)
    for _, neuron in path.groupby("neuron"):
        color = COLORS.get(neuron.sign.iloc[0], "#666666")
        ax.plot(neuron.x, neuron.y, color=color, linewidth=1.2)
        ax.plot(neuron.x.iloc[:1], neuron.y.iloc[:1], "o", markerfacecolor="none", color="#666666", markersize=4)
        ax.plot(neuron.x.iloc[-1:], neuron.y.iloc[-1:], "o", color=color, markersize=4)
    reach = 1.1 * max(1.0, float(np.abs(path[["x", "y"]].to_numpy()).max()))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$|a|\\,b_1$", ylabel="$|a|\\,b_2$")
