"""Name and numbers → model: the only table of names."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from regimes.models.cifar_nets import preact_bottleneck, preact_resnet, resnext29, wide_resnet
from regimes.models.image_nets import Shape, dense_net, resnet9, resnext50
from regimes.models.residual import ResidualNet

ARCHITECTURES: dict[str, Callable[..., ResidualNet]] = {
    "dense": dense_net,
    "resnet9": resnet9,
    "resnext50": resnext50,
    "preact_resnet": preact_resnet,
    **{f"resnet{depth}": partial(preact_resnet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    "resnet164": preact_bottleneck,
    "resnext29": resnext29,
    "wide_resnet": wide_resnet,
}


def options(name: str) -> dict[str, Any]:
    """The options of an architecture with their defaults."""
    maker = _maker(name)
    parameters = inspect.signature(maker).parameters.values()
    return {entry.name: entry.default for entry in parameters if entry.kind is inspect.Parameter.KEYWORD_ONLY}


def build(name: str, shape: Shape, classes: int, **given: Any) -> ResidualNet:
    """The architecture `name` for inputs of `shape` (without the batch) and `classes` outputs, on the CPU.

    Weights are torch's defaults; `initialise` draws them anew. ValueError lists the known names or options.
    """
    known = options(name)
    for option, value in given.items():
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}.")
        default = known[option]
        if isinstance(default, bool) != isinstance(value, bool) and default is not None:
            raise ValueError(f"{name} needs {option} like {default!r}; got {value!r}.")
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ValueError(f"{name} needs {option} of at least 1; got {value}.")
    return _maker(name)(tuple(shape), classes, **given)


def _maker(name: str) -> Callable[..., ResidualNet]:
    if name not in ARCHITECTURES:
        raise ValueError(f"arch needs one of {', '.join(ARCHITECTURES)}; got {name!r}.")
    return ARCHITECTURES[name]
