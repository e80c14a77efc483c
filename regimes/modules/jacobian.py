"""Products with the Jacobian of a map at some points, all at once, by whichever road of torch the map allows.

Maps come from everywhere: attention, recurrent nets, gradients of a potential taken inside, functions that write into
their argument. They are called on copies, outside of autocast and inference mode.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import grad
from torch.func import vjp

from regimes.errors import one_line, out_of_memory
from regimes.modules.attention import plain_attention
from regimes.modules.derivative import adjoint, by_backward, push_forward, random_like, require_gradients
from regimes.modules.settings import own_kernels, without_autocast

Map = Callable[[Tensor], Tensor]
FAITHFUL = 0.3  # of a difference quotient: by how much a derivative may miss it, for the median point
STOPS = (
    "it stops gradients inside (torch.no_grad, detach, .data), or its backward is not its derivative. Take that out; a "
    "gradient that the map takes itself needs create_graph=True"
)


class Linear(NamedTuple):
    """A map at some points: its values, v ↦ J v, u ↦ Jᵀ u."""

    value: Tensor
    push: Map
    pull: Map


Road = Callable[[Map, Tensor], Linear]


@contextmanager
def plain_kernels(device: torch.device) -> Iterator[None]:
    """Attention by its formula, no autocast: kernels that are fused have one derivative or none."""
    with plain_attention(), without_autocast(device):
        yield


def values(function: Map, x: Tensor) -> Tensor:
    """T(x) of a copy of x, without a graph; with one inside if the map asks for it to take a gradient."""
    with torch.inference_mode(False), plain_kernels(x.device):
        try:
            with torch.no_grad():
                return function(x.clone())
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            with torch.enable_grad():
                found = function(x.clone().requires_grad_())
            return found.detach() if isinstance(found, Tensor) else found


def by_transforms(function: Map, x: Tensor) -> Linear:
    """By torch.func: forward and reverse mode."""

    def copied(z: Tensor) -> Tensor:
        return function(z.clone())

    with torch.enable_grad():
        value, pull = vjp(copied, x)[:2]
    return Linear(value.detach(), lambda v: push_forward(copied, x, v)[1], lambda u: pull(u)[0])


def by_graph(function: Map, x: Tensor) -> Linear:
    """By the graph of torch.autograd, for what torch.func cannot follow: J v is the derivative of u ↦ Jᵀ u."""
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        value = function(at.clone())
        push = by_backward(value, [at])

    def pull(cotangent: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(at).detach()
        return grad(value, at, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True)[0]

    return Linear(value.detach(), lambda tangent: push([tangent]), pull)


def by_own_kernels(road: Road) -> Road:
    """The same road by torch's own kernels: those of oneDNN and cuDNN for recurrent nets lack derivatives."""

    def other(function: Map, x: Tensor) -> Linear:
        def slow(z: Tensor) -> Tensor:
            with own_kernels():
                return function(z)

        return road(slow, x)

    return other


ROADS = (by_transforms, by_own_kernels(by_transforms), by_own_kernels(by_graph))


def road_for(functions: tuple[Map, ...], x: Float[Tensor, "n *feature"], caller: str) -> Road:
    """The first road that goes through all the functions, each at the values of the one before.

    ValueError if none does, and if the derivative found is not that of the function.
    """
    reasons = []
    for road in ROADS:
        try:
            with torch.inference_mode(False), plain_kernels(x.device):
                at, found = x.detach().clone(), []
                for function in functions:
                    linear = road(function, at)
                    tangent, cotangent = random_like(at, _stream()), random_like(linear.value, _stream())
                    found.append((function, at, tangent, linear.push(tangent), cotangent, linear.pull(cotangent)))
                    at = linear.value
        except Exception as error:  # what torch says of an operation that it cannot differentiate is of many kinds
            if out_of_memory(error):
                raise
            reasons.append(one_line(error))
            continue
        for each in found:
            _require_derivative(caller, *each)
        return road
    raise ValueError(
        f"{caller} needs a map that torch can differentiate, forward and backward; this one it cannot: "
        f"{reasons[-1]}. Write it with differentiable operations of torch."
    )


def _stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _require_derivative(
    caller: str, function: Map, at: Tensor, v: Tensor, pushed: Tensor, u: Tensor, pulled: Tensor
) -> None:
    """ValueError unless ⟨u, Jv⟩ = ⟨Jᵀu, v⟩, and J v is what differences of the values say, at the median point."""
    if not adjoint(u, pushed, pulled, v):
        raise ValueError(
            f"{caller} needs a map that is differentiable throughout; here the forward and the backward derivative "
            f"differ: {STOPS}."
        )
    require_gradients(lambda z: values(function, z), at, pulled, caller, cure=STOPS)
    if not any(_by_differences(function, at, v, pushed)):
        raise ValueError(
            f"{caller} needs a map that its derivative describes; here differences of its values do not agree: {STOPS}."
        )


def _by_differences(function: Map, at: Tensor, v: Tensor, pushed: Tensor) -> Iterator[bool]:
    """Whether J v is what central differences say at the median point, by ever smaller steps.

    A step over the kinks of a network, or of the size of its bends, says nothing; one that rounding hides neither, and
    ends it. A wrong derivative disagrees at every step.
    """
    unit, flat = torch.finfo(at.dtype).eps, pushed.flatten(1).double()
    first = unit ** (1 / 3) * float(at.abs().amax()) or unit ** (1 / 3)
    for step in (first / 8**shorter for shorter in range(6)):
        up, down = (values(function, at + sign * step * v).flatten(1).double() for sign in (1, -1))
        quotient = (up - down) / (2 * step)
        noise = 100 * unit * torch.maximum(up.norm(dim=1), down.norm(dim=1)) / step
        size = torch.maximum(quotient.norm(dim=1), flat.norm(dim=1))
        miss = (quotient - flat).norm(dim=1) - noise
        known = miss.isfinite() & size.isfinite()
        if step < first and bool((noise > FAITHFUL * size)[known].float().mean() > 0.5):
            return
        yield 2 * int((miss > FAITHFUL * size)[known].sum()) <= int(known.sum())
