"""The pair of states for which something is worst: searched for by its gradient, from many pairs at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, count, finite, function, given, positive, real, shapes

Score = Callable[[Tensor, Tensor], Tensor]
Region = Callable[[Tensor], Tensor]
# Of the size of a pair's states, the range in which its distance may be: nearer pairs are lost in rounding.
NEAR, FAR = 1e-4, 1e2


class Pairs(NamedTuple):
    """Pairs of states, and the score of each."""

    one: Float[Tensor, "*batch_feature"]
    other: Float[Tensor, "*batch_feature"]
    score: Float[Tensor, "*batch"]


def worst_pairs(
    score: Score,
    one: Float[Tensor, "*batch_feature"],
    other: Float[Tensor, "*batch_feature"],
    *,
    steps: int = 300,
    rate: float = 0.1,
    within: Region | None = None,
) -> Pairs:
    """Of each pair, the best one that ascent on its score has met: never worse than the pair it starts from.

    score(one, other) has one number a pair, from this pair alone: as many axes as the batch has. Adam moves the middle,
    in units of the pair's first size, the direction, and the logarithm of the distance, with a rate that falls linearly
    from `rate` to 0. within: a projection of states onto a convex region, in which the pairs lie and are to stay. The
    score found is a lower bound of the largest one: from many starts it is often that, and nothing certifies it. A
    pair whose score is NaN at the start has no way to go: its score stays NaN.
    """
    given("worst_pairs", score=score)
    function("worst_pairs", score=score, within=within)
    count("worst_pairs", "steps", steps, at_least=0)
    positive("worst_pairs", "rate", rate, single=True)
    shapes("worst_pairs", one=(one, "n *feature"), other=(other, "n *feature"))
    real("worst_pairs", one=one, other=other)
    alike("worst_pairs", one=one, other=other)
    finite("worst_pairs", one=one, other=other)
    require_region("worst_pairs", within, one=one, other=other)
    with torch.enable_grad():
        return _searched(score, one.detach(), other.detach(), steps, rate, within)


@torch.no_grad()
def require_region(caller: str, within: Region | None, **states: Tensor) -> None:
    """Refuse what is no projection that leaves these states where they are, up to rounding."""
    function(caller, within=within)
    if within is None:
        return
    for name, each in states.items():
        found = within(each.detach().clone())
        if not isinstance(found, Tensor) or found.shape != each.shape or found.dtype != each.dtype:
            got = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{caller} needs within as a projection of states, with as many of them as it is given: of "
                f"{tuple(each.shape)} {each.dtype} it made {got}."
            )
        if not float((found - each).abs().amax()) <= torch.finfo(each.dtype).eps ** 0.5 * float(each.abs().amax()):
            raise ValueError(f"{caller} needs {name} inside the region; within moves some of it. Pass within({name}).")


def _searched(score: Score, one: Tensor, other: Tensor, steps: int, rate: float, within: Region | None) -> Pairs:
    first = score(one, other)
    if not isinstance(first, Tensor):
        raise ValueError(f"worst_pairs needs a score that gives a tensor; got {type(first).__name__}.")
    first = first.detach()
    over = tuple(range(first.ndim, one.ndim))
    if first.shape != one.shape[: first.ndim] or not over:
        raise ValueError(
            f"worst_pairs needs a score with one number a pair, of the first axes of the states {tuple(one.shape)}; "
            f"got {tuple(first.shape)}. Sum over the features."
        )

    def norm(states: Tensor) -> Tensor:
        return states.square().sum(over, keepdim=True).sqrt()

    apart, middle = one - other, (one + other) / 2
    length = norm(apart)
    if bool((length == 0).any()):
        raise ValueError("worst_pairs needs pairs of two different states; one has none between. Draw other pairs.")
    unit = torch.maximum(norm(one), norm(other))
    low, high = torch.minimum(length, NEAR * unit).log(), torch.maximum(length, FAR * unit).log()
    moving = [(middle / unit), apart / length, length.log()]
    moving = [each.clone().requires_grad_() for each in moving]
    optimiser = torch.optim.Adam(moving, lr=rate)

    def pair() -> tuple[Tensor, Tensor]:
        centre, direction, stretch = moving
        half = direction / norm(direction) * torch.minimum(torch.maximum(stretch, low), high).exp() / 2
        ends = centre * unit + half, centre * unit - half
        return ends if within is None else (within(ends[0]), within(ends[1]))

    best = Pairs(one, other, first)
    for number in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - number / steps)
        ends = pair()
        value = score(*ends)
        best = _better(best, Pairs(ends[0].detach(), ends[1].detach(), value.detach()))
        if not value.requires_grad:  # a constant score leads nowhere
            return best
        options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
        slopes = torch.autograd.grad(-value.nan_to_num(0.0, 0.0, 0.0).sum(), moving, **options)
        for each, slope in zip(moving, slopes, strict=True):
            each.grad = slope.nan_to_num(0.0, 0.0, 0.0)
        optimiser.step()
    return best


def _better(one: Pairs, other: Pairs) -> Pairs:
    """The better of two for each pair; what is not a number is never better."""
    better = other.score > one.score
    wide = better.reshape(*better.shape, *[1] * (one.one.ndim - better.ndim))
    return Pairs(
        torch.where(wide, other.one, one.one),
        torch.where(wide, other.other, one.other),
        torch.where(better, other.score, one.score),
    )
