"""One Runge-Kutta step of z' = f(t, z): the same for fixed steps, for steps with error control, and under autograd.

A state is a tuple of tensors. The size of a step, and the time, are numbers, or tensors with one entry for each run:
the first axis of every tensor of the state.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regimes.control.arithmetic import combine
from regimes.control.tableau import Tableau
from regimes.errors import RunFailed

Parts = tuple[Tensor, ...]
Size = float | Tensor
Field = Callable[[Size, Parts], Parts]
MOST = 200  # iterations of an implicit step


class Step(NamedTuple):
    """A step's end, and the velocities k_i at its stages."""

    end: Parts
    slopes: list[Parts]


def step(field: Field, tableau: Tableau, time: Size, parts: Parts, size: Size, first: Parts | None = None) -> Step:
    """z⁺ = z + h Σ_i b_i k_i. first: k_1 where it is known, as after a method whose first stage is the last one's.

    The stages of an implicit method are iterated until they stand still: it needs h·‖a‖·Lip(f) < 1, and RunFailed says
    where that fails. Its derivative by autograd is that of the solution, by the implicit function theorem: the adjoint
    stages are iterated in the same way.
    """
    if not tableau.explicit:
        slopes = _implicit(field, tableau, time, parts, size)
        return Step(combine(parts, size, slopes, tableau.b), slopes)
    slopes = [field(time, parts) if first is None else first]
    end = parts
    for row, share in zip(tableau.a[1:], tableau.c[1:], strict=True):
        end = combine(parts, size, slopes, row[: len(slopes)])
        slopes.append(field(time + share * size, end))
    return Step(end if tableau.first_is_last else combine(parts, size, slopes, tableau.b), slopes)


def stages(tableau: Tableau, parts: Parts, size: Size, slopes: Sequence[Parts]) -> list[Parts]:
    """The states Z_i = z + h Σ_j a_ij k_j at which the velocities of a step were taken."""
    return [combine(parts, size, slopes, row) for row in tableau.a]


def error(tableau: Tableau, size: Size, slopes: Sequence[Parts]) -> Parts:
    """The end of the step minus that of the embedded solution."""
    if tableau.b_hat is None:
        raise ValueError(f"error control needs a tableau with an embedded solution b_hat; {tableau.name} has none.")
    return combine(None, size, slopes, [one - other for one, other in zip(tableau.b, tableau.b_hat, strict=True)])


def _implicit(field: Field, tableau: Tableau, time: Size, parts: Parts, size: Size) -> list[Parts]:
    """The velocities k_i = f(t + c_i h, z + h Σ_j a_ij k_j)."""

    def sweep(slopes: Sequence[Parts]) -> list[Parts]:
        found = stages(tableau, parts, size, slopes)
        return [field(time + share * size, each) for share, each in zip(tableau.c, found, strict=True)]

    with torch.no_grad():
        start = [field(time, parts)] * tableau.stages
        solved = [tuple(part.detach() for part in each) for each in settled(sweep, start, tableau.name)]
    if not torch.is_grad_enabled():
        return solved
    graph = sweep(solved)
    if not any(part.requires_grad for each in graph for part in each):
        return solved
    flat = [part for each in graph for part in each]
    return _grouped(_Solved.apply(sweep, tableau.name, len(parts), *(part.detach() for part in flat), *flat), parts)


class _Solved(torch.autograd.Function):
    """k = F(k): passes its second half on; the gradient g becomes w = g + (∂F/∂k)ᵀ w on the way back."""

    @staticmethod
    def forward(ctx, sweep, name, width, *values):  # pyright: ignore
        half = len(values) // 2
        ctx.sweep, ctx.name, ctx.width = sweep, name, width
        ctx.save_for_backward(*values[:half])
        return tuple(each.clone() for each in values[half:])

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore
        with torch.enable_grad():
            inputs = [each.detach().requires_grad_() for each in ctx.saved_tensors]
            outputs = [part for each in ctx.sweep(_grouped(inputs, range(ctx.width))) for part in each]

        def pull(now: Sequence[Parts]) -> list[Parts]:
            options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
            back = torch.autograd.grad(outputs, inputs, [each[0] for each in now], **options)
            return [(one + other,) for one, other in zip(gradients, back, strict=True)]

        found = settled(pull, [(each,) for each in gradients], ctx.name)
        half = len(found)
        return None, None, None, *[None] * half, *(each[0] for each in found)


def settled(sweep: Callable[[Sequence[Parts]], list[Parts]], start: list[Parts], name: str) -> list[Parts]:
    """The fixed point of a sweep, to rounding: iterated until the change no longer falls."""
    now, change, scale = start, torch.inf, torch.nan
    for _ in range(MOST):
        after, last = sweep(now), change
        pairs = [pair for two in zip(after, now, strict=True) for pair in zip(*two, strict=True)]
        change = max(float((one - other).abs().max()) for one, other in pairs)
        scale = max(float(one.abs().max()) for one, _ in pairs)
        now, unit = after, torch.finfo(pairs[0][0].dtype).eps
        if change <= unit * scale or (change >= last and change <= 1000 * unit * scale):
            return now
        if not change < torch.inf:
            break
    raise RunFailed(
        f"a step of {name} needs stages that can be iterated; they still change by {change:.2g} of {scale:.2g}. "
        "Take smaller steps."
    )


def _grouped(flat: Sequence[Tensor], parts: Sequence[object]) -> list[Parts]:
    width = len(parts)
    return [tuple(flat[place : place + width]) for place in range(0, len(flat), width)]
