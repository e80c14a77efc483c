"""Name and numbers → model: the only table of names."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from regimes.checks import counts
from regimes.models.cifar_nets import preact_bottleneck, preact_resnet, resnext29, wide_resnet
from regimes.models.contractive import contractive_net
from regimes.models.hamiltonian_nets import hamiltonian_net
from regimes.models.image_nets import Shape, dense_net, resnet9, resnext50
from regimes.models.ode_nets import ode_net
from regimes.models.residual import ResidualNet
from regimes.models.vgg import vgg11

ARCHITECTURES: dict[str, Callable[..., ResidualNet]] = {
    "dense": dense_net,
    "resnet9": resnet9,
    "resnext50": resnext50,
    "preact_resnet": preact_resnet,
    **{f"resnet{depth}": partial(preact_resnet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    "resnet164": preact_bottleneck,
    "resnext29": resnext29,
    "wide_resnet": wide_resnet,
    "vgg11": vgg11,
    "hamiltonian": hamiltonian_net,
    "contractive": contractive_net,
    "odenet": ode_net,
}
MOST_LAYERS, MOST = 10_000, 10_000_000  # of blocks and depths, and of widths


def options(name: str) -> dict[str, Any]:
    """The options of an architecture with their defaults."""
    return {option: entry.default for option, entry in _entries(name).items()}


def build(name: str, shape: Shape, classes: int, **given: Any) -> ResidualNet:
    """The architecture `name` for inputs of `shape` (without the batch) and `classes` outputs, on the CPU.

    Weights are torch's defaults; `initialise` draws them anew. ValueError lists the known names or options.
    """
    known = _entries(name)
    if not (_sizes(shape) and _sizes([classes])):
        raise ValueError(
            f"{name} needs a shape of at least one axis, all positive, and at least one class; "
            f"got {shape!r} and {classes!r}."
        )
    for option, value in given.items():
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}.")
        _check(f"{name} needs {option}", value, known[option])
    return ARCHITECTURES[name](tuple(shape), classes, **given)


def _sizes(values: Any) -> bool:
    try:
        counts("build", "sizes", values)
    except ValueError:
        return False
    return True


def _entries(name: str) -> dict[str, inspect.Parameter]:
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"arch needs one of {', '.join(ARCHITECTURES)}; got {name!r}.")
    entries = inspect.signature(ARCHITECTURES[name]).parameters
    return {option: entry for option, entry in entries.items() if entry.kind is inspect.Parameter.KEYWORD_ONLY}


def _check(needed: str, value: Any, entry: inspect.Parameter) -> None:
    """ValueError unless the value is of the type that the architecture's signature names, and in bounds if a number."""
    kinds = get_args(entry.annotation) or (entry.annotation,)
    if not isinstance(value, (*kinds, int) if float in kinds else kinds) or (
        isinstance(value, bool) and bool not in kinds
    ):
        names = " or ".join(kind.__name__.removesuffix("Type") for kind in kinds)
        raise ValueError(f"{needed} of type {names}, like {entry.default!r}; got {value!r}.")
    if isinstance(value, int) and not isinstance(value, bool):
        most = MOST_LAYERS if entry.name in ("blocks", "depth") else MOST
        if value < 1:
            raise ValueError(f"{needed} of at least 1; got {value}.")
        if value > most:
            raise ValueError(f"{needed} of at most {most:,}; got {value:.3g}.")
