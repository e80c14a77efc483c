"""Gradient descent on the population loss of two-layer nets in 100 dimensions, beside plain torch and jax.jit.

Five trials of the statements on particle complexity: teacher of 20 neurons, student of m = 25, 61 and 199, float64, one
thread each. The ways, which take turns in one process after a warm-up, and whose weights after a few steps are compared
first:
- the project: `descend` on a `PopulationRisk`, the trials as one ensemble;
- plain torch: for each trial the closed-form loss, its gradient by autograd, and a step, as one writes it for one run;
- jax.jit: the project's own formulas for loss gradients, all trials by vmap, and the steps of a turn in one compiled
  loop.
jax's derivative of arccos at 1 is not a number, so that jax.grad of the plain loss is no rival.

A ratio is the time of a rival over that of the project, turn by turn: above 1 the project is faster. The processor time
decides (what others do on the machine hardly counts), the wall time stands beside it. The share of the matrix rate
counts the two products of m × (m + 20) × 100 of a step against a large float64 product.

Run: python -m benchmarks.particles [--short]
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import clocks, interleave, ratio, spread
from regimes.conventions import generator
from regimes.meanfield.flow import descend
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.population import PopulationRisk, erf_gaussian, relu_gaussian

TRIALS, TEACHERS, INPUTS, TURN, STEP = 5, 20, 100, 20, 0.1
WIDTHS = (25, 61, 199)
OVERLAPS = {"relu": relu_gaussian, "erf": erf_gaussian}
OURS, PLAIN, JAX = "project", "plain torch", "jax.jit"


def problem(m: int) -> tuple[Particles, Particles]:
    """Teacher and start of all trials."""
    teacher = gaussian(TEACHERS, INPUTS, generators=[generator(trial, 0) for trial in range(TRIALS)])
    start = gaussian(m, INPUTS, generators=[generator(trial, m) for trial in range(TRIALS)])
    return Particles(teacher.output / TEACHERS, teacher.input), Particles(start.output, start.input / 10)


def project(unit: str, m: int) -> Iterator[Particles]:
    """Endless turns of the project's descent."""
    teacher, particles = problem(m)
    risk = PopulationRisk(teacher, OVERLAPS[unit])
    while True:
        ((_, particles),) = descend(risk, particles, step=STEP * m, iterations=TURN, record=[TURN])
        yield particles


def plain_relu(u: Tensor, v: Tensor) -> Tensor:
    """E relu(u·x) relu(v·x); cos φ stays below 1, where autograd has no derivative of arccos."""
    lengths = u.norm(dim=1)[:, None] * v.norm(dim=1)
    cosine = (u @ v.T / lengths).clamp(-1 + 1e-15, 1 - 1e-15)
    angle = torch.acos(cosine)
    return lengths * ((1 - cosine**2).sqrt() + (math.pi - angle) * cosine) / (2 * math.pi)


def plain_erf(u: Tensor, v: Tensor) -> Tensor:
    """E erf(u·x) erf(v·x)."""
    sizes = (1 + 2 * u.square().sum(1))[:, None] * (1 + 2 * v.square().sum(1))
    return 2 / math.pi * torch.asin(2 * (u @ v.T) / sizes.sqrt())


def plain(unit: str, m: int) -> Iterator[Particles]:
    """Endless turns, trial by trial, with autograd."""
    overlap = {"relu": plain_relu, "erf": plain_erf}[unit]
    teacher, start = problem(m)
    nets = [tuple(part[trial].clone().requires_grad_() for part in start) for trial in range(TRIALS)]
    optimisers = [torch.optim.SGD(net, lr=STEP * m) for net in nets]
    while True:
        for trial, ((a, u), optimiser) in enumerate(zip(nets, optimisers, strict=True)):
            b, v = (part[trial] for part in teacher)
            for _ in range(TURN):
                weights = a / m
                loss = (weights * (overlap(u, u) @ weights)).sum() / 2 - (weights * (overlap(u, v) @ b)).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        yield Particles(*(torch.stack([part.detach() for part in parts]) for parts in zip(*nets, strict=True)))


def compiled(unit: str, m: int) -> Iterator[Particles]:
    """Endless turns of one compiled loop over the steps of all trials."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def relu_field(u: Any, v: Any, charge: Any) -> Any:
        length, other = jnp.linalg.norm(u, axis=1, keepdims=True), jnp.linalg.norm(v, axis=1, keepdims=True)
        direction = u / length
        cosine = jnp.clip(direction @ (v / other).T, -1, 1)
        slope = direction * (jnp.sqrt(1 - cosine**2) @ (charge * other)) + jnp.arccos(-cosine) @ (charge * v)
        slope = slope / (2 * math.pi)
        return (u * slope).sum(1, keepdims=True), slope

    def erf_field(u: Any, v: Any, charge: Any) -> Any:
        radius, other = ((0.5 + (part**2).sum(1, keepdims=True)) ** -0.5 for part in (u, v))
        z = (u * radius) @ (v * other).T
        slope = (1 / jnp.sqrt(1 - z**2)) @ (charge * other * v) * radius
        slope = slope - u * radius**2 * (u * slope).sum(1, keepdims=True)
        return 2 / math.pi * (jnp.arcsin(z) @ charge), 2 / math.pi * slope

    field = {"relu": relu_field, "erf": erf_field}[unit]

    def step(a: Any, u: Any, b: Any, v: Any) -> Any:
        weights = a / m
        sums, slopes = field(u, jnp.concatenate([u, v]), jnp.concatenate([weights, -b]))
        return a - STEP * sums, u - STEP * m * weights * slopes

    @jax.jit
    def turn(a: Any, u: Any, b: Any, v: Any) -> Any:
        steps: Any = jax.vmap(step)
        return jax.lax.fori_loop(0, TURN, lambda _, net: steps(*net, b, v), (a, u))

    teacher, start = ([jnp.asarray(part.numpy()) for part in net] for net in problem(m))
    while True:
        start = jax.block_until_ready(turn(*start, *teacher))
        yield Particles(*(torch.from_numpy(jax.device_get(part).copy()) for part in start))


WAYS: dict[str, Callable[[str, int], Iterator[Particles]]] = {OURS: project, PLAIN: plain, JAX: compiled}


def compare(unit: str, m: int) -> float:
    """Largest difference between the weights of the ways after one turn, relative to the largest weight."""
    ends = [torch.cat(next(way(unit, m)), 2) for way in WAYS.values()]
    return max(float((end - ends[0]).abs().max() / ends[0].abs().max()) for end in ends[1:])


def matrix_rate(n: int = 1024, repeats: int = 5) -> float:
    """Flops a second of a large float64 product on one thread, the fastest of a few."""
    a, seconds = torch.randn(n, n, dtype=torch.float64), []
    for _ in range(repeats):
        began = time.process_time()
        _ = a @ a
        seconds.append(time.process_time() - began)
    return 2 * n**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="three repeats instead of eleven")
    repeats = 3 if parser.parse_args().short else 11
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    torch.set_num_threads(1)
    rate = matrix_rate()
    print(f"{TRIALS} trials, d = {INPUTS}, float64, one thread, torch {torch.__version__}: {rate / 1e9:.0f} GFlop/s")
    least: dict[str, float] = dict.fromkeys((PLAIN, JAX), math.inf)
    for unit in OVERLAPS:
        for m in WIDTHS:
            distance = compare(unit, m)
            if not distance < 1e-9:
                raise SystemExit(
                    f"{unit}, m = {m}: the ways differ by {distance:.1e} of the weights: nothing to compare"
                )
            runs = {name: way(unit, m) for name, way in WAYS.items()}
            times = interleave(runs, "cpu", repeats=repeats, steps=1, warm_up=2)
            for name, turns in times.items():
                middle = spread([TURN / one.process for one in turns])
                flops = 4 * TRIALS * m * (m + TEACHERS) * INPUTS
                line = (
                    f"{unit}, m = {m}: {name}: {middle.median:.0f} updates a second ({middle.low:.0f} to "
                    f"{middle.high:.0f}), {middle.median * flops / rate:.0%} of the matrix rate"
                )
                if name != OURS:
                    by = {words: ratio(turns, times[OURS], clock) for clock, words in clocks("cpu").items()}
                    line += "; ratio " + ", ".join(f"{one} by {words}" for words, one in by.items())
                    least[name] = min(least[name], next(iter(by.values())).median)
                print(line, flush=True)
    for name, worst in least.items():
        print(f"ratio to {name}, the smallest of all cases: {worst:.2f}")


if __name__ == "__main__":
    main()
