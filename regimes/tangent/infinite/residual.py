"""Sums of branches of infinitely wide nets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regimes.tangent.infinite.layers import Identity, Serial, require_layer
from regimes.tangent.infinite.state import Kind, Layer, Pairs, Sides, deficit, mapped, placed, root


@dataclass(frozen=True)
class Parallel:
    """The sum of branches with weights of their own, all on the same input: S' = Σ S_branch, K' = Σ K_branch.

    Each ends on outputs that are Gaussian with mean 0, so on weights and not on an activation; at most one has no
    weights.
    """

    branches: tuple[Layer, ...]

    def __init__(self, *branches: Layer) -> None:
        for branch in branches:
            require_layer("Parallel", branch)
        if not branches:
            raise ValueError("Parallel needs branches, at least one; got none. Pass layers.")
        object.__setattr__(self, "branches", branches)

    @property
    def pools(self) -> bool:
        return any(branch.pools for branch in self.branches)

    def fitted(self, kind: Kind) -> tuple["Parallel", Kind]:
        found = [branch.fitted(kind._replace(fresh=False)) for branch in self.branches]
        kinds = [each for _, each in found]
        if len({each.positions for each in kinds}) > 1 or len({each.channels for each in kinds} - {None}) > 1:
            got = ", ".join(f"{each.positions} with {each.channels or 'any number of'} channels" for each in kinds)
            raise ValueError(f"Parallel needs branches that end alike; got positions {got}. Change strides or widths.")
        if len(found) > 1 and not all(each.gaussian for each in kinds):
            raise ValueError(
                "Parallel needs branches whose outputs are Gaussian with mean 0: the sum of others is not known from "
                "their kernels. End each branch with Dense or Conv, and put one before the sum for a bare shortcut."
            )
        if sum(not each.fresh for each in kinds) > 1:
            raise ValueError(
                "Parallel needs branches with weights of their own, all but one: bare ones are not independent. "
                "Put Dense or Conv into them."
            )
        channels = next((each.channels for each in kinds if each.channels is not None), None)
        fresh = all(each.fresh for each in kinds) or kind.fresh
        return Parallel(*(branch for branch, _ in found)), Kind(
            kinds[0].positions, channels, all(each.gaussian for each in kinds), fresh
        )

    def sides(self, before: Tensor, own: Pairs | None) -> tuple[Sides, Pairs | None]:
        found = [branch.sides(before, own) for branch in self.branches]
        inner = tuple(sides for sides, _ in found)
        sides = Sides(before, _joint([each.after for each in inner]), inner)
        branches = [each for _, each in found if each is not None]
        if not branches:
            return sides, None
        one = mapped(sides, lambda each: each[:, None])
        return sides, _sum(branches, one, one)

    def pairs(self, pairs: Pairs, left: Sides, right: Sides) -> Pairs:
        triples = zip(self.branches, left.inner, right.inner, strict=True)
        return _sum([branch.pairs(pairs, one, other) for branch, one, other in triples], left, right)


def Residual(*layers: Layer) -> Parallel:
    """x + f(x), where f is the chain of these layers."""
    return Parallel(Identity(), Serial(*layers))


def _joint(roots: Sequence[Tensor]) -> Tensor:
    return (
        roots[0] if len(roots) == 1 else root(sum((each.square() for each in roots), start=torch.zeros_like(roots[0])))
    )


def _sum(branches: Sequence[Pairs], left: Sides, right: Sides) -> Pairs:
    """The pairs of the sum: (√(A+A')√(B+B') − √(AB) − √(A'B')) is added to the sum of the gaps, and of the totals."""
    gap, total, ntk, _ = branches[0].plain()
    for count in range(1, len(branches)):
        more = branches[count].plain()
        ends = [[each.after for each in side.inner[: count + 1]] for side in (left, right)]
        (a1, b1), (a2, b2) = (
            placed(one, other, gap)
            for one, other in (
                (_joint(ends[0][:count]), _joint(ends[1][:count])),
                (ends[0][count], ends[1][count]),
            )
        )
        a, b = placed(_joint(ends[0]), _joint(ends[1]), gap)
        rest = deficit(a1, b1, a2, b2, a * b)
        gap, total = gap + more.gap + rest, total + more.total + rest
        ntk = None if ntk is None or more.ntk is None else ntk + more.ntk
    return Pairs(gap, total, ntk)
