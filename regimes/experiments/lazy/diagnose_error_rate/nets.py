"""Nets whose regime is known by construction, and their training, all nets of a kind as one ensemble.

Lazy by theory: a large α on a centred net ([ChizatOyallonBach2019] Theorem 2.2), wide nets under the NTK scaling, with
and without weight decay ([JacotGabrielHongler2018], [LeeXiao2019]), models that are linear in their trained weights.
Not lazy by theory: α of 1 or less and the 1/m scaling, where each neuron moves by O(1) at any width ([ChizatBach2018]),
also with weight decay, and a deep net with the last layer 1/m and rates in proportion to m, where features move by O(1)
(the mean-field or μP scaling).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from regimes.activations import RELU, TANH, Activation
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.models.scaling import Centred
from regimes.models.two_layer import TwoLayer, ntk_scale
from regimes.streams import Diagnosed

Draw = torch.Generator
WIDE = 20  # widths of a two-layer net under the NTK scaling over that of others
DEEP = 5  # the same of deep nets


class Kind(NamedTuple):
    """lazy: the regime by construction; make(inputs, width, draw): a net; lr, decay: of gradient descent on the risk.

    lr is that of the net's own scale: what is multiplied by α is trained with R(αh)/α².
    """

    lazy: bool
    make: Callable[[int, int, Draw], nn.Module]
    lr: Callable[[int], float]
    decay: float = 0.0


class Scaled(nn.Module):
    """factor · h(x) of inputs that are multiplied by `stretch`."""

    def __init__(self, inner: nn.Module, factor: float = 1.0, stretch: float = 1.0) -> None:
        super().__init__()
        self.inner, self.factor, self.stretch = inner, factor, stretch

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch k"]:
        return self.factor * self.inner(self.stretch * x)


def two_layer(activation: Activation, scale: Callable[[int], float] | None, widths: int = 1) -> Any:
    def make(inputs: int, width: int, draw: Draw) -> nn.Module:
        own = None if scale is None else scale(width * widths)
        return TwoLayer(inputs, width * widths, activation=activation, generator=draw, scale=own)

    return make


def centred(alpha: float) -> Any:
    inner = two_layer(TANH, None)
    return lambda inputs, width, draw: Centred(inner(inputs, width, draw), alpha)


def deep(factor: Callable[[int], float], widths: int) -> Any:
    """Three layers of weights, standard normal at the start, the function of the NTK scaling times a factor."""

    def make(inputs: int, width: int, draw: Draw) -> nn.Module:
        sizes = (inputs, width * widths, width * widths, 1)
        net = MLP(sizes, activation=TANH, generator=draw, sigma_w=1.5)
        return Scaled(net, factor(width * widths), inputs**0.5)

    return make


def random_features(inputs: int, width: int, draw: Draw) -> nn.Module:
    net = TwoLayer(inputs, width * WIDE, activation=RELU, generator=draw, scale=ntk_scale(width * WIDE))
    net.input_weights.requires_grad_(False)
    return net


def linear(inputs: int, width: int, draw: Draw) -> nn.Module:
    net = nn.Linear(inputs, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.randn(1, inputs, generator=draw, dtype=torch.float64))
        net.bias.copy_(torch.randn(1, generator=draw, dtype=torch.float64))
    return net


STEP = 0.5  # of the flow whose kernel is O(1)
KINDS: dict[str, Kind] = {
    "alpha 100": Kind(True, centred(100.0), lambda m: STEP * m / 100.0**2),
    "alpha 30": Kind(True, centred(30.0), lambda m: STEP * m / 30.0**2),
    "alpha 10": Kind(True, centred(10.0), lambda m: STEP * m / 10.0**2),
    "alpha 1": Kind(False, centred(1.0), lambda m: STEP * m),
    "alpha 0.3": Kind(False, centred(0.3), lambda m: STEP * m / 0.3**2),
    "1/m, ReLU": Kind(False, two_layer(RELU, None), lambda m: STEP * m),
    "1/m, weight decay": Kind(False, two_layer(TANH, None), lambda m: STEP * m, decay=1e-3),
    "1/sqrt(m)": Kind(True, two_layer(TANH, ntk_scale, WIDE), lambda m: STEP),
    "1/sqrt(m), decay": Kind(True, two_layer(RELU, ntk_scale, WIDE), lambda m: STEP, decay=1e-3),
    "deep NTK": Kind(True, deep(lambda m: 1.0, DEEP), lambda m: STEP / 5),
    "deep mean-field": Kind(False, deep(lambda m: m**-0.5, 1), lambda m: STEP * m / 5),
    "linear": Kind(True, linear, lambda m: STEP),
    "random features": Kind(True, random_features, lambda m: STEP),
}


class Ensemble(NamedTuple):
    """The nets before and after, their samples, and the training loss at the end over that at the start."""

    starts: list[nn.Module]
    ends: list[nn.Module]
    x: Float[Tensor, "runs n d"]
    y: Float[Tensor, "runs n 1"]
    ratio: Float[Tensor, " runs"]


def samples(name: str, count: int, inputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of the unit sphere with targets sin 3x₁ + sin 3x₂, odd as tanh nets are; linear ones for linear models."""
    draw = generator(seed, Diagnosed.DATA)
    x = torch.randn(count, inputs, generator=draw, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    if name == "linear":
        return x, inputs**0.5 * (x[:, :1] + x[:, 1:2]) + 1
    return x, (3 * x[:, :2]).sin().sum(1, keepdim=True)


def trained(name: str, seeds: list[int], *, count: int, inputs: int, width: int, steps: int, ratio: float) -> Ensemble:
    """Full-batch gradient descent of all seeds at once; each net stops when its loss has fallen by `ratio`."""
    kind = KINDS[name]
    starts = [kind.make(inputs, width, generator(seed, Diagnosed.WEIGHTS)) for seed in seeds]
    ends = [kind.make(inputs, width, generator(seed, Diagnosed.WEIGHTS)) for seed in seeds]
    x, y = (torch.stack(part) for part in zip(*(samples(name, count, inputs, seed) for seed in seeds), strict=True))
    weights, buffers = stack_module_state(ends)
    moving = {key for key, value in ends[0].named_parameters() if value.requires_grad}
    weights = {key: value.detach().requires_grad_(key in moving) for key, value in weights.items()}

    def outputs() -> Tensor:
        return vmap(lambda own, kept, points: functional_call(starts[0], (own, kept), (points,)))(weights, buffers, x)

    first = last = torch.zeros(0)
    for step in range(steps + 1):
        losses = (outputs() - y).square().sum(-1).mean(-1) / 2
        first, last = (losses.detach() if step == 0 else first), losses.detach()
        going = last > ratio * first
        if step == steps or not bool(going.any()):
            break
        slopes = torch.autograd.grad(losses.sum(), [weights[key] for key in moving])
        with torch.no_grad():
            for key, slope in zip(moving, slopes, strict=True):
                rate = kind.lr(width) * going.to(slope).reshape(-1, *[1] * (slope.ndim - 1))
                weights[key] -= rate * slope
                if kind.decay:  # in units of the step of the flow, so that it is the same at every scale
                    weights[key] *= 1 - kind.decay * going.to(slope).reshape(-1, *[1] * (slope.ndim - 1))
    with torch.no_grad():
        for number, end in enumerate(ends):
            for key, value in end.named_parameters():
                value.copy_(weights[key][number])
    return Ensemble(starts, ends, x, y, last / first)
