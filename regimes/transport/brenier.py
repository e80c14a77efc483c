"""Is T an optimal map? Symmetry and sign of its Jacobian by random probes; no curse of dimension, no second cloud.

For the cost ‖x − y‖² an optimal map is the gradient of a convex function (Brenier), so its Jacobian J is symmetric and
positive semidefinite. For ‖x − y‖^p the same holds of M = ½ D²h(x − T(x)) J with h(z) = ‖z‖^p: of an optimal map
Dh(x − T(x)) is the gradient of a potential φ, so D²φ = D²h − 2M is symmetric; and φ(z) ≤ h(z − T(x)) + const for all z,
with equality at z = x, so D²φ ≤ D²h, which is M ≥ 0. At p = 2, M = J.

A cloud that is the image of an encoder φ need not fill its space, and directions off the image say nothing about the
map between laws that live on it. There M is replaced by Dφᵀ M Dφ, a form on the inputs of φ.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes import checks
from regimes.checks import count, finite, real, shapes
from regimes.eigenvalues import least_eigenvalues
from regimes.errors import one_line, out_of_memory
from regimes.modules import copied, require_deterministic, require_separate_samples
from regimes.modules.jacobian import Map, Road, road_for, values
from regimes.transport.cost import as_array, check_exponent
from regimes.transport.jacobian import JacobianProducts
from regimes.transport.units import converted, fits

TRIED = 8  # points at which the derivatives of a map are held against each other and against its values
CHUNK = 2**19  # numbers in the states that are probed at a time; what the map keeps beside its states comes on top


class NoJacobianTest(ValueError):
    """The test says nothing of this map on these points, and why: `CONSTANT`, `FLAT`, `ALIKE` or `STILL`."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


CONSTANT = "the map is constant"  # then it is optimal, wherever the points are
FLAT = "the Jacobian of the map vanishes at every point, although its values differ"
ALIKE = "all points are one and the same"  # no other pairing of them, and no other point to compare with
STILL = "no point moves under the map"


class BrenierTest(NamedTuple):
    """Asymmetry E‖(M − Mᵀ)v‖² / E‖(M + Mᵀ)v‖² over points and random v: 0 if M is symmetric, 1 if its skew part is as
    large as its symmetric one. `min_eigenvalue` is the least of (M + Mᵀ)/2 over points.

    `asymmetry_se` treats points as independent draws (delta method for a ratio). Beyond 32 features eigenvalues come
    from Lanczos and lie at or above the true ones; their points are the first `eigen_points` (0: none, nan). `excluded`
    points do not move at all and have no M (p ≠ 2). `size` is the root mean square eigenvalue of (M + Mᵀ)/2. Where
    float64 cannot hold the two (p ≠ 2), lengths are in units of about the largest displacement.
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

    x is a tensor in the precision and on the device of the map; in 16 bits a module is tested as a copy in float32. The
    map may take gradients inside and write into its argument: it gets copies. v ~ N(0, I); one Jacobian-vector and one
    vector-Jacobian product a probe. With `encoder` φ the rows of x are its inputs, the map acts on φ(x), and M is
    Dφᵀ M Dφ throughout. ValueError for a map or an encoder that mixes samples (batch norm in train mode), that is
    random, that has another derivative forward than backward or than its values, or whose output has another shape;
    `NoJacobianTest` where the map is constant or, for p ≠ 2, moves no point.
    """
    p = check_exponent(p, "brenier_test")
    if not isinstance(x, Tensor):
        raise ValueError(f"brenier_test needs x as a tensor, in the map's precision; got {type(x).__name__}.")
    x = as_array(x, "x", "brenier_test")
    real("brenier_test", half=True, x=x)
    shapes("brenier_test", x=(x, "n *feature"), cure="Pass at least one point")
    finite("brenier_test", x=x)
    checks.generator("brenier_test", generator)
    count("brenier_test", "probes", probes)
    count("brenier_test", "eigen_points", eigen_points, at_least=0)
    require_maps(transport_map, encoder)
    if x.ndim == 1 and encoder is None:
        x, transport_map = x[:, None], _of_columns(transport_map)
    if x.dtype in (torch.float16, torch.bfloat16):
        x, transport_map, encoder = x.float(), widened(transport_map), encoder and widened(encoder)
    check_map(transport_map, x, encoder)
    with torch.no_grad():  # derivatives by the roads below only, none for the parameters of a network
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
    moved, unit = _moved(transport_map, x, p, encoder)
    kept = x[moved]
    skew, symmetric = [], []
    road = _road(transport_map, kept, encoder)
    found = probed(transport_map, kept, p=p, probes=probes, generator=generator, encoder=encoder, unit=unit, road=road)
    for products, v in found:
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
        operators = (JacobianProducts(transport_map, part, p, encoder, unit=unit, road=road) for part in parts)
        least = torch.cat([least_eigenvalues(each.symmetric, each.x, generator=generator) for each in operators])
    size = math.sqrt(float(below.mean()) / 4 / kept[0].numel())
    smallest, counts = float(least.min()), (len(kept), probes, len(x) - len(kept))
    if fits(unit, p - 2, 0.0, size):
        smallest, size = converted(smallest, unit, p - 2), converted(size, unit, p - 2)
    return BrenierTest(asymmetry, error, smallest, *counts, size)


def _road(transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None) -> Road:
    functions = (transport_map,) if encoder is None else (encoder, transport_map)
    return road_for(functions, x[:TRIED], "brenier_test")


def probed(
    transport_map: Map,
    x: Float[Tensor, "n *feature"],
    *,
    p: float,
    probes: int,
    generator: torch.Generator,
    encoder: Map | None = None,
    unit: float = 1.0,
    road: Road | None = None,
) -> Iterator[tuple[JacobianProducts, Tensor]]:
    """The products at some points at a time, each `probes` times over with new Gaussian vectors.

    Without a `road` it is looked for: ValueError if the map has not one derivative (`road_for`).
    """
    road = road or _road(transport_map, x, encoder)
    for part in chunks(transport_map, x, encoder):
        products = JacobianProducts(transport_map, part, p, encoder, unit=unit, road=road)
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
    features = x[0].numel() if encoder is None else values(encoder, x[:1]).numel()
    return x.split(max(1, CHUNK // features))


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


def _moved(transport_map: Map, x: Float[Tensor, "n *feature"], p: float, encoder: Map | None) -> tuple[Tensor, float]:
    """Which points have an M, and for p ≠ 2 the largest displacement, as a unit in which no power of it overflows."""
    if p == 2:
        return torch.arange(len(x), device=x.device), 1.0
    start = x if encoder is None else values(encoder, x)
    displacement = (values(transport_map, start) - start).flatten(1)
    moved = torch.nonzero((displacement != 0).any(1))[:, 0]
    if len(moved) == 0:
        raise NoJacobianTest(STILL, f"{STILL}, so the cost ‖x − y‖^{p} has no second derivative: use p = 2.")
    return moved, 2.0 ** round(math.log2(float(displacement.abs().max())))


def _refuse_flat(transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None) -> None:
    """NoJacobianTest for a map whose derivatives all vanish: there is no symmetry to look at."""
    found = values(transport_map, x if encoder is None else values(encoder, x))
    if bool((x == x[:1]).all()):
        raise NoJacobianTest(ALIKE, f"{ALIKE}, and there the Jacobian of the map vanishes: pass other points too.")
    reason = CONSTANT if bool((found == found[:1]).all()) else FLAT
    raise NoJacobianTest(reason, f"{reason}: the symmetry of its Jacobian is undefined.")


def _of_columns(transport_map: Map) -> Map:
    """A map of numbers (n,) as one of points (n, 1)."""
    return lambda z: transport_map(z[:, 0])[:, None]


def widened(transport_map: Map) -> Map:
    """The map in float32: a module as a copy, anything else as it is."""
    owner = getattr(transport_map, "__self__", transport_map)
    if not isinstance(owner, nn.Module):
        return transport_map
    copy = copied(owner).float()
    return copy if owner is transport_map else getattr(copy, getattr(transport_map, "__name__", "forward"))


def require_maps(*maps: Map | None) -> None:
    """ValueError unless each is a callable, and no module in a mode that draws random numbers or mixes samples."""
    for each in maps:
        if each is not None and not callable(each):
            raise ValueError(f"brenier_test needs the map as a callable on batches; got {type(each).__name__}.")
        owner = getattr(each, "__self__", each)
        if isinstance(owner, nn.Module):
            require_deterministic(owner, "brenier_test")


def check_map(transport_map: Map, x: Float[Tensor, "n *feature"], encoder: Map | None = None) -> None:
    """ValueError unless the map keeps the shape, is one function and treats every sample by itself; so the encoder."""
    start = x if encoder is None else _one_by_one(encoder, x, "encoder")
    end = _one_by_one(transport_map, start, "map")
    if end.shape != start.shape:
        raise ValueError(
            f"brenier_test needs a map that keeps the shape of x, {tuple(start.shape)}; it returned {tuple(end.shape)}."
        )


def called(function: Map, x: Float[Tensor, "n *feature"], caller: str) -> Tensor:
    """The values of a map at copies of x; ValueError if it fails there."""
    try:
        return values(function, x)
    except (RuntimeError, TypeError, IndexError, AttributeError, ValueError) as error:
        if out_of_memory(error):
            raise
        reason = one_line(error, 160).rstrip(".")
        raise ValueError(
            f"{caller} needs a map of points such as these, {str(x.dtype).removeprefix('torch.')} of shape "
            f"{tuple(x.shape)}; it failed: {reason}. Give the points in the shape and precision of the map."
        ) from error


def _one_by_one(function: Map, x: Float[Tensor, "n *feature"], name: str) -> Tensor:
    """The values of a map; ValueError if they are no tensor of n rows, not finite, random, or mix samples."""
    whole = called(function, x, f"brenier_test ({name})")
    if not isinstance(whole, Tensor) or whole.ndim == 0 or len(whole) != len(x):
        shape = tuple(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
        raise ValueError(f"brenier_test needs one row a point from the {name}, {len(x)} rows; it returned {shape}.")
    real(f"brenier_test ({name})", half=False, numpy=False, **{f"the values of the {name}": whole})
    if not bool(whole.isfinite().all()):
        raise ValueError(
            f"brenier_test needs finite values of the {name}; some are NaN or infinite: give one that has not diverged."
        )
    require_separate_samples(lambda z: values(function, z), x, f"brenier_test ({name})")
    return whole
