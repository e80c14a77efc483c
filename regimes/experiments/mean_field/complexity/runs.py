"""Student-teacher problems of two-layer nets, the descent of all neurons, and the fit of the output weights alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.mean_field.complexity.config import CONVEX, ComplexityConfig
from regimes.meanfield.flow import descend
from regimes.meanfield.overlaps import ErrorFunctionOverlap, ReluOverlap, erf_gaussian, logistic, relu_gaussian
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk
from regimes.meanfield.rank_bound import rank_bound
from regimes.streams import Measures

DEGREES = 40  # of the Hermite polynomials in the lower bound


class Unit(NamedTuple):
    """An activation: its overlap in the descent and at the end, size of the teacher's output weights, and the band.

    band: the loss below which the published figure writes "below optimisation error".
    """

    overlap: ReluOverlap | ErrorFunctionOverlap
    exact: ReluOverlap | ErrorFunctionOverlap
    size: float
    band: float


UNITS = {
    "relu": Unit(relu_gaussian, relu_gaussian, 1.0, 2e-5),
    "logistic": Unit(logistic(3), logistic(10), 10.0, 1e-4),
    "erf": Unit(erf_gaussian, erf_gaussian, 5.0, 1e-4),  # as 10 σ(s) = 5 + 5 tanh(s/2)
}


def measure(config: ComplexityConfig, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a trial: its loss ½ E(f − y)², and what limits it.

    teachers: m0; zero: loss of f = 0; bound: no net of so many neurons has a smaller loss; error: how far the loss is
    off, as the activation of the descent is not the exact one, by rounding, or as the fit is not the best one.
    The flow: loss after half of its steps, number of steps, and flow time.
    """
    unit, width, seeds = UNITS[points[0]["unit"]], points[0]["width"], [point["seed"] for point in points]
    teacher, student = problem(config, points[0]["unit"], width, seeds)
    risk = PopulationRisk(teacher, unit.exact)
    zero = risk.risk(Particles(torch.zeros_like(student.output), student.input))
    if points[0]["way"] == CONVEX:
        columns = fit(student, teacher, unit.exact)
    else:
        columns = settle(PopulationRisk(teacher, unit.overlap), student, config, unit.band * config.enough)
        near, end = columns.pop("loss"), Particles(columns.pop("output"), columns.pop("input"))
        columns |= {"loss": risk.risk(end), "error": (risk.risk(end) - near).abs()}
    floor = torch.finfo(zero.dtype).eps * 10 * zero  # rounding, see PopulationRisk
    columns |= {"error": columns["error"] + floor, "loss": columns["loss"].maximum(floor)}
    columns["teachers"] = torch.full_like(zero, config.teachers)
    columns |= {"zero": zero, "bound": rank_bound(teacher, unit.exact, width, degrees=DEGREES)}
    return [{name: float(values[run]) for name, values in columns.items()} for run in range(len(points))]


def problem(config: ComplexityConfig, unit: str, width: int, seeds: list[int]) -> tuple[Particles, Particles]:
    """Teacher y = 1/m0 Σ_i ± size σ(b_i·x), b_i ~ N(0, I), as many + as −; and the start of the student.

    ReLU: the neurons (a, b) uniform on the sphere of the radius. Others: a = 0 and b ~ N(0, I).
    """
    m0, d, size = config.teachers, config.inputs, UNITS[unit].size
    input = gaussian(m0, d, generators=[generator(seed, Measures.OTHER) for seed in seeds]).input
    sign = torch.ones(len(seeds), m0, 1, dtype=input.dtype)
    sign[:, m0 // 2 :] = -1
    output, weights = gaussian(width, d, generators=[generator(seed, Measures.ONE, width) for seed in seeds])
    if unit == "relu":
        length = (output.square() + weights.square().sum(2, keepdim=True)).sqrt() / config.radius
        start = Particles(output / length, weights / length)
    else:
        start = Particles(torch.zeros_like(output), weights)
    return Particles(sign * size / m0, input), start


def settle(
    risk: PopulationRisk, start: Particles, config: ComplexityConfig, enough: float
) -> dict[str, Float[Tensor, " runs *_"]]:
    """Plain gradient descent on all weights, the particle flow in explicit Euler steps, of all runs together.

    After each round of steps the loss is looked at. A run whose loss rose goes back to the round's start and halves its
    step; else the step grows by a fifth. A run whose loss is `enough` leaves the ensemble.
    """
    runs, m = start.runs, start.width
    particles, step = start.clone(), torch.full((runs,), config.step, dtype=start.output.dtype)
    loss, (time, half) = risk.risk(start), torch.zeros(2, runs, dtype=step.dtype)
    steps, history = torch.zeros(runs, dtype=torch.long), [loss]
    for _ in range(max(1, config.steps // config.round)):
        chosen = (loss > enough).nonzero()[:, 0]
        if not len(chosen):
            break
        part = risk.select(chosen, of=runs)
        here, size = particles.select(chosen), step[chosen]
        ((_, there),) = descend(part, here, step=size * m, iterations=config.round, record=[config.round])
        value = part.risk(there)
        fell = value <= loss[chosen]
        for whole, new in zip(particles, there, strict=True):
            whole[chosen[fell]] = new[fell]
        loss = loss.index_copy(0, chosen[fell], value[fell])
        time[chosen[fell]] += (size * config.round)[fell]
        steps[chosen] += config.round
        step[chosen] = torch.where(fell, 1.2 * size, size / 2)
        history.append(loss)
    middle = (steps // config.round) // 2
    half = torch.stack(history)[middle, torch.arange(runs)]
    return {"loss": loss, "half": half, "steps": steps, "time": time, **particles._asdict()}


def fit(
    start: Particles, teacher: Particles, overlap: Callable[[Tensor, Tensor], tuple[Tensor, Any]]
) -> dict[str, Float[Tensor, " runs"]]:
    """The output weights of least loss for the input weights of the start, without ridge; the fit's loss.

    The loss ½ aᵀKa − aᵀk + c is that of the weights found, whatever the condition of K; it is above the least one by
    half of gᵀK⁻¹g, g the gradient that is left: the `error`. K that has no Cholesky factor in rounding is inverted on
    its eigenvectors above rounding.
    """
    losses, errors = [], []
    for run in range(start.runs):  # one matrix of thousands of neurons at a time
        u, v, b = start.input[run, None], teacher.input[run, None], teacher.output[run]
        kernel, cross = overlap(u, u)[0][0], overlap(u, v)[0][0] @ b
        constant = float(b.mT @ (overlap(v, v)[0][0] @ b)) / 2
        solve = solver(kernel)
        weights = solve(cross)
        weights = weights - solve(kernel @ weights - cross)  # one step of refinement
        left = kernel @ weights - cross
        losses.append(constant + float(weights.mT @ (left - cross)) / 2)
        errors.append(abs(float(left.mT @ solve(left))) / 2)
    loss, error = torch.tensor([losses, errors], dtype=start.input.dtype)
    none = torch.zeros_like(loss)
    return {"loss": loss, "error": error, "half": loss, "steps": none, "time": none}


def solver(kernel: Float[Tensor, "m m"]) -> Callable[[Tensor], Tensor]:
    """b ↦ K⁻¹ b by Cholesky, or by the eigenvectors whose eigenvalue is above m ε times the largest."""
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if not failed:
        return lambda b: torch.cholesky_solve(b, factor)
    values, vectors = torch.linalg.eigh(kernel)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    values, vectors = values[kept, None], vectors[:, kept]
    return lambda b: vectors @ ((vectors.mT @ b) / values)
