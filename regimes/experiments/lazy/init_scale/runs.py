"""Training of one trial at all its scales, as one ensemble: on a fixed set, or on fresh samples.

In the population setting all τ of a trial also share their batches (published: drawn anew for each τ);
the test loss is looked at every 10 steps (published: at each). Gradients are computed in float32 (configuration
`precision`), weights are kept in float64: with weights in float32 the late steps of a lazy net round to nothing,
which lowered the test loss at τ = 10 from 3.19 to 2.69 in one trial; with gradients alone in float32 it changed by
2·10⁻⁴. Doubling here leaves the sign of the first half's a as drawn: the doubled net is the same set of neurons as
with |a|.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.synthetic import sphere, teacher_student
from regimes.data.teacher import Teacher, random_teacher
from regimes.experiments.lazy.init_scale.config import Config
from regimes.meanfield.flow import descend
from regimes.meanfield.layout import tile_work
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet
from regimes.tangent.laziness import weight_motion

TEACHER_DIVISOR = 200.0  # of the population setting


def work(config: Config, points: list[dict[str, Any]]) -> int:
    """Multiply-adds of a typical product."""
    samples = config.samples if points[0]["setting"] == "full_batch" else config.batch
    return tile_work(len(points), config.neurons, torch.empty(samples, config.inputs))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses of one trial in one setting, all its scales as one ensemble."""
    measure_setting = {"full_batch": _full_batch, "population": _population}[points[0]["setting"]]
    scales = torch.tensor([point["tau"] for point in points], dtype=torch.float64)
    return measure_setting(config, points[0]["seed"], scales)


def initial(config: Config, seed: int, scales: Tensor) -> Particles:
    """The doubled net of the trial, times each τ: the same numbers for all of them."""
    streams = [generator(seed, LazyNet.WEIGHTS) for _ in scales]
    return double(gaussian(config.neurons // 2, config.inputs, generators=streams, std=scales))


def _full_batch(config: Config, seed: int, scales: Tensor) -> list[dict[str, Any]]:
    dtype = getattr(torch, config.precision)
    data = teacher_student(
        config.samples, config.test_samples, inputs=config.inputs, generator=generator(seed, LazyNet.DATA)
    )
    train, test = (
        TwoLayerRisk(x[None], y[None], RELU, scale=1.0) for x, y in ((data.x_train, data.y_train), data[3:5])
    )
    rounded, looked_at = (risk.replace(risk.x.to(dtype), risk.y.to(dtype)) for risk in (train, test))
    start = particles = initial(config, seed, scales)
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
    teacher = random_teacher(config.inputs, generator=generator(seed, LazyNet.DATA), magnitude=1 / TEACHER_DIVISOR)
    start = initial(config, seed, scales)
    # Published steps act on the gradient without the factor 1/m, and that of b is multiplied by d.
    step = config.neurons * (0.25 / scales.square()).clamp(max=25)
    batches = _Batches(teacher, config, generator(seed, LazyNet.INPUTS))
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
