"""Gradient descent of small nets with fixed times, trained times, or trained weights, at all steps together."""

from typing import Any

import torch

from regimes.experiments.mean_field.depth_coordinate.config import FIXED, TIMES, WEIGHTS, Config
from regimes.experiments.mean_field.paths import paths, problem
from regimes.meanfield.depth_times import Coordinate, descend, timed_measure

COORDINATES: dict[str, Coordinate] = {FIXED: "fixed", TIMES: "times", WEIGHTS: "weights"}
SHOWN = 24  # moments at which risks, and the times of the first seed, are kept
DRAWN = 1


def moments(config: Config) -> list[int]:
    """Steps evenly spaced in log, with the start and the end."""
    return sorted({0, *(round(config.steps ** (k / (SHOWN - 1))) for k in range(SHOWN))})


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A row of kind `run` a point: risks by step, particles out of place; of the first seed also its times (`time`)."""
    arm, seeds = points[0]["arm"], [point["seed"] for point in points]
    risk = problem(config.samples, config.inputs, seeds)
    start = timed_measure(paths(config.neurons, config.inputs, seeds).blocks(config.layers))
    if arm == WEIGHTS:
        start = start._replace(time=torch.ones_like(start.time))
    rate, relative = (torch.tensor([point[key] for point in points], dtype=start.time.dtype) for key in RATES)
    wanted, kept = moments(config), []
    course = descend(
        risk,
        start,
        step=rate,
        steps=config.steps,
        coordinate=COORDINATES[arm],
        relative=relative,
    )
    for step, (value, particles) in enumerate(course):
        if step in wanted:
            kept.append((value, particles))
    order = kept[-1][1].order()
    moved = (order != torch.arange(config.layers)).sum(1) if arm == TIMES else torch.zeros(len(points))
    rows: list[list[dict[str, Any]]] = []
    for run, seed in enumerate(seeds):
        risks = {f"risk_{step}": float(value[run]) for step, (value, _) in zip(wanted, kept, strict=True)}
        rows.append([{"kind": "run", "moved": float(moved[run])} | risks])
        if arm == TIMES and seed < DRAWN:
            rows[-1] += [
                {"kind": "time", "step": step, "block": block, "tau": round(tau, 5), "u": round(pushed, 5)}
                for step, (_, particles) in zip(wanted, kept, strict=True)
                for block, (tau, pushed) in enumerate(
                    zip(particles.time[run].tolist(), _pushed(risk.readout[run], particles.output[run]), strict=True)
                )
            ]
    return rows


RATES = ("rate", "relative")


def _pushed(readout: torch.Tensor, output: torch.Tensor) -> list[float]:
    """How strongly each block can move the output: the norm over its neurons of u·w."""
    return (output @ readout).norm(dim=1).tolist()
