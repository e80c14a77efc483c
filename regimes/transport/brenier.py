"""Is T an optimal map? Symmetry and sign of its Jacobian by random probes; no curse of dimension, no second cloud.

For the cost ‖x − y‖² an optimal map is the gradient of a convex function (Brenier), so its Jacobian J is symmetric and
positive semidefinite. For ‖x − y‖^p the same holds of M = ½ D²h(x − T(x)) J with h(z) = ‖z‖^p: D h(x − T(x)) is the
gradient of a potential, its Jacobian is D²h − 2M, and optimality bounds that by D²h. At p = 2, M = J.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp, vjp

from regimes.modules import require_deterministic
from regimes.transport.cost import check_exponent
from regimes.transport.lanczos import least_eigenvalues

Map = Callable[[Tensor], Tensor]


class BrenierTest(NamedTuple):
    """Asymmetry E‖(M − Mᵀ)v‖² / E‖(M + Mᵀ)v‖² over points and random v (0 if symmetric, 1 if like a skew matrix in
    size), and least eigenvalues of (M + Mᵀ)/2: the least over points, their mean and its standard error.

    `asymmetry_se` treats points as independent draws (delta method for a ratio). Beyond 32 features eigenvalues come
    from Lanczos and lie at or above the true ones; their points are the first `eigen_points`. `excluded` points do
    not move at all and have no M (p ≠ 2).
    """

    asymmetry: float
    asymmetry_se: float
    min_eigenvalue: float
    mean_least_eigenvalue: float
    mean_least_eigenvalue_se: float
    points: int
    probes: int
    excluded: int


def brenier_test(
    transport_map: Map,
    x: Float[Tensor, "n *feature"],
    *,
    generator: torch.Generator,
    p: float = 2.0,
    probes: int = 8,
    eigen_points: int = 64,
) -> BrenierTest:
    """Test a map given as a callable on batches, sample by sample differentiable, features in and out of one shape.

    v ~ N(0, I); one Jacobian-vector and one vector-Jacobian product a probe. ValueError for a map that mixes samples
    (batch norm in train mode), that is random, or whose output has another shape.
    """
    p = check_exponent(p)
    if probes < 1 or len(x) == 0:
        raise ValueError(f"brenier_test needs at least one point and one probe; got {len(x)} and {probes}.")
    check_map(transport_map, x)
    with torch.no_grad():  # derivatives by the transforms below only, none for the parameters of a network
        return _test(transport_map, x.detach(), generator, p, probes, eigen_points)


def _test(
    transport_map: Map, x: Float[Tensor, "n *feature"], generator: torch.Generator, p: float, probes: int, eigen: int
) -> BrenierTest:
    moved = _moved(transport_map, x, p)
    operator = JacobianProducts(transport_map, x[moved], p)
    skew, symmetric = torch.zeros(len(moved)), torch.zeros(len(moved))
    for _ in range(probes):
        v = torch.randn(operator.x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
        forward, backward = operator.forward(v), operator.backward(v)
        skew = skew.to(v) + (forward - backward).flatten(1).square().sum(1) / probes
        symmetric = symmetric.to(v) + (forward + backward).flatten(1).square().sum(1) / probes
    asymmetry, error = ratio(skew.double(), symmetric.double())
    some = JacobianProducts(transport_map, x[moved][:eigen], p)
    least = least_eigenvalues(some.symmetric, some.x, generator=generator).double()
    spread = float(least.std()) / math.sqrt(len(least)) if len(least) > 1 else math.nan
    excluded = len(x) - len(moved)
    return BrenierTest(asymmetry, error, float(least.min()), float(least.mean()), spread, len(moved), probes, excluded)


class JacobianProducts:
    """Products of M = ½ D²h(x − T(x)) J, of Mᵀ and of their mean with a vector a point, all points at once."""

    def __init__(self, transport_map: Map, x: Float[Tensor, "n *feature"], p: float):
        self.map, self.x, self.p = transport_map, x, p
        value, self._pullback = cast("tuple[Tensor, Map]", vjp(transport_map, x))
        self.displacement = (x - value).flatten(1)

    def forward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        return self._curvature(jvp(self.map, (self.x,), (v,))[1])

    def backward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        return self._pullback(self._curvature(v))[0]

    def symmetric(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        return (self.forward(v) + self.backward(v)) / 2

    def _curvature(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """½ D²h(z) v = ½ p ‖z‖^(p−2) (v + (p − 2) z ⟨z, v⟩/‖z‖²)."""
        if self.p == 2:
            return v
        z, flat = self.displacement, v.flatten(1)
        size = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        along = (z / size) * ((z / size) * flat).sum(1, keepdim=True)
        return (self.p / 2 * size ** (self.p - 2) * (flat + (self.p - 2) * along)).reshape(v.shape)


def ratio(above: Float[Tensor, "n"], below: Float[Tensor, "n"]) -> tuple[float, float]:
    """Ratio of two means over the same points, and its standard error (delta method); nan error for one point.

    0/0 (a map that is constant) raises ValueError.
    """
    total = float(below.mean())
    if total == 0 and float(above.mean()) == 0:
        raise ValueError("the Jacobian of the map vanishes at every point: its symmetry is undefined (is T constant?).")
    if total == 0:
        return math.inf, math.nan
    value = float(above.mean()) / total
    if len(above) < 2:
        return value, math.nan
    return value, float((above - value * below).std()) / math.sqrt(len(above)) / total


def _moved(transport_map: Map, x: Float[Tensor, "n *feature"], p: float) -> Tensor:
    if p == 2:
        return torch.arange(len(x), device=x.device)
    with torch.no_grad():
        moved = torch.nonzero((transport_map(x) - x).flatten(1).square().sum(1) > 0)[:, 0]
    if len(moved) == 0:
        raise ValueError(f"no point moves under the map, so the cost ‖x − y‖^{p} has no second derivative: use p = 2.")
    return moved


def check_map(transport_map: Map, x: Float[Tensor, "n *feature"]) -> None:
    """ValueError unless the map keeps the shape, is deterministic and treats every sample by itself."""
    owner = getattr(transport_map, "__self__", transport_map)
    if isinstance(owner, nn.Module):
        require_deterministic(owner, "brenier_test")
    with torch.no_grad():
        whole, again = transport_map(x), transport_map(x)
        if whole.shape != x.shape:
            raise ValueError(f"the map must keep the shape of x, {tuple(x.shape)}; it returned {tuple(whole.shape)}.")
        if not torch.equal(whole, again):
            raise ValueError("the map is random (two calls differ): switch dropout off with model.eval().")
        if len(x) < 3:
            return
        alone = transport_map(x[:2])
    size = float(whole.abs().max())
    tolerance = 1e4 * torch.finfo(x.dtype).eps * size  # sums over a batch of another size round differently
    if float((alone - whole[:2]).abs().max()) > tolerance:
        raise ValueError("the map mixes samples (batch norm in train mode?): call model.eval() first.")
