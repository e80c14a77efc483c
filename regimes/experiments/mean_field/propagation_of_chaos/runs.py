"""Flows of m particles beside the limit m → ∞, and how far they are from it over time."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from regimes.control.adaptive import integrate
from regimes.errors import RunFailed
from regimes.experiments.mean_field.propagation_of_chaos.config import (
    ON_THE_CIRCLE,
    PLANNED,
    SMOOTH,
    STRATIFIED,
    Config,
)
from regimes.experiments.mean_field.propagation_of_chaos.equation import CIRCLE, means, solve
from regimes.experiments.mean_field.propagation_of_chaos.torus import Problem, limit, norm, problem, starts
from regimes.transport.discrete import exact_transport

EARLY = 1.0  # the end of the short horizon
_BINS = 48


class Course(NamedTuple):
    """At the measured times: the particles, copies that the limit moves, the limit's particles, means of the waves."""

    particles: Float[Tensor, "times runs m d"]
    copies: Float[Tensor, "times runs m d"]
    limit: Float[Tensor, "times points d"]
    means: Complex[Tensor, "times runs n"]
    limit_means: Complex[Tensor, "times n"]

    def distance(self, gains: Float[Tensor, " n"]) -> Float[Tensor, "times runs"]:
        """In function space, between the net of m particles and the limit; the gains say on which inputs."""
        return norm(gains * (self.means - self.limit_means[:, None]))

    def displacement(self) -> Float[Tensor, "times runs"]:
        """Root mean square over the particles of the way from a particle to its copy, which started from its place."""
        return (self.particles - self.copies).square().sum(3).mean(2).sqrt()


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A row of kind `run` for each point; for the first seeds the course over time; for one seed the equation."""
    name, width, seeds = points[0]["problem"], points[0]["width"], [point["seed"] for point in points]
    net = problem(name, config.modes, config.horizon)
    times = moments(net.horizon, config.moments)
    course = flow(net, width, seeds, times, config.tolerance)
    coarse = flow(net, width, seeds[: config.checked], times, 10 * config.tolerance)
    columns = _distances(net, course, coarse, times)
    if name in ON_THE_CIRCLE:
        columns |= _to_equation(config, name, net, course, times)
    if name in PLANNED and width <= config.largest_plan:
        columns |= _transports(config, name, course, times, seeds)
    rows = [[{"kind": "run"} | {key: float(each[run]) for key, each in columns.items()}] for run in range(len(seeds))]
    for run, seed in enumerate(seeds):
        if seed < config.shown:
            rows[run] += _shown(net, course, times, run)
        if seed == 0 and name == SMOOTH and width == max(config.width):
            rows[run] += _equation_rows(config, net, course, times, run)
    return rows


def moments(horizon: float, number: int) -> list[float]:
    """The measured times: 0, and evenly in log t from EARLY/10 to the horizon, through EARLY itself."""
    short = max(2, round((number - 1) * math.log(10) / math.log(10 * horizon / EARLY)))
    later = np.geomspace(EARLY, horizon, number - short)[1:].tolist()
    return [0.0, *np.geomspace(EARLY / 10, EARLY, short).tolist(), *later]


def flow(net: Problem, width: int, seeds: list[int], times: list[float], tolerance: float) -> Course:
    """All seeds together, with common time steps: particles, their copies and the limit are one system."""
    start, points = starts(net, width, seeds), limit(net)

    def velocity(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        particles, copies, points = (net.waves(part[0]) for part in state)
        far = points.mean(-2)
        return (
            net.velocity(particles, particles.mean(-2))[None],
            net.velocity(copies, far)[None],
            net.velocity(points, far)[None],
        )

    state = (start[None], start[None].clone(), points[None])
    found = [moment.state for moment in integrate(velocity, state, times, rtol=tolerance, atol=tolerance)]
    particles, copies, points = (torch.cat([state[part] for state in found]) for part in range(3))
    means = torch.stack([net.waves(each).mean(-2) for each in particles])
    return Course(particles, copies, points, means, net.waves(points).mean(-2))


def _distances(net: Problem, course: Course, coarse: Course, times: list[float]) -> dict[str, Tensor]:
    """Suprema over the times, how far the integration may have moved them, and what is known of later times.

    _error: the largest change at ten times the tolerance, over the seeds that this is measured for; it stands for all.
    after: no loss ever rises, so after the last time T the distance is at most √(2F) of the net at T plus that of the
    limit. Between the measured times nothing is measured; `_gaps` is the part by which the largest value would fall if
    every second time were left out.
    """
    losses, limits = net.loss(course.means), net.loss(course.limit_means)
    early = torch.tensor(times) <= EARLY
    last = torch.tensor(times) >= times[-1] / 10
    distance = course.distance(net.gains)
    columns = {
        "after": ((2 * losses[-1]).sqrt() + (2 * limits[-1]).sqrt()) / distance.amax(0),
        "at_start": distance[0] / distance.amax(0),
        "at_end": distance[-1] / distance.amax(0),
        "decay": decay(times, limits, last).expand(distance.shape[1]),
    }
    ways = {"distance": lambda one: one.distance(net.gains), "early": lambda one: one.distance(net.gains)[early]}
    ways["displacement"] = lambda one: one.displacement()
    if bool(net.fresh.any()):
        ways["fresh"] = lambda one: one.distance(net.fresh)
    for name, way in ways.items():
        values = way(course)
        top, other = values.amax(0), way(coarse).amax(0)
        columns[name] = top
        columns[f"{name}_error"] = (top[: len(other)] - other).abs().amax().expand(len(top))
        columns[f"{name}_gaps"] = 1 - values[::2].amax(0) / top
    return columns


def decay(times: list[float], losses: Float[Tensor, " times"], last: Tensor) -> Tensor:
    """p of F ∝ t^−p, by least squares in log F against log t, where F is above rounding."""
    above = last & (losses > 1e-24)
    x, y = torch.tensor(times, dtype=torch.float64)[above].log(), losses[above].log()
    if len(x) < 2:
        return torch.tensor(math.inf)
    return -((x - x.mean()) * y).sum() / (x - x.mean()).square().sum()


def _to_equation(config: Config, name: str, net: Problem, course: Course, times: list[float]) -> dict[str, Tensor]:
    """The largest distance to the outputs of the finite volumes, and how far those are from the limit."""
    truth = _equation(name, config.modes, tuple(times), config.cells[-1])[0]
    top = norm(net.gains * (course.means - truth[:, None])).amax(0)
    return {
        "to_equation": top,
        "equation_error": norm(net.gains * (course.limit_means - truth)).amax().expand(len(top)),
    }


@lru_cache(maxsize=4)
def _equation(
    name: str, modes: int, times: tuple[float, ...], cells: int
) -> tuple[Complex[Tensor, "times n"], Float[Tensor, "times cells"]]:
    """The means and the density of the finest finite volumes: the same for all m, kept as they take seconds."""
    net = problem(name, modes, times[-1])
    density = solve(net, list(times), cells)
    return means(net, density), density


def _transports(config: Config, name: str, course: Course, times: list[float], seeds: list[int]) -> dict[str, Tensor]:
    """W2 between particles in R^D, whose angles are not taken modulo 2π; NaN for seeds that it is not solved for.

    to_copies, to_others: to the copies, and to the particles of another seed that is in no other pair, the largest at
    the times EARLY and last. to_law: to the particles of the limit on the circle, at the last time.
    """
    early = min(range(len(times)), key=lambda k: abs(times[k] - EARLY))
    kinds = ["to_law"] if name == STRATIFIED else ["to_copies", "to_others"]
    found = {kind: torch.full((len(seeds),), math.nan, dtype=torch.float64) for kind in kinds}
    for run, seed in enumerate(seeds):
        other = run + config.planned
        for kind in kinds if seed < config.planned else []:
            if kind == "to_others" and other >= len(seeds):
                continue
            cloud = {"to_copies": course.copies[:, run], "to_law": course.limit}.get(kind)
            cloud = course.particles[:, other] if cloud is None else cloud
            places = [-1] if kind == "to_law" else [early, -1]
            found[kind][run] = max(wasserstein(course.particles[place, run], cloud[place]) for place in places)
    return found


def wasserstein(one: Float[Tensor, "m d"], other: Float[Tensor, "points d"]) -> float:
    """W2 between the empirical measures, to the accuracy of a certified plan."""
    plan = exact_transport(one.numpy(), other.numpy())
    if plan.cost is None:
        raise RunFailed(f"the transport between {len(one)} and {len(other)} particles was not solved to the end.")
    return math.sqrt(plan.cost)


def _shown(net: Problem, course: Course, times: list[float], run: int) -> list[dict[str, Any]]:
    losses = net.loss(course.limit_means).tolist()
    together = zip(times, course.distance(net.gains)[:, run].tolist(), losses, strict=True)
    return [{"kind": "course", "time": t, "distance": far, "loss": loss} for t, far, loss in together]


def _equation_rows(config: Config, net: Problem, course: Course, times: list[float], run: int) -> list[dict[str, Any]]:
    """The finite volumes at each number of cells against the limit; the density at the end beside the particles."""
    rows: list[dict[str, Any]] = []
    for cells in config.cells:
        off = norm(net.gains * (means(net, solve(net, times, cells)) - course.limit_means)).amax()
        rows.append({"kind": "equation", "cells": cells, "distance": float(off)})
    density = _equation(SMOOTH, config.modes, tuple(times), config.cells[-1])[1][-1]
    edges = np.linspace(0, CIRCLE, _BINS + 1)
    heights, _ = np.histogram(np.remainder(course.particles[-1, run].numpy().ravel(), CIRCLE), edges, density=True)
    size = len(density) / _BINS
    for bin, height in enumerate(heights):
        mean = float(density[round(bin * size) : max(round(bin * size) + 1, round((bin + 1) * size))].mean())
        rows.append(
            {"kind": "density", "angle": (edges[bin] + edges[bin + 1]) / 2, "particles": height, "density": mean}
        )
    return rows
