"""One-sided Lipschitz constants of a field f: the largest rate ν at which two solutions of z' = f(z) move apart.

⟨f(x) − f(y), x − y⟩ ≤ ν ‖x − y‖² for all x, y of a convex region; then ‖z_2(t) − z_1(t)‖ ≤ e^{νt} ‖z_2(0) − z_1(0)‖ for
solutions that stay in it. Where f is differentiable ν is the largest logarithmic norm of its Jacobian J in the region,
μ(J) = λ_max((J + Jᵀ)/2). A negative ν is a contraction; eigenvalues of J say nothing of the kind.
All numbers found here are attained by states or pairs, so they are lower bounds of ν.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.checks import alike, count, finite, function, given, real, shapes
from regimes.control.pairs import Pairs, Region, require_region, worst_pairs
from regimes.control.state_fields import Field, require_field, velocity
from regimes.eigenvalues import least_eigenvalues
from regimes.modules.jacobian import Road, plain_kernels, road_for

BETWEEN = (0.0, 0.25, 0.5, 0.75, 1.0)  # places on a pair's segment at which logarithmic norms are taken


class OneSided(NamedTuple):
    """The largest rates found: at states, and between the states of pairs; `value` is the larger one of both.

    One number for each index of the batch axes before the last. pairs: where the search ended.
    """

    value: Float[Tensor, "*nets"]
    at_states: Float[Tensor, "*nets"]
    between_pairs: Float[Tensor, "*nets"]
    pairs: Pairs


def quotients(
    field: Field, one: Float[Tensor, "*batch_feature"], other: Float[Tensor, "*batch_feature"], *, batch_axes: int = 1
) -> Float[Tensor, "*batch"]:
    """⟨f(x) − f(y), x − y⟩ / ‖x − y‖² of each pair, sums over the features; the first axes are those of the batch.

    ValueError: two equal states (or so near that ‖x − y‖² is rounded to 0), and a field that is not finite there.
    """
    given("quotients", field=field)
    function("quotients", field=field)
    count("quotients", "batch_axes", batch_axes)
    axes = " ".join(f"axis_{place}" for place in range(batch_axes)) + " feature *features"
    shapes("quotients", one=(one, axes), other=(other, axes))
    real("quotients", one=one, other=other)
    alike("quotients", one=one, other=other)
    finite("quotients", one=one, other=other)
    if bool(((one - other).flatten(batch_axes).square().sum(-1) == 0).any()):
        raise ValueError("quotients needs pairs of two different states; one has none between. Leave it out.")
    return _quotients(lambda z: velocity("quotients", field, z), one, other, batch_axes)


def _quotients(field: Field, one: Tensor, other: Tensor, batch_axes: int) -> Tensor:
    apart, moved = one - other, field(one) - field(other)
    over = tuple(range(batch_axes, one.ndim))
    return (moved * apart).sum(over) / apart.square().sum(over)


def _lowered(field: Field, one: Tensor, other: Tensor, batch_axes: int) -> Tensor:
    """The quotients less what the rounding of the field's values may have made of them, ε (‖f(x)‖ + ‖f(y)‖)/‖x − y‖."""
    apart, values = one - other, (field(one), field(other))
    over = tuple(range(batch_axes, one.ndim))
    squared = apart.square().sum(over)
    noise = torch.finfo(one.dtype).eps * sum(value.detach().square().sum(over).sqrt() for value in values)
    return ((values[0] - values[1]) * apart).sum(over) / squared - noise / squared.detach().sqrt()


def logarithmic_norms(
    field: Field,
    z: Float[Tensor, "*batch_feature"],
    *,
    generator: torch.Generator,
    batch_axes: int = 1,
    steps: int = 32,
) -> Float[Tensor, "*batch"]:
    """μ(J) = λ_max((J + Jᵀ)/2) of the Jacobian J of a field at each state, by products with J and Jᵀ.

    field: a function or module that acts on each state alone, (*batch, *feature) to the same; several nets are a batch
    axis of a field with weights for each, batch_axes = 2 for z (nets, n, *feature). Exact up to 32 features; beyond,
    Lanczos with `steps` products, a value at or below the true one, and at it where the eigenvalue stands apart.
    ValueError for a field that mixes samples, is random, changes the shape, or has no finite value or derivative.
    """
    require_field("logarithmic_norms", field, z, batch_axes)
    checks.generator("logarithmic_norms", generator)
    count("logarithmic_norms", "steps", steps)
    found = _norms(road_for((field,), z, "logarithmic_norms"), field, z, generator, batch_axes, steps)
    finite("logarithmic_norms", **{"derivatives of the field": found})
    return found


def _norms(
    road: Road, field: Field, z: Tensor, generator: torch.Generator, batch_axes: int, steps: int = 32
) -> Float[Tensor, "*batch"]:
    """The same by a known road; NaN where the Jacobian is not finite."""
    shape = z.shape
    with torch.inference_mode(False), torch.no_grad(), plain_kernels(z.device):
        linear = road(field, z.detach().clone())

        def negative(v: Tensor) -> Tensor:
            wide = v.reshape(shape)
            return -((linear.push(wide) + linear.pull(wide)) / 2).reshape(v.shape)

        flat = z.detach().reshape(-1, *shape[batch_axes:])
        least = least_eigenvalues(negative, flat, generator=generator, steps=steps)
    return -least.reshape(shape[:batch_axes])


def one_sided_constant(
    field: Field,
    z: Float[Tensor, "*batch_feature"],
    *,
    generator: torch.Generator,
    batch_axes: int = 1,
    pairs: int = 32,
    steps: int = 200,
    hops: int = 4,
    within: Region | None = None,
) -> OneSided:
    """The largest rate found at which two solutions move apart, over states and pairs, sampled and searched.

    z: sampled states, along the last batch axis, at least two. From the `pairs` worst of them the search starts: a
    third pairs with the next of these, a third with a state at a hundredth of their size, a third with one ten times as
    far. `worst_pairs` moves the pairs, by `steps`, inside `within` where it is given (z has to lie there); logarithmic
    norms are taken along what it finds. Then `pairs` states, half of them the worst, walk at random for `hops`
    steps, of 1/1000 of the size of the states to all of it, and never to a lower rate: for fields with kinks, where no
    gradient leads on. States that the search meets where the field or its derivative is not finite count for nothing.
    ValueError for a field that mixes samples, is random, changes the shape, or has no finite value or derivative at z,
    and for a `within` that is no projection, or that moves z.
    """
    require_field("one_sided_constant", field, z, batch_axes, any_number=True)
    checks.generator("one_sided_constant", generator)
    for name, value, least in (("pairs", pairs, 1), ("steps", steps, 0), ("hops", hops, 0)):
        count("one_sided_constant", name, value, at_least=least)
    axis = batch_axes - 1
    if z.shape[axis] < 2:
        raise ValueError(
            f"one_sided_constant needs at least two states on axis {axis}; got {z.shape[axis]}. Pass more of them."
        )
    z = z.detach()
    require_region("one_sided_constant", within, z=z)
    road = road_for((field,), z, "one_sided_constant")

    def norms(states: Tensor) -> Tensor:
        found = _norms(road, field, states, generator, batch_axes)
        return torch.where(found.isfinite(), found, -inf)  # a number that none is takes no place among the largest

    def score(one: Tensor, other: Tensor) -> Tensor:
        found = _lowered(field, one, other, batch_axes)
        return torch.where(found.isfinite(), found, torch.nan)  # as a field that overflows at one end makes it

    at_z = norms(z)
    finite("one_sided_constant", **{"derivatives of the field": at_z})
    size = z.square().mean().sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    starts = _worst(z, at_z, axis, max(2, min(pairs, z.shape[axis])))[0]
    found = worst_pairs(score, starts, _partners(starts, size, generator, axis, within), steps=steps, within=within)
    tried = torch.cat([z, *(found.other + place * (found.one - found.other) for place in BETWEEN)], axis)
    walkers, rates = _worst(tried, norms(tried), axis, tried.shape[axis])
    worst = torch.arange(starts.shape[axis], device=z.device)
    spread = worst * (
        tried.shape[axis] // len(worst)
    )  # half of the walkers from all ranks: a small cell may be anywhere
    chosen = torch.where(worst % 2 == 0, worst, spread)
    walkers, rates = walkers.index_select(axis, chosen), rates.index_select(axis, chosen)
    for _ in range(hops):
        far = 10 ** (-3 * torch.rand(rates.shape, generator=generator, device=generator.device, dtype=z.dtype))
        moved = walkers + size * _wide(far.to(z.device), z) * _random(walkers.shape, z, generator)
        moved = moved if within is None else within(moved)
        after = norms(moved)
        walkers = torch.where(_wide(after >= rates, z), moved, walkers)
        rates = torch.maximum(after, rates)
    at_states, between = rates.amax(axis), torch.where(found.score.isnan(), -inf, found.score).amax(axis)
    return OneSided(torch.maximum(at_states, between), at_states, between, found)


def _worst(states: Tensor, rates: Tensor, axis: int, number: int) -> tuple[Tensor, Tensor]:
    """The states with the largest rates along an axis, and these rates."""
    top = rates.topk(number, axis)
    return states.take_along_dim(_wide(top.indices, states), axis), top.values


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(*values.shape, *[1] * (like.ndim - values.ndim))


def _along(values: Tensor, axis: int, axes: int) -> Tensor:
    return values.reshape([-1 if place == axis else 1 for place in range(axes)])


def _random(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(list(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)


def _partners(z: Tensor, size: Tensor, generator: torch.Generator, axis: int, within: Region | None) -> Tensor:
    """The other state of each pair, by its number: the next one, a near state, a far one.

    Where a pair is one state, as equal states and projections make it, the others are tried.
    """
    number = _along(torch.arange(z.shape[axis], device=z.device) % 3, axis, z.ndim)
    away = size * _random(z.shape, z, generator)
    following, near, far = z.roll(1, axis), z + 0.01 * away, z + 10.0 * away
    wanted = torch.where(number == 0, following, torch.where(number == 1, near, far))
    partners = z
    for tried in (wanted, following, near, far):
        same = (partners == z).flatten(axis + 1).all(-1)
        partners = torch.where(_wide(same, z), tried if within is None else within(tried), partners)
    if bool((partners == z).flatten(axis + 1).all(-1).any()):
        raise ValueError(
            "one_sided_constant needs a region with other states beside each; within brings all that was tried back "
            "to one. Widen it."
        )
    return partners
