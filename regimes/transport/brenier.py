"""Is T an optimal map? Symmetry and sign of its Jacobian by random probes; no curse of dimension, no second cloud.

For the cost ‖x − y‖² an optimal map is the gradient of a convex function (Brenier), so its Jacobian J is symmetric and
positive semidefinite. For ‖x − y‖^p the same holds of M = ½ D²h(x − T(x)) J with h(z) = ‖z‖^p: of an optimal map
Dh(x − T(x)) is the gradient of a potential φ, so D²φ = D²h − 2M is symmetric; and φ(z) ≤ h(z − T(x)) + const for all z,
with equality at z = x, so D²φ ≤ D²h, which is M ≥ 0. At p = 2, M = J.

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

from regimes.checks import count, finite, real, shapes
from regimes.modules import require_deterministic, require_separate_samples
from regimes.transport.cost import check_exponent
from regimes.transport.lanczos import least_eigenvalues

Map = Callable[[Tensor], Tensor]
CHUNK = 2**19  # numbers in the states that are probed at a time; what the map keeps beside its states comes on top


class NoJacobianTest(ValueError):
    """The test says nothing of this map on these points, and why: `CONSTANT`, `FLAT` or `STILL`."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


CONSTANT = "the map is constant"  # then it is optimal, wherever the points are
FLAT = "the Jacobian of the map vanishes at every point, although its values differ"
STILL = "no point moves under the map"


class BrenierTest(NamedTuple):
    """Asymmetry E‖(M − Mᵀ)v‖² / E‖(M + Mᵀ)v‖² over points and random v: 0 if M is symmetric, 1 if its skew part is as
    large as its symmetric one. `min_eigenvalue` is the least of (M + Mᵀ)/2 over points.

    `asymmetry_se` treats points as independent draws (delta method for a ratio). Beyond 32 features eigenvalues come
    from Lanczos and lie at or above the true ones; their points are the first `eigen_points` (0: none, nan). `excluded`
    points do not move at all and have no M (p ≠ 2). `size` is the root mean square eigenvalue of (M + Mᵀ)/2.
    """

    asymmetry: float
    asymmetry_se: float
    min_eigenvalue: float
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

    x is a tensor in the precision and on the device of the map. v ~ N(0, I); one Jacobian-vector and one
    vector-Jacobian product a probe. With `encoder` φ the rows of x are its inputs, the map acts on φ(x), and M is
    Dφᵀ M Dφ throughout. ValueError for a map or an encoder that mixes samples (batch norm in train mode), that is
    random, or whose output has another shape; `NoJacobianTest` where the map is constant or, for p ≠ 2, moves no point.
    """
    p = check_exponent(p, "brenier_test")
    if not isinstance(x, Tensor):
        raise ValueError(f"brenier_test needs x as a tensor, in the map's precision; got {type(x).__name__}.")
    real("brenier_test", x=x)
    shapes("brenier_test", x=(x, "n *feature"), cure="Pass at least one point")
    finite("brenier_test", x=x)
    count("brenier_test", "probes", probes)
    count("brenier_test", "eigen_points", eigen_points, at_least=0)
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
    _require_adjoint(JacobianProducts(transport_map, kept[:2], p, encoder), generator)
    skew, symmetric = [], []
    for products, v in probed(transport_map, kept, p=p, probes=probes, generator=generator, encoder=encoder):
        forward, backward = products.forward(v), products.backward(v)
        skew.append((forward - backward).flatten(1).square().sum(1) / probes)
        symmetric.append((forward + backward).flatten(1).square().sum(1) / probes)
    above, below = (by_point(parts, probes) for parts in (skew, symmetric))
    if float(below.sum()) == 0 and float(above.sum()) == 0:
        _refuse_flat(transport_map, kept, encoder)
    asymmetry, error = ratio(above, below)
    least = torch.full((1,), math.nan, dtype=torch.float64)
    if eigen > 0 and math.isfinite(asymmetry):
        parts = chunks(transport_map, kept[:eigen], encoder)
        operators = (JacobianProducts(transport_map, part, p, encoder) for part in parts)
        found = [least_eigenvalues(each.symmetric, each.x, generator=generator) for each in operators]
        least = torch.cat(found).double()
    size = math.sqrt(float(below.mean()) / 4 / kept[0].numel())
    counts = (len(kept), probes, len(x) - len(kept))
    return BrenierTest(asymmetry, error, float(least.min()), *counts, size)


def _require_adjoint(products: "JacobianProducts", generator: torch.Generator) -> None:
    """ValueError unless ⟨u, Mv⟩ = ⟨Mᵀu, v⟩ for two random vectors.

    Reverse mode obeys `torch.no_grad`, `detach` and in-place tricks inside a map, forward mode does not: then the two
    products belong to different matrices, and a symmetric Jacobian would come out as a skew one.
    """
    shape, device = products.x.shape, products.x.device
    u, v = (torch.randn(shape, generator=generator, dtype=products.x.dtype, device=generator.device) for _ in range(2))
    u, v = u.to(device), v.to(device)
    ahead, back = products.forward(v), products.backward(u)
    one, other = (u * ahead).double().sum(), (back * v).double().sum()
    size = (u.norm() * ahead.norm() + back.norm() * v.norm()).double()
    if bool((one - other).abs() > 1e4 * torch.finfo(u.dtype).eps * size):
        raise ValueError(
            "brenier_test needs a map that is differentiable throughout; here the forward and the backward derivative "
            "differ: it stops gradients inside (torch.no_grad, .data). Take that out."
        )


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
        self.difference = (start - value).flatten(1)  # x − T(x), minus the displacement

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
        z, flat = self.difference, v.flatten(1)
        size = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        along = (z / size) * ((z / size) * flat).sum(1, keepdim=True)
        return (self.p / 2 * size ** (self.p - 2) * (flat + (self.p - 2) * along)).reshape(v.shape)


def ratio(above: Float[Tensor, "n"], below: Float[Tensor, "n"]) -> tuple[float, float]:
    """Ratio of two means over the same points, and its standard error (delta method); nan error for one point.

    0/0 is nan.
    """
    total = float(below.mean())
    if total == 0:
        return math.nan if float(above.mean()) == 0 else math.inf, math.nan
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
        raise NoJacobianTest(STILL, f"{STILL}, so the cost ‖x − y‖^{p} has no second derivative: use p = 2.")
    return moved


def _refuse_flat(transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None) -> None:
    """NoJacobianTest for a map whose derivatives all vanish: there is no symmetry to look at."""
    values = transport_map(x if encoder is None else encoder(x))
    reason = CONSTANT if bool((values == values[:1]).all()) else FLAT
    raise NoJacobianTest(reason, f"{reason}: the symmetry of its Jacobian is undefined.")


def check_map(transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None = None) -> None:
    """ValueError unless the map keeps the shape, is deterministic and treats every sample by itself; so the encoder."""
    for each in (transport_map, encoder):
        if each is not None and not callable(each):
            raise ValueError(f"brenier_test needs the map as a callable on batches; got {type(each).__name__}.")
        owner = getattr(each, "__self__", each)
        if isinstance(owner, nn.Module):
            require_deterministic(owner, "brenier_test")
    with torch.no_grad():
        start = x if encoder is None else _one_by_one(encoder, x, "encoder")
        end = _one_by_one(transport_map, start, "map")
    if end.shape != start.shape:
        raise ValueError(
            f"brenier_test needs a map that keeps the shape of x, {tuple(start.shape)}; it returned {tuple(end.shape)}."
        )


def _one_by_one(function: Map, x: Float[Tensor, "n *feature"], name: str) -> Tensor:
    """The values of a map; ValueError if they are no tensor of n rows, not finite, random, or mix samples."""
    whole = function(x)
    if not isinstance(whole, Tensor) or whole.ndim == 0 or len(whole) != len(x):
        shape = tuple(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
        raise ValueError(f"brenier_test needs one row a point from the {name}, {len(x)} rows; it returned {shape}.")
    if not bool(whole.isfinite().all()):
        raise ValueError(
            f"brenier_test needs finite values of the {name}; some are NaN or infinite: give one that has not diverged."
        )
    require_separate_samples(function, x, f"brenier_test ({name})")
    return whole
