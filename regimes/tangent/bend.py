"""The second derivative of a model by its parameters: its products, and its norm from below and from above."""

from collections.abc import Callable
from math import exp, inf, log

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import Params
from regimes.long_sums import norm
from regimes.tangent.functional import flatten
from regimes.tangent.lanczos import DOUBT, lanczos
from regimes.tangent.model import TangentModel
from regimes.tangent.precision import full_precision

_INNER = 6  # Lanczos steps on one Hessian between two choices of the output direction
_ROUNDS = 40
_GAIN = 1e-4  # a climb ends when a round raises the norm by less than this share

Outputs = Float[Tensor, " outputs"]
Weights = Float[Tensor, " p"]


class Bend:
    """D²h(w_0) of h = model/√n on the inputs, w_0 the present parameters. Counts its products.

    `hessians` are products of all inputs together, `singles` those of one output of one input. By reverse passes only:
    forward mode twice is wrong for some layers of torch (LayerNorm, InstanceNorm) and missing for others.
    """

    def __init__(self, tangent: TangentModel, x: Tensor) -> None:
        self.tangent, self.x, self.root = tangent, x, len(x) ** 0.5
        self.size = sum(value.numel() for value in tangent.params.values())
        self.hessians = self.singles = 0

    def _run(self, work: Callable[[Params], Tensor]) -> Tensor:
        with full_precision(self.tangent.device):
            return self.tangent.plain.run(work).detach()

    def _h(self, x: Tensor) -> Outputs:
        return self.tangent.plain.value(x).reshape(-1) / self.root

    def value(self) -> Float[Tensor, " outputs"]:
        """The outputs at w_0, not divided by √n."""
        return self._run(lambda leaves: self.tangent.plain.value(self.x).reshape(-1))

    def along(self, u: Weights, v: Weights) -> Outputs:
        """D²h[u, v]."""
        self.hessians += 1

        def work(leaves: Params) -> Tensor:
            value = self._h(self.x)
            cotangent = torch.zeros_like(value, requires_grad=True)  # all that follows is linear in it
            slope = derivative(value @ cotangent, leaves) @ u
            return derivative(derivative(slope, leaves) @ v, {"": cotangent})

        return self._run(work)

    def pulled(self, cotangent: Outputs, u: Weights) -> Weights:
        """D²h[u, ·] pulled back along the cotangent: the Hessian of ⟨cotangent, h⟩ times u."""
        self.hessians += 1

        def work(leaves: Params) -> Tensor:
            slope = derivative(self._h(self.x) @ cotangent, leaves)
            return derivative(slope @ u, leaves, create_graph=False)

        return self._run(work)

    def squares(self, u: Weights) -> Weights:
        """Σ_i H_i² u over all outputs i of all inputs, each input by itself: its H_i know no other."""
        total = torch.zeros_like(u)
        for sample in self.x.split(1):
            total += self._run(lambda leaves, x=sample: self._squares(leaves, x, u))
        self.singles += 2 * self.tangent.outputs * len(self.x)
        return total

    def _squares(self, leaves: Params, x: Tensor, u: Weights) -> Weights:
        total = torch.zeros_like(u)
        for output in self._h(x):
            slope = derivative(output, leaves)
            row = derivative(slope @ u, leaves, create_graph=False)
            total += derivative(slope @ row, leaves, create_graph=False)
        return total

    def sketch(self, directions: Float[Tensor, "probes outputs"], u: Weights) -> Weights:
        """1/m Σ_j H_ξj² u over the m output directions ξ_j, H_ξ = Σ_i ξ_i H_i: in the mean what `squares` gives."""
        return torch.stack([self.pulled(xi, self.pulled(xi, u)) for xi in directions]).mean(0)


def derivative(value: Tensor, leaves: Params, *, create_graph: bool = True) -> Tensor:
    """The derivative of a number by all leaves in one vector; 0 by those that it does not depend on."""
    if not value.requires_grad:
        return flatten({name: torch.zeros_like(leaf) for name, leaf in leaves.items()})
    found = torch.autograd.grad(
        value, list(leaves.values()), create_graph=create_graph, retain_graph=True, materialize_grads=True
    )
    return torch.cat([each.to_dense().reshape(-1) for each in found])


def climb(bend: Bend, u: Weights) -> tuple[float, bool]:
    """‖D²h[u, u]‖ raised from a unit vector u on, and whether it came to a standstill. It never falls.

    By turns φ = D²h[u, u]/‖·‖ and u = the direction, in a Krylov space of u, in which the Hessian of ⟨φ, h⟩ is largest.
    A local maximum of ‖D²h[u, v]‖; the global one is attained at u = v, as D²h is symmetric.
    """
    image = bend.along(u, u)
    here = float(norm(image))
    for _ in range(_ROUNDS):
        if here == 0 or not here < inf:
            return here, True
        cotangent = image / here
        *_, last = lanczos(lambda v, c=cotangent: bend.pulled(c, v), u, _INNER)
        u = last.vector()
        u = u / norm(u)
        image = bend.along(u, u)
        before, here = here, float(norm(image))
        if here - before <= _GAIN * here:
            return max(before, here), True
    return here, False


def share(probes: int) -> float:
    """q: the top of a mean of H_ξ² over Gaussian probes is at least q times that of E H_ξ², but for DOUBT.

    For each unit u the mean of ‖H_ξ u‖² falls under q times its expectation with probability at most
    (q exp(1 − q))^(probes/2), the Chernoff bound of χ²/probes, which is the worst case.
    """
    goal, q = 2 * log(DOUBT) / probes - 1, 0.0  # log q − q = goal
    for _ in range(200):
        q = exp(goal + q)  # rises to the root below 1
    return q
