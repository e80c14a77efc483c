"""Small random networks whose layers are steps of z' = f(t, z, θ): several statements measure on them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.layers import Params
from regimes.conventions import generator
from regimes.errors import UserError, nearest
from regimes.streams import Layered

Method = TypeVar("Method")


def named(known: Mapping[str, Method], name: str, needed: str = "") -> Method:
    """The method of a name; UserError lists the known ones. needed: what they have in common."""
    if name not in known:
        raise UserError(f"unknown method {name!r}{needed}.{nearest(name, known)} Known methods: {', '.join(known)}")
    return known[name]


def one_of(known: Mapping[str, object], needed: str = "") -> Callable[[str], str]:
    """A check of settings: a name out of these."""

    def check(name: str) -> str:
        named(known, name, needed)
        return name

    return check


def field(time: float, z: Float[Tensor, "n width"], params: Params) -> Float[Tensor, "n width"]:
    """tanh(K z + b (1 + t)): it depends on time, so that nothing is measured that holds for autonomous fields only."""
    return torch.tanh(z @ params["K"].T + (1 + time) * params["b"])


def drawn(seed: int, layers: int, width: int) -> list[Params]:
    """K and b of each layer, entries from N(0, 1/width) and N(0, 1/4)."""
    draw = generator(seed, Layered.WEIGHTS)
    kernels = torch.randn(layers, width, width, generator=draw, dtype=torch.float64) / width**0.5
    shifts = torch.randn(layers, width, generator=draw, dtype=torch.float64) / 2
    return [{"K": kernel, "b": shift} for kernel, shift in zip(kernels, shifts, strict=True)]


def samples(seed: int, n: int, width: int) -> Float[Tensor, "2 n width"]:
    """Inputs and targets from N(0, I)."""
    return torch.randn(2, n, width, generator=generator(seed, Layered.DATA), dtype=torch.float64)
