"""Gradient descent of small nets in the plane: the end of each run, and the paths of its neurons."""

import math
from typing import Any

import torch

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.dataset import Dataset
from regimes.data.synthetic import sphere, teacher_student
from regimes.experiments.lazy.trajectories.config import SHOWN, Config
from regimes.meanfield.flow import descend
from regimes.meanfield.particles import Particles, double
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet
from regimes.tangent.laziness import weight_motion

NEAR = math.cos(math.radians(20))


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The end of each run in a row of kind `end`; for the first seeds also its path and its teacher."""
    data = [_data(config, point["seed"]) for point in points]
    starts = [initial(config, point["seed"], point["tau"]) for point in points]
    start = Particles(*map(torch.stack, zip(*starts, strict=True)))
    risk = TwoLayerRisk(torch.stack([d.x_train for d in data]), torch.stack([d.y_train for d in data]), RELU, scale=1.0)
    first = risk.risk(start)
    paths: list[tuple[int, Particles]] = []
    record = {round(config.iterations ** (k / (SHOWN - 1))) for k in range(SHOWN)} | {0}
    for iteration, particles in descend(risk, start, step=config.step, iterations=config.iterations, record=record):
        paths.append((iteration, particles))
    end = paths[-1][1]
    fit = risk.risk(end) / first
    return [
        [_end_row(start, end, fit, run, data[run])] + (_path_rows(paths, run, data[run]) if seed < config.drawn else [])
        for run, seed in enumerate(point["seed"] for point in points)
    ]


def _data(config: Config, seed: int) -> Dataset:
    return teacher_student(config.samples, 200, inputs=2, generator=generator(seed, LazyNet.DATA))


def initial(config: Config, seed: int, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Published law: unit b_j, a_j ~ U(0, 1), doubled, times τ. Draws b first, then a."""
    stream = generator(seed, LazyNet.WEIGHTS)
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
