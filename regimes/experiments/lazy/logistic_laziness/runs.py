"""All losses, scales and seeds as one ensemble, looked at at all times.

Protocol. α (h − h(w_0)), h(x) = (1/m) Σ_j a_j tanh(b_j·x), from m Gaussian neurons, both layers trained by particle
flow. n points on the unit sphere of R^d with labels ±1 by chance, fresh for each seed. The kernel is positive definite,
so the tangent model separates any labels. Net and tangent model are integrated together, twice: at the tolerance and at
ten times the tolerance. The difference of the two is the recorded error.
"""

from typing import Any

import torch
from torch import Tensor

from regimes.activations import TANH
from regimes.conventions import function_norm
from regimes.experiments.lazy.logistic_laziness.config import LOGISTIC, Config
from regimes.experiments.lazy.logistic_laziness.flow import Course, Pair, courses, hidden, margin, outputs
from regimes.experiments.lazy.starts import nets, on_sphere, targets
from regimes.meanfield.displacement import displaced, flatten_particles, motion, tangent_features
from regimes.meanfield.particles import Particles
from regimes.streams import LazyNet


def pair_of(config: Config, runs: list[tuple[str, float, int]]) -> Pair:
    """Nets and samples of the runs, by loss, scale and seed."""
    seeds = [seed for *_, seed in runs]
    start = nets([{"start": "centred", "seed": seed} for seed in seeds], config.inputs, config.width)
    x, y = on_sphere(config.samples, config.inputs, seeds), targets(config.samples, seeds).sign()
    alpha = torch.tensor([scale for _, scale, _ in runs], dtype=torch.float64)[:, None, None]
    return Pair.of(start, alpha, x, y, torch.tensor([loss == LOGISTIC for loss, *_ in runs])[:, None, None])


def distances(pair: Pair, at: Course, fresh: Tensor) -> dict[str, Tensor]:
    """What is measured of a course, as vectors: their norms are the distances."""
    alpha, width = pair.alpha, pair.start.width
    moved = Particles(at.output, at.input)
    now, features = displaced(pair.start, moved, alpha), tangent_features(pair.start, pair.x, TANH)
    v, v_bar = flatten_particles(moved), (features @ at.coefficients)[..., 0]
    f, held_out = (
        alpha * (outputs(now, hidden(now, x)) - outputs(pair.start, hidden(pair.start, x))) for x in (pair.x, fresh)
    )
    tangent = tangent_features(pair.start, fresh, TANH).mT @ v_bar[..., None] / width
    return {
        "weights": v / alpha[:, 0],
        "departure": (v - v_bar) / alpha[:, 0],
        "train": f - pair.kernel @ at.coefficients,
        "held_out": held_out - tangent,
        "held_out_size": tangent,
    }


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a loss, scale, time and seed: the distances, each with the measured error of integration."""
    keys = [(point["loss"], point["alpha"], point["seed"]) for point in points]
    runs = list(dict.fromkeys(keys))
    pair, times = pair_of(config, runs), sorted({point["log_time"] for point in points})
    fresh = on_sphere(config.held_out, config.inputs, [seed for *_, seed in runs], LazyNet.TEST_INPUTS)
    size = motion(flatten_particles(pair.start), config.width)
    margins = [margin(kernel, y) for kernel, y in zip(pair.kernel, pair.y, strict=True)]

    def norm(name: str, value: Tensor) -> Tensor:
        return motion(value, config.width) if name in ("weights", "departure") else function_norm(value)

    solutions = (courses(pair, times, by * config.tolerance, by * config.converged) for by in (1, 10))
    table: dict[float, dict[str, Tensor]] = {}
    for time, fine, coarse in zip(times, *solutions, strict=True):
        here, there = (distances(pair, at.state, fresh) for at in (fine, coarse))
        table[time] = {name: norm(name, value) for name, value in here.items()}
        table[time] |= {f"{name}_error": norm(name, value - there[name]) for name, value in here.items()}
        table[time] |= {"initial": size, "margin": torch.tensor(margins), "steps": fine.steps + fine.rejected}
    index = {key: place for place, key in enumerate(runs)}
    return [
        {name: float(column[index[key]]) for name, column in table[point["log_time"]].items()}
        for key, point in zip(keys, points, strict=True)
    ]
