"""Proved Lipschitz constants, one rule for each kind of layer, and their product along a composition.

A rule speaks of its class alone. What inherits from it, what hooks or a forward of its own may have changed, and
settings for which a layer does something else are refused.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from math import ceil, isfinite
from sys import float_info
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from regimes.checks import finite, kind
from regimes.models.contractive import UP, ContractiveStep, NormedLinear, Padded, PairSort, UnitRows
from regimes.models.norm_bounds import norm_bound
from regimes.models.residual import Block, ResidualNet, Segment
from regimes.modules.hooks import altered


def require_own_layers(caller: str, model: nn.Module) -> None:
    """Refuse what is no module, layers that may not do what their class does, and numbers that are not finite."""
    kind(caller, "model", model, nn.Module, "a torch module")
    for name, module in model.named_modules():
        if altered(module):
            where = f"layer {name!r}" if name else "the model"
            raise ValueError(
                f"{caller} needs layers that do what their class does; {where} ({type(module).__name__}) has hooks on "
                "its way forward, as of the older weight_norm and spectral_norm, or a forward of its own. Remove them."
            )
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{caller} needs a model whose tensors have values; {name!r} of a lazy module has none yet. Call the "
                "model on one batch first."
            )
        finite(caller, **{name: tensor})


def parts_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a composition, in order, as far as it is known as one; what inherits may compute another thing."""
    if type(model) is nn.Sequential:
        return [part for layer in model for part in parts_of(layer)]
    if type(model) is ResidualNet:
        return [*parts_of(model.encoder), *model.segments, *parts_of(model.head)]
    return [model]


def weight_of(layer: nn.Module) -> Tensor | None:
    """The matrix of a linear layer, as it acts."""
    if type(layer) in (NormedLinear, UnitRows):
        return cast(NormedLinear | UnitRows, layer).effective_weight()
    return cast(nn.Linear, layer).weight if type(layer) is nn.Linear else None


def product_bound(layers: Iterable[nn.Module]) -> float:
    """The product of their constants, rounded up."""
    bound = 1.0
    for layer in layers:
        factor = layer_bound(layer)
        bound = max(bound * factor, float_info.min) if bound > 0 and factor > 0 else 0.0
    return bound if bound == 1.0 else bound * UP


def layer_bound(layer: nn.Module) -> float:
    """The constant of a layer in eval mode; ValueError where none is known."""
    if type(layer) not in _RULES:
        raise ValueError(
            f"lipschitz_bound knows no Lipschitz constant of {type(layer).__name__}. Build the network of layers such "
            "as Linear, Conv2d, ReLU, Block, Segment, or of contractive steps."
        )
    if layer.training:
        raise ValueError(f"lipschitz_bound needs layers that eval() can reach; this {type(layer).__name__} trains on.")
    return require_finite(_RULES[type(layer)](layer), layer)


def require_finite(bound: float, layer: nn.Module) -> float:
    """The bound; ValueError for NaN and what is too large for a number."""
    if not isfinite(bound):
        raise ValueError(
            f"lipschitz_bound finds no finite constant of {type(layer).__name__}; it comes out as {bound}. Look at its "
            "weights, statistics and factors."
        )
    return bound


_RULES: dict[type, Callable[[Any], float]] = {}  # of these kinds, not of what inherits from them


def _of(*kinds: type[nn.Module]) -> Callable[[Callable[[Any], float]], Callable[[Any], float]]:
    """Bound the constants of these kinds of layers by the rule that follows."""

    def put(rule: Callable[[Any], float]) -> Callable[[Any], float]:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return put


@_of(nn.Identity, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.PixelUnshuffle, nn.Dropout, Padded, PairSort)
def _keeps(layer: nn.Module) -> float:
    return 1.0


@_of(nn.Flatten)
def _flattens(layer: nn.Flatten) -> float:
    if layer.start_dim < 1:
        raise ValueError(f"lipschitz_bound knows Flatten within each sample, start_dim >= 1; got {layer.start_dim}.")
    return 1.0


@_of(nn.Softplus)
def _softplus(layer: nn.Softplus) -> float:
    """The function; torch goes over to the identity at βx = threshold, at 20 in a jump by 1e-10 of the value."""
    if not layer.threshold >= 20 or not isfinite(layer.beta) or layer.beta == 0:
        raise ValueError(
            f"lipschitz_bound knows Softplus with a threshold of at least 20, below which torch's has a jump; got "
            f"{layer}."
        )
    return 1.0


@_of(nn.LeakyReLU)
def _leaks(layer: nn.LeakyReLU) -> float:
    slope = abs(layer.negative_slope)
    if layer.inplace and not slope <= 1:
        raise ValueError(
            f"lipschitz_bound needs a LeakyReLU with a slope of size {slope} to leave its input as it is: within a "
            "residual it would change the state too. Set inplace=False."
        )
    return 1.0 if slope <= 1 else slope


@_of(nn.AvgPool2d, nn.MaxPool2d)
def _pools(layer: nn.AvgPool2d | nn.MaxPool2d) -> float:
    """Over squares that do not meet; a mean shrinks distances, a maximum keeps them. Both leave out what is outside."""
    if layer.kernel_size != layer.stride or layer.padding != 0 or getattr(layer, "dilation", 1) != 1:
        raise ValueError("lipschitz_bound knows pooling over squares that do not overlap, without padding.")
    if getattr(layer, "divisor_override", None) is not None or getattr(layer, "return_indices", False):
        raise ValueError("lipschitz_bound knows pooling to means and maxima alone: no divisor_override, no indices.")
    return 1.0


@_of(nn.AdaptiveAvgPool2d)
def _means(layer: nn.AdaptiveAvgPool2d) -> float:
    if layer.output_size not in (1, (1, 1)):
        raise ValueError(f"lipschitz_bound knows adaptive pooling to one pixel; got {layer.output_size}.")
    return 1.0


@_of(nn.Linear, NormedLinear, UnitRows)
def _linear(layer: nn.Linear) -> float:
    weight = weight_of(layer)
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
        raise ValueError(
            "lipschitz_bound needs batch norms with running statistics; got one that takes those of each batch, which "
            "mixes samples. Make it with track_running_stats=True."
        )
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
    start = 1.0 if layer.shortcut is None else layer_bound(layer.shortcut)
    if type(layer.residual) is ContractiveStep and layer.shortcut is None and 0 <= layer.scale <= 1:
        return layer.residual.lipschitz_of_block()
    return (start + abs(layer.scale) * layer_bound(layer.residual)) * UP


@_of(nn.Sequential, Segment, ResidualNet)
def _composition(layer: nn.Module) -> float:
    return product_bound(layer.blocks if isinstance(layer, Segment) else parts_of(layer))
