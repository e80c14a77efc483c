"""How far a network can change its answer: proved Lipschitz constants, and the radius within which a class stays.

Constants multiply along a composition, add along a sum, and are proved for each kind of layer by itself; a network of
ordinary layers has a constant too, mostly a useless one. A layer that has no known constant is refused.

If f_i − f_j is L_ij-Lipschitz for all classes and f_i(x) is the largest output, no δ with ‖δ‖ < min_j (f_i − f_j)/L_ij
changes the class. In general L_ij = √2·Lip(f). Where f = V g + b ends in a linear layer, ‖v_i − v_j‖·Lip(g) ≤
√2 ‖V‖ Lip(g) is used instead. Source: [TsuzukuSato2018] for √2, [SinglaFeizi2022] for rows of the last layer.
"""

import copy
from collections.abc import Callable, Iterable
from math import ceil, inf
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from regimes.checks import count, finite, kind, not_negative, positive, real, shapes
from regimes.models.contractive import UP, ContractiveStep, NormedLinear, Padded, PairSort, UnitRows
from regimes.models.norm_bounds import norm_bound
from regimes.models.residual import Block, ResidualNet, Segment
from regimes.modules.modes import eval_mode
from regimes.modules.targets import Risk

# Of outputs in float64, whose rounding in a network of this size is some 1e-13; it is taken off each margin.
ROUNDING = 1e-9


def lipschitz_bound(model: nn.Module) -> float:
    """A number L with ‖f(x) − f(x')‖ ≤ L‖x − x'‖ for all inputs, in eval mode; proved for the weights as they are.

    It speaks of exact arithmetic on these weights. Norms are those of `norm_bound`, steps and scales those that the
    model computes in its precision: take model.double() for a constant that rounding of a step does not move above 1.
    ValueError names a layer whose constant is not known.
    """
    kind("lipschitz_bound", "model", model, nn.Module, "a torch module")
    with eval_mode(model), torch.no_grad():
        return _bound(model)


@torch.no_grad()
def class_bounds(model: nn.Module) -> float | Float[Tensor, "k k"]:
    """L_ij, above the Lipschitz constants of the differences f_i − f_j: one number for all pairs, or a matrix."""
    kind("class_bounds", "model", model, nn.Module, "a torch module")
    with eval_mode(model):
        parts = _parts(model)
        weight = _weight(parts[-1]) if parts else None
        if weight is None:
            return 2**0.5 * _bound(model) * UP
        weight = weight.double()
        apart = (weight[:, None] - weight[None]).square().sum(2).sqrt()
        return apart * _product(parts[:-1]) * UP + 2.0**-900


@torch.no_grad()
def certified_radius(
    model: nn.Module, x: Float[Tensor, "n *feature"], *, deviation: float = 1.0, batch: int = 500
) -> Float[Tensor, " n"]:
    """For each input a radius within which the network's class cannot change, whatever the change of the input.

    min_j (f_i − f_j)/L_ij·deviation, i the class; by a copy of the model in float64, on the CPU, in eval mode. A change
    as long as the radius itself may make another class equal, not larger. deviation: if x = (image − mean)/deviation,
    the radius is in units of the image; of several channels the smallest deviation.
    """
    kind("certified_radius", "model", model, nn.Module, "a torch module")
    count("certified_radius", "batch", batch)
    shapes("certified_radius", x=(x, "n *feature"))
    real("certified_radius", x=x)
    finite("certified_radius", x=x)
    positive("certified_radius", "deviation", deviation, single=True)
    exact = copy.deepcopy(model).cpu().double().eval()
    bounds = class_bounds(exact)
    outputs = torch.cat([exact(part.cpu().double()) for part in x.split(batch)])
    finite("certified_radius", **{"outputs of the model": outputs})
    return radii(outputs, bounds) * deviation


def radii(outputs: Float[Tensor, "n k"], bounds: float | Float[Tensor, "k k"]) -> Float[Tensor, " n"]:
    """min_j (f_i − f_j)/L_ij, i the class, after ROUNDING of the largest output is taken off; 0 where classes tie.

    One class alone: inf.
    """
    shapes("radii", outputs=(outputs, "n k"))
    top, chosen = outputs.max(1, keepdim=True)
    margins = top - outputs - ROUNDING * outputs.abs().amax(1, keepdim=True)
    found = margins.clamp(min=0) / (bounds[chosen[:, 0]] if isinstance(bounds, Tensor) else max(bounds, 2.0**-900))
    return found.scatter(1, chosen, inf).amin(1)


def margin_cross_entropy(epsilon: float, lipschitz: float = 1.0, temperature: float = 1.0) -> Risk:
    """Cross-entropy of (f − √2 ε L y)/(T L), y one-hot: the right class has to win by √2 ε L to count as a tie.

    L is the Lipschitz constant of f, T the temperature in units of the input; a mean over samples. Source:
    [MeunierDelattre2022], whose training it is.
    """
    not_negative("margin_cross_entropy", "epsilon", epsilon, single=True)
    positive("margin_cross_entropy", "lipschitz", lipschitz, single=True)
    positive("margin_cross_entropy", "temperature", temperature, single=True)
    offset = 2**0.5 * epsilon * lipschitz

    def risk(outputs: Tensor, labels: Tensor) -> Tensor:
        ahead = offset * one_hot(labels, outputs.shape[1]).to(outputs.dtype)
        return cross_entropy((outputs - ahead) / (temperature * lipschitz), labels)

    return risk


def _parts(model: nn.Module) -> list[nn.Module]:
    """The layers of a composition, in order, as far as it is known as one."""
    if isinstance(model, nn.Sequential):
        return [part for layer in model for part in _parts(layer)]
    if isinstance(model, ResidualNet):
        return [*_parts(model.encoder), *model.segments, *_parts(model.head)]
    return [model]


def _weight(layer: nn.Module) -> Tensor | None:
    """The matrix of a linear layer, as it acts."""
    if isinstance(layer, NormedLinear | UnitRows):
        return layer.effective_weight()
    return layer.weight if type(layer) is nn.Linear else None


def _product(layers: Iterable[nn.Module]) -> float:
    bound = 1.0
    for layer in layers:
        bound = bound * _bound(layer)
    return bound if bound == 1.0 else bound * UP


def _bound(layer: nn.Module) -> float:
    if type(layer) not in _RULES:
        raise ValueError(
            f"lipschitz_bound knows no Lipschitz constant of {type(layer).__name__}. Build the network of layers such "
            "as Linear, Conv2d, ReLU, Block, Segment, or of contractive steps."
        )
    return _RULES[type(layer)](layer)


_RULES: dict[type, Callable[[Any], float]] = {}  # of these kinds, not of what inherits from them


def _of(*kinds: type[nn.Module]) -> Callable[[Callable[[Any], float]], Callable[[Any], float]]:
    """Bound the constants of these kinds of layers by the rule that follows."""

    def put(rule: Callable[[Any], float]) -> Callable[[Any], float]:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return put


@_of(nn.Identity, nn.Flatten, nn.ReLU, nn.Tanh, nn.Softplus, nn.Sigmoid, nn.PixelUnshuffle, nn.Dropout)
@_of(Padded, PairSort)
def _keeps(layer: nn.Module) -> float:
    return 1.0


@_of(nn.LeakyReLU)
def _leaks(layer: nn.LeakyReLU) -> float:
    return max(1.0, abs(layer.negative_slope))


@_of(nn.AvgPool2d, nn.MaxPool2d)
def _pools(layer: nn.AvgPool2d | nn.MaxPool2d) -> float:
    """Over squares that do not meet; a mean shrinks distances, a maximum keeps them."""
    if layer.kernel_size != layer.stride or layer.padding != 0 or getattr(layer, "dilation", 1) != 1:
        raise ValueError("lipschitz_bound knows pooling over squares that do not overlap, without padding.")
    return 1.0


@_of(nn.AdaptiveAvgPool2d)
def _means(layer: nn.AdaptiveAvgPool2d) -> float:
    if layer.output_size not in (1, (1, 1)):
        raise ValueError(f"lipschitz_bound knows adaptive pooling to one pixel; got {layer.output_size}.")
    return 1.0


@_of(nn.Linear, NormedLinear, UnitRows)
def _linear(layer: nn.Linear) -> float:
    weight = _weight(layer)
    assert weight is not None
    return float(norm_bound(weight)) * (1.0 if type(layer) is nn.Linear else UP)


@_of(nn.Conv2d)
def _convolution(layer: nn.Conv2d) -> float:
    """√p ‖K‖, K the kernel as a matrix (out, in·taps): each output is K times a patch, each pixel in p patches at most.

    Holds for images of all sizes, with zero padding. Source: [TsuzukuSato2018].
    """
    if layer.padding_mode != "zeros":
        raise ValueError(f"lipschitz_bound knows convolutions with zero padding; got {layer.padding_mode}.")
    groups = torch.stack(layer.weight.flatten(1).chunk(layer.groups))
    steps = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    patches = 1
    for kernel, stride, dilation in steps:
        patches *= ceil(kernel / stride) if dilation == 1 else kernel
    return float(norm_bound(groups).amax()) * patches**0.5 * UP


@_of(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> float:
    """The largest factor of a channel, by the running statistics."""
    if layer.running_var is None:
        raise ValueError("lipschitz_bound needs batch norms with running statistics.")
    factor = (layer.running_var.double() + layer.eps).rsqrt()
    return float((factor if layer.weight is None else factor * layer.weight.double().abs()).amax()) * UP


@_of(ContractiveStep)
def _step(layer: ContractiveStep) -> float:
    """h r alone, without the state to which it is added: between 0 and −ch‖A‖²."""
    return 1 + layer.lipschitz_of_block()


@_of(Block)
def _block(layer: Block) -> float:
    if layer.activation not in (None, torch.relu, nn.functional.relu):
        raise ValueError("lipschitz_bound knows Blocks without an activation at the end, or with relu.")
    start = 1.0 if layer.shortcut is None else _bound(layer.shortcut)
    if isinstance(layer.residual, ContractiveStep) and layer.shortcut is None and 0 <= layer.scale <= 1:
        return layer.residual.lipschitz_of_block()
    return (start + abs(layer.scale) * _bound(layer.residual)) * UP


@_of(nn.Sequential, Segment, ResidualNet)
def _composition(layer: nn.Module) -> float:
    return _product(layer.blocks if isinstance(layer, Segment) else _parts(layer))
