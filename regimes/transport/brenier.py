"""Is T an optimal map? Symmetry and sign of its Jacobian by random probes; no curse of dimension, no second cloud.

For the cost ‖x − y‖² an optimal map is the gradient of a convex function (Brenier), so its Jacobian J is symmetric and
positive semidefinite. For ‖x − y‖^p the same holds of M = ½ D²h(x − T(x)) J with h(z) = ‖z‖^p: D h(x − T(x)) is the
gradient of a potential, its Jacobian is D²h − 2M, and optimality bounds that by D²h. At p = 2, M = J.

A cloud that is the image of an encoder φ need not fill its space, and directions off the image say nothing about the
map between laws that live on it. There M is replaced by Dφᵀ M Dφ, a form on the inputs of φ.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp, vjp

from regimes.modules import require_deterministic
from regimes.transport.cost import check_exponent
from regimes.transport.lanczos import least_eigenvalues

Map = Callable[[Tensor], Tensor]
CHUNK = 2**19  # numbers in the states that are probed at a time: bounds the memory of the derivatives


class BrenierTest(NamedTuple):
    """Asymmetry E‖(M − Mᵀ)v‖² / E‖(M + Mᵀ)v‖² over points and random v (0 if symmetric, 1 if like a skew matrix in
    size), and least eigenvalues of (M + Mᵀ)/2: the least over points, their mean and its standard error.

    `asymmetry_se` treats points as independent draws (delta method for a ratio). Beyond 32 features eigenvalues come
    from Lanczos and lie at or above the true ones; their points are the first `eigen_points` (0: none, nan). `excluded`
    points do not move at all and have no M (p ≠ 2). `size` is the root mean square eigenvalue of (M + Mᵀ)/2.
    """

    asymmetry: float
    asymmetry_se: float
    min_eigenvalue: float
    mean_least_eigenvalue: float
    mean_least_eigenvalue_se: float
    points: int
    probes: int
    excluded: int
    size: float


def brenier_test(
    transport_map: Map,
    x: Float[Tensor, "n *feature"],
    *,
    generator: torch.Generator,
    p: float = 2.0,
    probes: int = 8,
    eigen_points: int = 64,
    encoder: Map | None = None,
) -> BrenierTest:
    """Test a map given as a callable on batches, sample by sample differentiable, features in and out of one shape.

    v ~ N(0, I); one Jacobian-vector and one vector-Jacobian product a probe. With `encoder` φ the rows of x are its
    inputs, the map acts on φ(x), and M is Dφᵀ M Dφ throughout. ValueError for a map that mixes samples (batch norm in
    train mode), that is random, or whose output has another shape.
    """
    p = check_exponent(p)
    if probes < 1 or len(x) == 0:
        raise ValueError(f"brenier_test needs at least one point and one probe; got {len(x)} and {probes}.")
    check_map(transport_map, x, encoder)
    with torch.no_grad():  # derivatives by the transforms below only, none for the parameters of a network
        return _test(transport_map, x.detach(), generator, p, probes, eigen_points, encoder)


def _test(
    transport_map: Map,
    x: Float[Tensor, "n *feature"],
    generator: torch.Generator,
    p: float,
    probes: int,
    eigen: int,
    encoder: Map | None,
) -> BrenierTest:
    kept = x[_moved(transport_map, x, p, encoder)]
    skew, symmetric = [], []
    for products, v in probed(transport_map, kept, p=p, probes=probes, generator=generator, encoder=encoder):
        forward, backward = products.forward(v), products.backward(v)
        skew.append((forward - backward).flatten(1).square().sum(1) / probes)
        symmetric.append((forward + backward).flatten(1).square().sum(1) / probes)
    above, below = (by_point(parts, probes) for parts in (skew, symmetric))
    asymmetry, error = ratio(above, below)
    least = torch.full((1,), math.nan, dtype=torch.float64)
    if eigen > 0:
        parts = chunks(transport_map, kept[:eigen], encoder)
        operators = (JacobianProducts(transport_map, part, p, encoder) for part in parts)
        found = [least_eigenvalues(each.symmetric, each.x, generator=generator) for each in operators]
        least = torch.cat(found).double()
    spread = float(least.std()) / math.sqrt(len(least)) if len(least) > 1 else math.nan
    size = math.sqrt(float(below.mean()) / 4 / kept[0].numel())
    counts = (len(kept), probes, len(x) - len(kept))
    return BrenierTest(asymmetry, error, float(least.min()), float(least.mean()), spread, *counts, size)


def probed(
    transport_map: Map,
    x: Float[Tensor, "n *feature"],
    *,
    p: float,
    probes: int,
    generator: torch.Generator,
    encoder: Map | None = None,
) -> Iterator[tuple["JacobianProducts", Tensor]]:
    """The products at some points at a time, each `probes` times over with new Gaussian vectors."""
    for part in chunks(transport_map, x, encoder):
        products = JacobianProducts(transport_map, part, p, encoder)
        for _ in range(probes):
            v = torch.randn(part.shape, generator=generator, dtype=x.dtype, device=generator.device)
            yield products, v.to(x.device)


def by_point(parts: Sequence[Tensor], probes: int) -> Float[Tensor, "n"]:
    """One value a point from those of `probed`, added up over the probes."""
    return torch.cat([sum(parts[k + 1 : k + probes], parts[k]).double() for k in range(0, len(parts), probes)])


def chunks(
    transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None = None
) -> tuple[Float[Tensor, "_ *feature"], ...]:
    """The points in parts whose states hold CHUNK numbers at most."""
    features = x[0].numel() if encoder is None else encoder(x[:1]).numel()
    return x.split(max(1, CHUNK // features))


class JacobianProducts:
    """Products of M = ½ D²h(x − T(x)) J, of Mᵀ and of their mean with a vector a point, all points at once.

    With an encoder φ they are those of Dφᵀ M Dφ, M at φ(x).
    """

    def __init__(self, transport_map: Map, x: Float[Tensor, "n *feature"], p: float, encoder: Map | None = None):
        self.x, self.p, self.encoder = x, p, encoder
        self.map = transport_map if encoder is None else lambda inputs: transport_map(encoder(inputs))
        start, self._pull_start = (x, None) if encoder is None else cast("tuple[Tensor, Map]", vjp(encoder, x))
        value, self._pull_end = cast("tuple[Tensor, Map]", vjp(self.map, x))
        self.displacement = (start - value).flatten(1)

    def forward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        moved = self._curvature(jvp(self.map, (self.x,), (v,))[1])
        return moved if self._pull_start is None else self._pull_start(moved)[0]

    def backward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        start = v if self.encoder is None else jvp(self.encoder, (self.x,), (v,))[1]
        return self._pull_end(self._curvature(start))[0]

    def symmetric(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        return (self.forward(v) + self.backward(v)) / 2

    def _curvature(self, v: Tensor) -> Tensor:
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


def _moved(transport_map: Map, x: Float[Tensor, "n *feature"], p: float, encoder: Map | None) -> Tensor:
    if p == 2:
        return torch.arange(len(x), device=x.device)
    with torch.no_grad():
        start = x if encoder is None else encoder(x)
        moved = torch.nonzero((transport_map(start) - start).flatten(1).square().sum(1) > 0)[:, 0]
    if len(moved) == 0:
        raise ValueError(f"no point moves under the map, so the cost ‖x − y‖^{p} has no second derivative: use p = 2.")
    return moved


def check_map(transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None = None) -> None:
    """ValueError unless the map keeps the shape, is deterministic and treats every sample by itself."""
    for each in (transport_map, encoder):
        owner = getattr(each, "__self__", each)
        if isinstance(owner, nn.Module):
            require_deterministic(owner, "brenier_test")
    with torch.no_grad():
        start = x if encoder is None else encoder(x)
        whole, again = transport_map(start), transport_map(start)
        if whole.shape != start.shape:
            raise ValueError(
                f"the map must keep the shape of x, {tuple(start.shape)}; it returned {tuple(whole.shape)}."
            )
        if not bool(whole.isfinite().all()):
            raise ValueError("the map's values are NaN or infinite at some points: give a map that has not diverged.")
        if not torch.equal(whole, again):
            raise ValueError("the map is random (two calls differ): switch dropout off with model.eval().")
        if len(x) < 3:
            return
        alone = transport_map(start[:2])
    size = float(whole.abs().max())
    tolerance = 1e4 * torch.finfo(x.dtype).eps * size  # sums over a batch of another size round differently
    if float((alone - whole[:2]).abs().max()) > tolerance:
        raise ValueError("the map mixes samples (batch norm in train mode?): call model.eval() first.")
