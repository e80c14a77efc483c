"""Products with the Jacobian of a map T, all points at once, by whichever road of torch the map allows.

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
from regimes.modules import (
    adjoint,
    by_backward,
    own_kernels,
    plain_attention,
    push_forward,
    random_like,
    require_gradients,
)

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
    with plain_attention(), torch.autocast(device.type, enabled=False):
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
        f"{reasons[-1][:200].rstrip('.')}. Write it with differentiable operations of torch."
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


class JacobianProducts:
    """Products of M = ½ D²h(x − T(x)) J, of Mᵀ and of their mean with a vector a point, all points at once.

    With an encoder φ they are those of Dφᵀ M Dφ, M at φ(x). Lengths are measured in `unit`, so that M is in
    unit^(p − 2). `road` is that of `road_for`.
    """

    def __init__(
        self,
        transport_map: Map,
        x: Float[Tensor, "n *feature"],
        p: float,
        encoder: Map | None = None,
        *,
        unit: float = 1.0,
        road: Road = by_transforms,
    ):
        self.x, self.p = x.detach().clone(), p
        with self._ready():
            self._start = None if encoder is None else road(encoder, self.x)
            start = self.x if self._start is None else self._start.value
            self._end = road(transport_map if encoder is None else lambda z: transport_map(encoder(z)), self.x)
        self.difference = (start - self._end.value).flatten(1) / unit  # x − T(x), minus the displacement

    def forward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        with self._ready():
            moved = self._curvature(self._end.push(v))
            return moved if self._start is None else self._start.pull(moved)

    def backward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        with self._ready():
            return self._end.pull(self._curvature(v if self._start is None else self._start.push(v)))

    def symmetric(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        return (self.forward(v) + self.backward(v)) / 2

    @contextmanager
    def _ready(self) -> Iterator[None]:
        with torch.inference_mode(False), torch.no_grad(), plain_kernels(self.x.device):
            yield

    def _curvature(self, v: Tensor) -> Tensor:
        """½ D²h(z) v = ½ p ‖z‖^(p−2) (v + (p − 2) z ⟨z, v⟩/‖z‖²)."""
        if self.p == 2:
            return v
        z, flat = self.difference, v.flatten(1)
        size = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        along = (z / size) * ((z / size) * flat).sum(1, keepdim=True)
        return (self.p / 2 * size ** (self.p - 2) * (flat + (self.p - 2) * along)).reshape(v.shape)
