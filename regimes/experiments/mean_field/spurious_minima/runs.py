"""Gradient descent on the population risk from many starts, and what is at its ends."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from regimes.conventions import generator
from regimes.experiments.mean_field.missing import TaughtRisk, as_measure
from regimes.experiments.mean_field.spurious_minima.config import GLOBAL, Config
from regimes.meanfield.measures import Measure
from regimes.meanfield.overlaps import relu_gaussian
from regimes.meanfield.particles import Particles
from regimes.meanfield.searches import Field, multistart
from regimes.streams import Measures

BLOCK = 100  # steps between two looks at which runs have ended
RANDOM = 32  # random starts of the search for the lowest first variation
Weights = Float[Tensor, "runs m d"]


def as_functional(weights: Weights, k: int) -> tuple[TaughtRisk, Measure]:
    """The risk beside the teacher Σ_i relu(e_i·x), and the student Σ_j relu(w_j·x) as a measure."""
    basis = torch.eye(k, dtype=weights.dtype).expand(len(weights), k, k)
    student = Particles(weights.new_ones(*weights.shape[:2], 1), weights)
    measure = as_measure(student, 1.0, homogeneous=True)
    return TaughtRisk(Measure(basis, weights.new_ones(len(weights), k)), relu_gaussian), measure


def gradient(weights: Weights, k: int) -> Weights:
    """∂R/∂w_j of R = ½ E(f − y)²."""
    runs, m, _ = weights.shape
    others = torch.cat([weights, torch.eye(k, dtype=weights.dtype).expand(runs, k, k)], 1)
    signs = torch.cat([weights.new_ones(runs, m), -weights.new_ones(runs, k)], 1)
    return relu_gaussian.field(weights, others, signs)[1]


def risk(weights: Weights, k: int) -> Float[Tensor, " runs"]:
    """R = ½ E(f − y)²."""
    functional, measure = as_functional(weights, k)
    return functional.value(measure)


def descend(weights: Weights, k: int, config: Config) -> tuple[Weights, Tensor]:
    """The ends of gradient descent, and the steps of each run; runs that have ended leave the ensemble."""
    ends, steps = weights.clone(), torch.full((len(weights),), config.iterations)
    left, now = torch.arange(len(weights)), weights.clone()
    for done in range(0, config.iterations, BLOCK):
        for _ in range(min(BLOCK, config.iterations - done)):
            now -= config.step * gradient(now, k)
        ends[left] = now
        steps[left] = done + BLOCK
        going = (risk(now, k) > config.found) & (2 * math.pi * speed(now, k) > config.still)
        left, now = left[going], now[going]
        if not len(left):
            break
    return ends, steps.clamp_max(config.iterations)


def speed(weights: Weights, k: int) -> Float[Tensor, " runs"]:
    """The largest ‖∂R/∂w_j‖ of each run."""
    return gradient(weights, k).norm(dim=2).amax(1)


def least_curvature(weights: Float[Tensor, "m d"], k: int, *, step: float = 1e-5) -> float:
    """Smallest eigenvalue of the Hessian of R, by central differences of the gradient: an error of about 1e-9."""
    size = weights.numel()
    moves = step * torch.eye(size, dtype=weights.dtype).view(size, *weights.shape)
    columns = (gradient(weights + moves, k) - gradient(weights - moves, k)).flatten(1) / (2 * step)
    return float(torch.linalg.eigvalsh((columns + columns.T) / 2)[0])


def worst(weights: Weights, k: int, seeds: list[int]) -> tuple[Float[Tensor, " runs"], Float[Tensor, "runs d"]]:
    """Lowest F' = h on the unit sphere and where: searched from all neurons of both nets and from random points."""
    drawn = [torch.randn(RANDOM, k, generator=generator(seed, Measures.SEARCH), dtype=weights.dtype) for seed in seeds]
    basis = torch.eye(k, dtype=weights.dtype)
    search = multistart(torch.stack([torch.cat([basis, points]) for points in drawn]), sphere=True)
    found = search(Field(*as_functional(weights, k)))
    return found.value, found.position[:, 0]


def grown(weights: Weights, directions: Float[Tensor, "runs d"], k: int) -> Float[Tensor, "runs more d"]:
    """The student with one neuron more, r θ with the r ≥ 0 that is best: R falls by h(θ)² if h(θ) < 0, else not at all.

    R(f + r relu(θ·x)) = R + r h(θ) + r²/4, as E relu(θ·x)² = ½ for |θ| = 1. So r = −2h(θ).
    """
    functional, measure = as_functional(weights, k)
    h = functional.variation(measure, directions[:, None])
    return torch.cat([weights, (-2 * h).clamp_min(0)[..., None] * directions[:, None]], 1)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a start.

    stuck: at a spurious minimum; risk, speed, steps: at the end. lowest: least F' on the unit sphere there.
    Of the first spurious minima only: curvature, the least eigenvalue of the Hessian; fall: what one neuron at the
    lowest point takes off the risk; needed: neurons added so, with descent after each, until R ≤ 1e-3, and more than
    `added` if those were not enough; after_worst, after_random: R after the first such neuron, or a random one.
    """
    k, extra = points[0]["teacher"], points[0]["extra"]
    seeds = [point["seed"] for point in points]
    end, steps = descend(torch.stack([first(seed, k, k + extra) for seed in seeds]), k, config)
    found, moved = risk(end, k), speed(end, k)
    stands = (found > GLOBAL) & (2 * math.pi * moved <= config.still)
    columns = {"stuck": stands, "risk": found, "speed": moved, "steps": steps, "lowest": worst(end, k, seeds)[0]}
    missing = dict.fromkeys(("curvature", "fall", "needed", "after_worst", "after_random"), math.nan)
    rows = [{name: values[run].item() for name, values in columns.items()} | missing for run in range(len(points))]
    stuck = stands.nonzero().flatten().tolist()
    for run in stuck[: config.curvatures]:
        rows[run]["curvature"] = least_curvature(end[run], k)
    chosen = stuck[: config.cures]
    if chosen:
        for run, cure in zip(chosen, _cured(end[chosen], k, [seeds[run] for run in chosen], config), strict=True):
            rows[run] |= cure
    return rows


def _cured(end: Weights, k: int, seeds: list[int], config: Config) -> list[dict[str, float]]:
    """What neurons added to spurious minima lead to."""
    before = risk(end, k)
    by_chance = descend(grown(end, _random(end, k, seeds), k), k, config)[0]
    needed = torch.full((len(end),), config.added + 1)
    left, now = torch.arange(len(end)), end
    fall, after = before.clone(), before.clone()
    for number in range(1, config.added + 1):
        bigger = grown(now, worst(now, k, [seeds[run] for run in left])[1], k)
        now = descend(bigger, k, config)[0]
        if number == 1:
            fall, after = before - risk(bigger, k), risk(now, k)
        done = risk(now, k) <= GLOBAL
        needed[left[done]] = number
        left, now = left[~done], now[~done]
        if not len(left):
            break
    columns = {"fall": fall, "needed": needed, "after_worst": after, "after_random": risk(by_chance, k)}
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(end))]


def first(seed: int, k: int, m: int) -> Float[Tensor, "m d"]:
    """Published start: w_j ~ N(0, I/d)."""
    return torch.randn(m, k, generator=generator(seed, Measures.ONE, k, m), dtype=torch.float64) / k**0.5


def _random(end: Weights, k: int, seeds: list[int]) -> Float[Tensor, "runs d"]:
    """Of random directions the first with h < 0; where there is none, the lowest."""
    drawn = [torch.randn(64, k, generator=generator(seed, Measures.OTHER, k), dtype=end.dtype) for seed in seeds]
    points = normalize(torch.stack(drawn), dim=2)
    functional, measure = as_functional(end, k)
    h = functional.variation(measure, points)
    falls = h < 0
    chosen = torch.where(falls.any(1), falls.to(torch.uint8).argmax(1), h.argmin(1))
    return points[torch.arange(len(points)), chosen]
