"""All seeds of one point of the plane as one ensemble of deep tanh nets, trained by gradient descent.

Layer l of an abc-parametrisation has the weights n^-a_l w_l, where w_l starts as N(0, n^-2b_l) and learns at the rate
η n^-c. Its matrix W_l = n^-a_l w_l therefore starts at n^-(a_l + b_l) and learns at the rate η n^-(c + 2a_l), and
nothing else matters: the nets are kept as W_l. Here c = 0 and
* input weights: a_1 = a − 1/2, b_1 = −a_1, divided by √d at the start and with the rate divided by d;
* hidden weights, 2 ≤ l ≤ L: a_l = a, b_l = 1/2 − a;
* output weights: a_{L+1} = 1/2, b_{L+1} = s − 1/2.
Trained is f − f_0, so that what is left to learn does not depend on the width where s is near 1/2.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import function_norm, generator, square_risk
from regimes.experiments.lazy.abc_phases.config import Config
from regimes.experiments.lazy.scaled_nets import samples
from regimes.streams import LazyNet

Weights = list[Float[Tensor, "seeds _out _into"]]


class Pass(NamedTuple):
    """The inputs of every layer, and the output."""

    states: list[Float[Tensor, "seeds n _width"]]
    output: Float[Tensor, "seeds n 1"]


def start(config: Config, point: dict[str, Any], seeds: list[int]) -> Weights:
    """W_1..W_{L+1} of each seed; one seed is one net all over the plane, but for the size of its output weights."""
    n, streams = point["width"], [generator(seed, LazyNet.WEIGHTS, point["width"]) for seed in seeds]
    shapes = [(n, config.inputs), *[(n, n)] * (config.hidden_layers - 1), (1, n)]
    sizes = [config.inputs**-0.5, *[n**-0.5] * (config.hidden_layers - 1), n ** -point["readout"]]
    return [
        size * torch.stack([torch.randn(*shape, generator=stream, dtype=torch.float64) for stream in streams])
        for shape, size in zip(shapes, sizes, strict=True)
    ]


def rates(config: Config, point: dict[str, Any]) -> list[float]:
    """The learning rate η n^-(c + 2a_l) of each matrix W_l."""
    n, a = float(point["width"]), point["hidden"]
    inside = [n ** (1 - 2 * a) / config.inputs, *[n ** (-2 * a)] * (config.hidden_layers - 1), 1 / n]
    return [config.rate * one for one in inside]


def forward(weights: Weights, x: Float[Tensor, "seeds n d"]) -> Pass:
    """The states x, x_1..x_L of the net, and its output."""
    states = [x]
    for matrix in weights[:-1]:
        states.append(torch.tanh(states[-1] @ matrix.mT))
    return Pass(states, states[-1] @ weights[-1].mT)


def step(weights: Weights, at: Pass, error: Float[Tensor, "seeds n 1"], by: list[float]) -> Weights:
    """One step of gradient descent; error: derivative of the risk by the outputs."""
    moved, back = list(weights), error
    for layer in reversed(range(len(weights))):
        moved[layer] = weights[layer] - by[layer] * (back.mT @ at.states[layer])
        if layer:
            back = (back @ weights[layer]) * (1 - at.states[layer].square())
    return moved


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: change of its last hidden layer, what the first step's change would do to f, and change of f."""
    seeds, by = [point["seed"] for point in points], rates(config, points[0])
    x, y = samples(config.samples, config.inputs, seeds)
    x = x * config.inputs**0.5
    first = weights = start(config, points[0], seeds)
    before = at = forward(weights, x)
    read = []
    for _ in range(config.steps):
        weights = step(weights, at, (at.output - before.output - y) / config.samples, by)
        at = forward(weights, x)
        read = read or [function_norm((at.states[-1] - before.states[-1]) @ first[-1].mT)]
    change = at.output - before.output
    columns = {
        "feature": function_norm(at.states[-1] - before.states[-1]) / function_norm(before.states[-1]),
        "read": read[0],
        "change": function_norm(change),
        "share": square_risk(change, y) / square_risk(torch.zeros_like(y), y),
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]
