"""Descent on the soft margin of two-layer nets, and the largest margins of the convex problems."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog, nnls
from torch import Tensor
from torch.nn.functional import normalize

from regimes.conventions import generator
from regimes.experiments.mean_field.max_margin.config import PLANE, Config
from regimes.experiments.mean_field.missing import circle
from regimes.meanfield.flow import descend
from regimes.meanfield.particles import Particles
from regimes.streams import Measures

GRID = 1440  # directions of the linear program
EVERY = 10  # steps between two looks
GAP = 0.15  # half of the angle without samples between arcs of the plane
Inputs = Float[Tensor, "runs n d"]
Signs = Float[Tensor, "runs n"]


class SoftMargin:
    """F = log Σ_i e^{−y_i f(x_i)}, f = (1/m) Σ_j a_j relu(b_j·x): its negative flow is that of exponential loss."""

    def __init__(self, x: Inputs, y: Signs) -> None:
        self.x, self.y = x, y

    def margins(self, net: Particles) -> Signs:
        """y_i f(x_i)."""
        return self.y * outputs(net, self.x)

    def gradient(self, particles: Particles, out: Particles | None = None) -> Particles:
        """∂F/∂a, ∂F/∂b."""
        before = particles.input @ self.x.mT
        hidden = before.clamp_min(0)
        margins = self.y * (particles.output.mT @ hidden)[:, 0] / particles.width
        force = (-torch.softmax(-margins, 1) * self.y / particles.width)[..., None]
        slopes = particles.output * (before > 0)
        found = Particles(hidden @ force, (slopes * force.mT) @ self.x)
        return found if out is None else Particles(out.output.copy_(found.output), out.input.copy_(found.input))


def outputs(net: Particles, x: Inputs) -> Signs:
    """f(x_i)."""
    return (net.output.mT @ (net.input @ x.mT).clamp_min(0))[:, 0] / net.width


def variation_norm(net: Particles) -> Float[Tensor, " runs"]:
    """(1/m) Σ_j |a_j| ‖b_j‖."""
    return (net.output[..., 0].abs() * net.input.norm(dim=2)).mean(1)


def output_norm(net: Particles) -> Float[Tensor, " runs"]:
    """(1/m Σ_j a_j²)^½, the norm of f in the space of the kernel (1/m) Σ_j relu(b_j·x) relu(b_j·x')."""
    return net.output[..., 0].square().mean(1).sqrt()


def samples(count: int, d: int, stream: torch.Generator) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """In the plane four arcs of the unit circle of alternate sign; else y = sign(x_1 x_2), 0.3 ≤ |x_1|, |x_2| ≤ 0.6.

    The other d − 2 inputs are uniform in [−½, ½] and say nothing.
    """
    options: dict[str, Any] = {"generator": stream, "dtype": torch.float64}
    if d == PLANE:
        arc = torch.arange(count) % 4
        angle = math.pi / 2 * arc + (torch.rand(count, **options) - 0.5) * (math.pi / 2 - 2 * GAP)
        return torch.stack([angle.cos(), angle.sin()], 1), 1.0 - 2.0 * (arc % 2).to(torch.float64)
    signs = 2.0 * torch.randint(0, 2, (count, 2), generator=stream).to(torch.float64) - 1
    x = torch.rand(count, d, **options) - 0.5
    x[:, :2] = signs * (0.3 + 0.3 * torch.rand(count, 2, **options))
    return x, signs.prod(1)


def first(m: int, d: int, both: bool, stream: torch.Generator) -> Particles:
    """b uniform on the unit sphere; a = ±1 if both layers are trained, 0 if the output layer alone is."""
    input = normalize(torch.randn(m, d, generator=stream, dtype=torch.float64), dim=1)
    signs = 2.0 * torch.randint(0, 2, (m, 1), generator=stream).to(torch.float64) - 1
    return Particles((signs if both else 0 * signs)[None], input[None])


def largest_variation_margin(x: Float[Tensor, "n 2"], y: Float[Tensor, " n"]) -> float:
    """max over ∫|μ| ≤ 1 of min_i y_i ∫ relu(θ·x_i) dμ(θ) on a grid of the circle, by linear programming."""
    columns = (y[:, None] * (x @ circle(GRID).T).clamp_min(0)).numpy()
    columns = np.concatenate([columns, -columns], 1)
    n, size = columns.shape
    found = linprog(
        np.r_[np.zeros(size), -1.0],
        A_ub=np.c_[-columns, np.ones(n)],
        b_ub=np.zeros(n),
        A_eq=np.r_[np.ones(size), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * size + [(None, None)],
    )
    if found.status:
        raise RuntimeError(f"linear program: {found.message}")
    return float(found.x[-1])


def largest_output_margin(hidden: Float[Tensor, "m n"], y: Float[Tensor, " n"]) -> float:
    """max over (1/m) Σ a² ≤ 1 of min_i y_i (1/m) Σ_j a_j hidden_ji: the least norm in the convex hull of y_i φ(x_i).

    As non-negative least squares of [A; c 1ᵀ] p = [0; c], A = φ y/√m: its p, normalised, is that of the least norm.
    """
    columns = (hidden * y).numpy() / math.sqrt(len(hidden))
    large = float(np.abs(columns).max())
    weights, _ = nnls(
        np.r_[columns, large * np.ones((1, len(y)))], np.r_[np.zeros(len(columns)), large], maxiter=100_000
    )
    return float(np.linalg.norm(columns @ (weights / weights.sum())))


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A row of kind `look` whenever a net is looked at, and at its end one of kind `end`.

    level: both layers, the least y f asked for; output layer, the steps taken. least: min y f. variation, output: that
    over the two norms. best_variation, best_output: the largest ones; the former in the plane, the latter where the
    output layer alone is trained. error: share of the test samples on the wrong side.
    """
    d, both = points[0]["inputs"], points[0]["trained"] == "both layers"
    seeds = [point["seed"] for point in points]
    train = [samples(config.samples, d, generator(seed, Measures.DATA, d)) for seed in seeds]
    test = [samples(config.test, d, generator(seed, Measures.OTHER, d)) for seed in seeds]
    x, y = (torch.stack(parts) for parts in zip(*train, strict=True))
    others, truth = (torch.stack(parts) for parts in zip(*test, strict=True))
    nets = [first(config.neurons, d, both, generator(seed, Measures.ONE, d)) for seed in seeds]
    start = Particles(*(torch.cat(parts) for parts in zip(*nets, strict=True)))
    risk, rows = SoftMargin(x, y), [[] for _ in points]
    looks = _both(risk, start, config) if both else _output(risk, start, config)
    for level, reached, net in looks:
        least = risk.margins(net).amin(1)
        columns = {
            "least": least,
            "variation": least / variation_norm(net).clamp_min(1e-300),
            "output": least / output_norm(net).clamp_min(1e-300),
            "error": (truth * outputs(net, others) <= 0).to(torch.float64).mean(1),
        }
        for run in reached.nonzero().flatten().tolist():
            row = {"kind": "look", "level": level} | {name: float(values[run]) for name, values in columns.items()}
            rows[run].append(row)
    hidden = (start.input @ x.mT).clamp_min(0)
    for run, own in enumerate(rows):
        best = {"best_variation": math.nan, "best_output": math.nan}
        if d == PLANE:
            best["best_variation"] = largest_variation_margin(x[run], y[run])
        if not both:
            best["best_output"] = largest_output_margin(hidden[run], y[run])
        own.append((own[-1] if own else {"level": 0.0}) | best | {"kind": "end"})
    return rows


def _both(risk: SoftMargin, start: Particles, config: Config) -> Iterator[tuple[float, Tensor, Particles]]:
    """For each level the runs that have just reached it, with the nets."""
    waiting = torch.zeros(start.runs, dtype=torch.long)
    levels = torch.tensor([*sorted(config.levels), math.inf], dtype=torch.float64)
    record = range(0, config.iterations + 1, EVERY)
    for _, net in descend(risk, start, step=config.step * start.width, iterations=config.iterations, record=record):
        least = risk.margins(net).amin(1)
        for number, level in enumerate(levels[:-1].tolist()):
            reached = (waiting == number) & (least >= level)
            if reached.any():
                waiting += reached
                yield level, reached, net
        if (waiting == len(levels) - 1).all():
            return


def _output(risk: SoftMargin, start: Particles, config: Config) -> Iterator[tuple[float, Tensor, Particles]]:
    """All runs, at steps equally spaced in their logarithm; F is 1/L-smooth in a with L = max_i K(x_i, x_i)."""
    largest = (start.input @ risk.x.mT).clamp_min(0).square().mean(1).amax(1)
    record = {round(config.iterations ** (part / 12)) for part in range(13)}
    every = torch.ones(start.runs, dtype=torch.bool)
    steps = (start.width / largest, 0.0)
    for iteration, net in descend(risk, start, step=steps, iterations=config.iterations, record=record):
        yield float(iteration), every, net
