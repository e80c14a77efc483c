"""Models drawn at random: architecture, initial scale, weights and data, all from one seed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import activation
from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.errors import RunFailed
from regimes.experiments.lazy.criterion_predicts.config import Config
from regimes.models.mlp import MLP, NTK, STANDARD
from regimes.streams import Criterion
from regimes.tangent.kernel import ntk
from regimes.tangent.regression import GradientFlow

Choice = TypeVar("Choice")
ATTEMPTS = 100
# What is to be learned, of coordinates s = √d x of order 1.
TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda s: s[:, 0],
    "wave": lambda s: (2 * s[:, 0]).sin(),
    "bump": lambda s: torch.exp(-s[:, 0].square()) + 0.5 * s[:, -1],
    "product": lambda s: s[:, 0] * s[:, -1] + 0.5 * s[:, 0],
}


class Recipe(NamedTuple):
    """What was drawn for a net."""

    width: int
    depth: int
    activation: str
    scale: float
    inputs: int
    target: str
    standard: bool


class Task(NamedTuple):
    """A net with its training points and others, what was drawn, and its tangent model, with K = `time` ‖Dh‖²."""

    net: MLP
    x: Float[Tensor, "n d"]
    y: Float[Tensor, "n 1"]
    x_test: Float[Tensor, "n1 d"]
    recipe: Recipe
    tangent: GradientFlow
    time: float
    stretch: float


def recipe(config: Config, seed: int, attempt: int = 0) -> Recipe:
    """One of each list, independently and with equal chances."""
    draw = generator(seed, Criterion.RECIPE, attempt)

    def one(choices: Sequence[Choice]) -> Choice:
        return choices[int(torch.randint(len(choices), (), generator=draw))]

    return Recipe(
        width=one(config.width),
        depth=one(config.depth),
        activation=one(config.activation),
        scale=one(config.scale),
        inputs=one(config.inputs),
        target=one(tuple(TARGETS)),
        standard=one((False, True)),
    )


def task(config: Config, seed: int) -> Task:
    """The first net drawn whose tangent model gets its share of the risk at K <= `stiffest`: known before any training.

    Some tasks lie in directions in which the kernel is a ten-thousandth of its top; no flow gets there in our time.
    """
    for attempt in range(ATTEMPTS):
        made = draw_task(config, seed, attempt)
        if made.stretch <= config.stiffest:
            return made
    raise RunFailed(f"none of {ATTEMPTS} nets of seed {seed} has K <= {config.stiffest:g}; raise stiffest")


def draw_task(config: Config, seed: int, attempt: int) -> Task:
    """The net of the recipe, on points of the sphere of radius √d; targets have mean 0 and mean square 1."""
    drawn = recipe(config, seed, attempt)
    net = MLP(
        (drawn.inputs, *(drawn.width,) * drawn.depth, 1),
        activation=activation(drawn.activation),
        generator=generator(seed, Criterion.WEIGHTS, attempt),
        sigma_w=drawn.scale,
        sigma_b=0.5,
        parametrisation=STANDARD if drawn.standard else NTK,
    )
    x, x_test = (
        drawn.inputs**0.5 * sphere(count, drawn.inputs, generator=generator(seed, stream, attempt))
        for count, stream in ((config.samples, Criterion.DATA), (config.test_samples, Criterion.TEST))
    )
    y = TARGETS[drawn.target](x)[:, None]
    y = y - y.mean()
    y = y / y.square().mean().sqrt()
    tangent = GradientFlow(ntk(net, x), y)
    time = float(tangent.time_to(config.loss_ratio * float(tangent.risk(0.0))))
    return Task(net, x, y, x_test, drawn, tangent, time, time * float(tangent.eigenvalues[-1]) / config.samples)
