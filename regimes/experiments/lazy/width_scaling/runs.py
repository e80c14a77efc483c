"""Gradient descent of both scalings at one width, as one ensemble.

Steps, as published: W ← W − (step/s)·g with step = 1/m for s = 1/√m, 0.05/m for s = 1/m, and g the residuals pulled
back through the net without its scaling, g = ∇R/s. So the step on R itself is step/s²: 1 for 1/√m and 0.05·m (the
particle flow with time step 0.05) for 1/m. The test loss is looked at every 50 steps for its minimum (the published
figure has the end only). float32: in one trial at m = 3, 8, 32 and 256 the test losses of both scalings differ from
those in float64 by less than 0.02.
"""

import math
from typing import Any

import torch

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.synthetic import teacher_student
from regimes.experiments.lazy.width_scaling.config import LAZY, MEAN_FIELD, Config
from regimes.meanfield.flow import descend
from regimes.meanfield.layout import tile_work
from regimes.meanfield.particles import gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet
from regimes.tangent.laziness import weight_motion

SCALINGS = {MEAN_FIELD: lambda m: 1 / m, LAZY: lambda m: 1 / math.sqrt(m)}
STEPS = {MEAN_FIELD: lambda m: 0.05 * m, LAZY: lambda m: 1.0}  # on the gradient of R


def work(config: Config, points: list[dict[str, Any]]) -> int:
    """Multiply-adds of a typical product."""
    return tile_work(len(points), points[0]["width"], torch.empty(config.samples, config.inputs))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses of one trial at one width; both scalings are one ensemble, with α = s·m of the 1/m net."""
    dtype = getattr(torch, config.precision)
    width, seed = points[0]["width"], points[0]["seed"]
    data = teacher_student(
        config.samples,
        config.test_samples,
        inputs=config.inputs,
        magnitude=float(config.inputs),
        generator=generator(seed, LazyNet.DATA),
        dtype=dtype,
    )
    names = [point["scaling"] for point in points]
    alpha = torch.tensor([SCALINGS[name](width) * width for name in names], dtype=torch.float64)
    # The risk's gradient is that of R/α², so α² is put back into the step.
    step = torch.tensor([STEPS[name](width) for name in names], dtype=torch.float64) * alpha.square()
    train = TwoLayerRisk(data.x_train[None], data.y_train[None], RELU, alpha=alpha)
    test = TwoLayerRisk(data.x_test[None], data.y_test[None], RELU, alpha=alpha)
    streams = [generator(seed, LazyNet.WEIGHTS, width, list(SCALINGS).index(name)) for name in names]
    start = gaussian(width, config.inputs, generators=streams, dtype=dtype)
    record = {*range(0, config.iterations, 50), config.iterations}
    best = loss = torch.full_like(alpha, math.inf)
    particles = start
    for _, particles in descend(train, start, step=step.to(dtype), iterations=config.iterations, record=record):
        loss = test.risk(particles).double()
        best = torch.minimum(best, loss)
    unit = config.inputs**2 * 3 * (1 - 2 / math.pi) / (8 * config.inputs)
    columns = (
        train.risk(particles),
        loss,
        best,
        weight_motion(particles.to(torch.float64), start.to(torch.float64), runs=1),
    )
    return [
        {"train_end": train_end, "test_end": test_end, "test_best": test_best, "weight_motion": motion, "linear": unit}
        for train_end, test_end, test_best, motion in zip(*(column.tolist() for column in columns), strict=True)
    ]
