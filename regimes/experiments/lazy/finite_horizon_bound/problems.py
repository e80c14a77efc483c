"""Random maps whose Lipschitz constants on a ball are known.

`scalar`, h = w + c w²/2 on the line, and `rotated`, an orthogonal image of coordinatewise quadratics: exact constants.
`sine`, h = B sin(Cw + φ), and two-layer nets `tanh`, `softplus` with both layers trained: proved upper bounds, with
Lip(h) ≤ ‖Dh(w_0)‖ + r Lip(Dh) on the ball of radius r around the start.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import activation
from regimes.errors import UserError

Generators = Sequence[torch.Generator]
PAIRS = 16  # random pairs of the ball tried against the constants


class Problems(NamedTuple):
    """Maps of one family, one a run, with constants that hold on the ball of that radius around the start."""

    map: Callable[[Float[Tensor, "runs p"]], Float[Tensor, "runs q"]]
    start: Float[Tensor, "runs p"]
    radius: Float[Tensor, " runs"]
    lipschitz: Float[Tensor, " runs"]
    lipschitz_derivative: Float[Tensor, " runs"]


def jacobian(map: Callable[[Tensor], Tensor], w: Float[Tensor, "runs p"]) -> Float[Tensor, "runs q p"]:
    """Dh(w) of each run; the runs do not depend on each other, so one pull-back an output serves them all."""
    outputs, pull, *_ = torch.func.vjp(map, w)
    units = torch.eye(outputs.shape[1], dtype=w.dtype)
    return torch.stack([pull(unit.expand_as(outputs))[0] for unit in units], dim=1)


def scalar(generators: Generators, radius: Float[Tensor, " runs"]) -> Problems:
    """h(w) = w + c w²/2 around 0, c = ±1: Lip(h) = 1 + r, Lip(Dh) = 1, both attained."""
    c = torch.stack([torch.randn(1, generator=g, dtype=torch.float64).sign() for g in generators])
    return Problems(lambda w: w + c * w.square() / 2, torch.zeros_like(c), radius, 1 + radius, torch.ones_like(radius))


def rotated(generators: Generators, radius: Float[Tensor, " runs"], size: int = 6) -> Problems:
    """h(w) = U g(Vw) with g_i(s) = a_i s + c_i s²/2 around 0, U and V orthogonal.

    Lip(h) = max_i |a_i| + |c_i| r and Lip(Dh) = max_i |c_i|, both attained.
    """
    u, v = (torch.linalg.qr(normal(generators, size, size))[0] for _ in range(2))
    a, c = normal(generators, 2, size).unbind(1)

    def map(w: Tensor) -> Tensor:
        s = torch.einsum("rij,rj->ri", v, w)
        return torch.einsum("rij,rj->ri", u, a * s + c * s.square() / 2)

    lipschitz = (a.abs() + c.abs() * radius[:, None]).amax(1)
    return Problems(map, torch.zeros_like(a), radius, lipschitz, c.abs().amax(1))


def sine(generators: Generators, radius: Float[Tensor, " runs"], size: int = 6, hidden: int = 8) -> Problems:
    """h(w) = B sin(Cw + φ): Lip(Dh) ≤ ‖B‖ ‖C‖², spectral norms."""
    b, c = normal(generators, size, hidden), normal(generators, hidden, size)
    phase, start = torch.pi * normal(generators, hidden), normal(generators, size)

    def map(w: Tensor) -> Tensor:
        return torch.einsum("rqh,rh->rq", b, torch.sin(torch.einsum("rhp,rp->rh", c, w) + phase))

    b_norm, c_norm = torch.linalg.matrix_norm(b, 2), torch.linalg.matrix_norm(c, 2)
    return _on_ball(map, start, radius, b_norm * c_norm.square())


def net(
    name: str, generators: Generators, radius: Float[Tensor, " runs"], m: int = 6, d: int = 3, n: int = 8
) -> Problems:
    """h(w)_i = n^{-1/2} (1/m) Σ_j a_j σ(b_j·x_i) with (a, b) = √m w: gradient flow in w is particle flow, and ½‖h − y‖²
    the half mean square risk. Inputs and start are standard Gaussian.

    The second derivative of output i in neuron j has norm at most q_i = (t_i + √(t_i² + 4s_i²))/2, s_i = sup|σ'| ‖x_i‖,
    t_i = (max_j |a_j| + √m r) sup|σ''| ‖x_i‖² on the ball; a mean over j, so Lip(Dh)² ≤ 1/n Σ_i q_i².
    """
    unit = activation(name)
    x = normal(generators, n, d)
    a, b = normal(generators, m), normal(generators, m, d)
    start = torch.cat([a, b.flatten(1)], dim=1) / m**0.5

    def map(w: Tensor) -> Tensor:
        output, input = m**0.5 * w[:, :m], m**0.5 * w[:, m:].unflatten(1, (m, d))
        hidden = unit.value(torch.einsum("rid,rjd->rij", x, input))
        return torch.einsum("rij,rj->ri", hidden, output) / (m * n**0.5)

    length = x.norm(dim=2)
    largest = a.abs().amax(1) + m**0.5 * radius
    s, t = unit.lipschitz * length, largest[:, None] * unit.lipschitz_derivative * length.square()
    bend = ((t + (t.square() + 4 * s.square()).sqrt()) / 2).square().mean(1).sqrt()
    return _on_ball(map, start, radius, bend)


def random_problems(family: str, generators: Generators, radius: Float[Tensor, " runs"]) -> Problems:
    """Random problems of a family; ValueError lists the known ones."""
    maps = {"scalar": scalar, "rotated": rotated, "sine": sine}
    if family in maps:
        return maps[family](generators, radius)
    if family in ("tanh", "softplus"):
        return net(family, generators, radius)
    raise UserError(f"family needs a known name; got {family!r}. Choose one of {', '.join(maps)}, tanh, softplus.")


def _on_ball(map: Callable[[Tensor], Tensor], start: Tensor, radius: Tensor, lipschitz_derivative: Tensor) -> Problems:
    """Lip(h) ≤ ‖Dh(w_0)‖ + r Lip(Dh)."""
    slope = torch.linalg.matrix_norm(jacobian(map, start), 2)
    return Problems(map, start, radius, slope + radius * lipschitz_derivative, lipschitz_derivative)


def normal(generators: Generators, *shape: int) -> Tensor:
    return torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators])


def log_uniform(generators: Generators, low: float, high: float) -> Tensor:
    share = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    return low * (high / low) ** share


def sampled_quotient(family: Problems, generators: Generators) -> Float[Tensor, " runs"]:
    """Largest ‖Dh(u)‖/Lip(h) and ‖Dh(u) − Dh(v)‖/(Lip(Dh)‖u − v‖) over random pairs u, v of the ball.

    Each run has one number; above 1 one of its constants is too small.
    """
    worst = torch.zeros_like(family.radius)
    for _ in range(PAIRS):
        u, v = (_in_ball(family, generators) for _ in range(2))
        du, dv = jacobian(family.map, u), jacobian(family.map, v)
        change = torch.linalg.matrix_norm(du - dv, 2) / (u - v).norm(dim=1) / family.lipschitz_derivative
        worst = worst.maximum(change).maximum(torch.linalg.matrix_norm(du, 2) / family.lipschitz)
    return worst


def _in_ball(family: Problems, generators: Generators) -> Tensor:
    direction = normal(generators, family.start.shape[1])
    length = family.radius * log_uniform(generators, 0.1, 1.0)
    return family.start + direction * (length / direction.norm(dim=1))[:, None]
