"""All scales of one seed as one ensemble of flows, and its tangent model; times at which the losses pass the levels.

Published set-up [Kumar2024], read in a copy of the authors' code: x ~ N(0, I), D = 100, n = 550, N = 500 neurons
N(0, I), ε = 1/4, output weights 1, y = (β·x)²/D, full-batch gradient descent on L/α², α up to 32. Here D is smaller,
the flow is exact (see `moments`), β has length √D, and h(w_0) is subtracted at every α. Every flow is integrated at the
tolerance and at ten times the tolerance; the difference of the two delays is the recorded error.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.data.synthetic import gaussian_inputs
from regimes.experiments.lazy.grokking_lazy_rich.config import Config
from regimes.experiments.lazy.grokking_lazy_rich.moments import Course, Problem, course, problem, tangent_test_loss
from regimes.experiments.lazy.rotations import least_error
from regimes.streams import LazyNet


def drawn(config: Config, seed: int) -> Problem:
    """Net, inputs and direction of one seed."""
    neurons = torch.randn(config.width, config.inputs, generator=generator(seed, LazyNet.WEIGHTS), dtype=torch.float64)
    x = gaussian_inputs(config.samples, config.inputs, generator=generator(seed, LazyNet.INPUTS))
    beta = torch.randn(config.inputs, generator=generator(seed, LazyNet.TARGETS), dtype=torch.float64)
    return problem(neurons, x, beta, config.epsilon)


def work(config: Config, points: list[dict[str, Any]]) -> int:
    """Multiply-adds of a typical product."""
    return len(points) * config.samples * config.inputs**2


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a scale: when each loss passes each level, the delays with their errors, and the losses at the end."""
    of = drawn(config, config.first_seed + points[0]["seed"])
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    count = round(config.moments * math.log10(config.horizon))
    times = torch.logspace(0, math.log10(config.horizon), count + 1, dtype=torch.float64)
    fine, coarse = (
        course(of, alpha, times, final=config.final, tolerance=factor * config.tolerance) for factor in (1, 10)
    )
    columns = {"train_end": fine.train[-1], "test_end": fine.test[-1], "time_end": fine.time[-1]}
    for name, level in (("", config.level), ("_other", config.other_level)):
        t_train, t_test, delay, met = delays(fine, level)
        columns |= {f"t_train{name}": t_train, f"t_test{name}": t_test, f"delay{name}": delay}
        columns |= {f"met{name}": met.double(), f"delay{name}_error": (delay - delays(coarse, level)[2]).abs()}
    tangent = torch.tensor([tangent_test_loss(of, float(train)) for train in fine.train[-1]])
    energy = 2 * (1 - 1 / config.inputs) / 3  # of the part of y that is quadratic with trace 0, over that of y
    least = {"least": energy * least_error(config.samples, config.inputs)}
    columns["tangent_end"] = tangent
    return [{name: float(column[run]) for name, column in columns.items()} | least for run in range(len(points))]


def delays(of: Course, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Times at which training and test loss pass the level, their ratio, and whether the test loss has passed it.

    Where it has not, its time is that of the run's end, so that the ratio is too small.
    """
    t_train, t_test = passed(of.time, of.train, level), passed(of.time, of.test, level)
    met = torch.isfinite(t_test)
    t_test = torch.where(met, t_test, of.time[-1])
    return t_train, t_test, t_test / t_train, met


def passed(
    time: Float[Tensor, "moments runs"], loss: Float[Tensor, "moments runs"], level: float
) -> Float[Tensor, " runs"]:
    """The first time at which the loss is at the level, linear between moments in log t and log loss; inf if never."""
    below = loss <= level
    after = below.int().argmax(0).clamp(min=1)[None]
    (t_0, t_1), (l_0, l_1) = ([each.log().gather(0, at)[0] for at in (after - 1, after)] for each in (time, loss))
    share = ((l_0 - math.log(level)) / (l_0 - l_1)).clamp(0, 1)
    return torch.where(below.any(0), torch.exp(t_0 + share * (t_1 - t_0)), math.inf)
