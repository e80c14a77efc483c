"""Where the dual certificate η of spikes is largest: a grid and Newton's method, and a proved bound of its maximum."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regimes.meanfield.spikes.risk import Correlation, SpikeRisk

PEAKS = 16  # of each run, the highest ones of the grid, that Newton's method goes on from
NEWTON = 12
LEVELS = 24  # how often a cell is cut in two along each axis at the most
CELLS = 2**13  # of a run, beyond which none is cut: only flat maxima, such as a constant η, need more


class Peaks(NamedTuple):
    """Local maxima of |η|, or of η where masses are positive, the highest first.

    height: −inf where a run has fewer. gradient, curvature: |∇η| and the least eigenvalue of −s∇²η there (≤ 0: Newton's
    method has not come to a maximum), s the sign of η, or 1.
    """

    position: Float[Tensor, "runs peaks d"]
    height: Float[Tensor, "runs peaks"]
    sign: Float[Tensor, "runs peaks"]
    gradient: Float[Tensor, "runs peaks"]
    curvature: Float[Tensor, "runs peaks"]


def grid(risk: SpikeRisk, residual: Tensor) -> tuple[int, Correlation]:
    """Points on each axis, and η and ∇η at the centres of the cells, in the order of `centres`."""
    points = (32 if risk.dim == 1 else 8) * (risk.order + 1)
    return points, risk.on_grid(residual, points)


def centres(points: int, dim: int, like: Tensor) -> Float[Tensor, "1 cells d"]:
    axis = torch.arange(points, dtype=like.dtype, device=like.device) / points
    return torch.cartesian_prod(*[axis] * dim).reshape(1, -1, dim)


def peaks(risk: SpikeRisk, residual: Tensor) -> Peaks:
    """The highest local maxima on a grid, brought to round-off by Newton's method."""
    points, coarse = grid(risk, residual)
    return _climbed(risk, residual, points, coarse)


def bound(risk: SpikeRisk, residual: Tensor, slack: float = 1e-12) -> tuple[Float[Tensor, " runs"], Peaks]:
    """A number that max |η| (or max η) is proved not to exceed, at most `slack` above it where its peaks are proper.

    Branch and bound. On a cube of half width h around c, η ≤ η(c) + h|∇η(c)|₁ + ½(2πn d h)² B, with a bound B of |η|
    everywhere: Bernstein's inequality says that along any line in the direction u the p-th derivative of η is at most
    (2πn|u|₁)^p B. B comes from the grid: B ≤ max_grid |η| / (1 − ½(2πn d h)²), as ∇η = 0 at the maximum.
    On a cube of half width ρ = κ/(2d²(2πn)³B) around a peak x̂ of curvature κ all curvatures are at least κ/2, so that
    there η ≤ η(x̂) + |∇η(x̂)|²/κ, which is exact to rounding. Cubes that are neither inside of one of these nor below the
    highest peak are cut into halves, `LEVELS` times at most. Rounding of η, below 16n ε 2^{d/2} Σ|coefficients|, is
    added.
    """
    points, coarse = grid(risk, residual)
    found = _climbed(risk, residual, points, coarse)
    rate, dim, half = 2 * math.pi * risk.order, risk.dim, 0.5 / points
    everywhere = coarse.value.abs().amax(1) / (1 - (rate * dim * half) ** 2 / 2)
    above = found.gradient.square() / found.curvature
    proper = (found.curvature > 0) & (above <= slack)  # else Newton's method has not come to a maximum
    radius = found.curvature / (2 * dim**2 * rate**3 * everywhere[:, None])
    if risk.signed:
        proper &= found.height >= rate * dim * radius * everywhere[:, None]  # |η| = sη on the cube
    top = torch.where(proper, found.height + above, -torch.inf).amax(1)
    radius = torch.where(proper, radius, 0)
    goal = torch.maximum(top, torch.where(found.height.isfinite(), found.height, -torch.inf).amax(1)) + slack

    centre, value = centres(points, dim, residual).expand(risk.runs, -1, -1), coarse
    alive = torch.ones_like(value.value, dtype=torch.bool)
    for level in range(LEVELS + 1):
        height = value.value.abs() if risk.signed else value.value
        assert value.gradient is not None
        upper = height + half * value.gradient.abs().sum(2)
        upper = upper + everywhere[:, None] * (rate * dim * half) ** 2 / 2
        alive = alive & (upper > goal[:, None]) & ~_inside(centre, half, found.position, radius)
        if not bool(alive.any()):
            break
        given_up = (alive.sum(1) > CELLS) | (level == LEVELS)
        left = alive & given_up[:, None]
        top = torch.maximum(top, torch.where(left, upper, -torch.inf).amax(1))
        alive = alive & ~left
        if not bool(alive.any()):
            break
        half /= 2
        centre, alive = _cut(centre, alive, half)
        value = risk.correlation(residual, centre, 1)
    highest = torch.where(top.isfinite(), torch.maximum(top, goal), goal)
    rounding = (
        16 * risk.order * torch.finfo(residual.dtype).eps * 2 ** (dim / 2) * residual.abs().sum((1, 2)) / risk.penalty
    )
    return highest + rounding, found


def _climbed(risk: SpikeRisk, residual: Tensor, points: int, coarse: Correlation) -> Peaks:
    dim, count = risk.dim, min(PEAKS, coarse.value.shape[1])
    heights = coarse.value.abs() if risk.signed else coarse.value
    table = heights.unflatten(1, (points,) * dim)
    maximal = torch.ones_like(table, dtype=torch.bool)
    for axis in range(1, dim + 1):
        maximal &= (table >= table.roll(1, axis)) & (table >= table.roll(-1, axis))
    best, places = torch.where(maximal.flatten(1), heights, -torch.inf).topk(count, 1)
    at = centres(points, dim, residual)[0][places]
    for _ in range(NEWTON):
        here = risk.correlation(residual, at, 2)
        sign, slope, bend = _upwards(risk, here)
        concave = _least(bend) > 0
        safe = torch.where(concave[..., None, None], bend, torch.eye(dim, dtype=at.dtype, device=at.device))
        step = torch.linalg.solve(safe, slope[..., None])[..., 0]
        short = step.abs().amax(-1) <= 1 / points  # else it would go to another peak
        at = at + torch.where((concave & short)[..., None], step, 0)
    here = risk.correlation(residual, at, 2)
    sign, slope, bend = _upwards(risk, here)
    height = torch.where(best.isfinite(), sign * here.value, -torch.inf)
    order = height.argsort(1, descending=True)

    def sort(values: Tensor) -> Tensor:
        return values.gather(
            1, order.reshape(*order.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
        )

    return Peaks(*map(sort, (at - at.floor(), height, sign, slope.norm(dim=-1), _least(bend))))


def _upwards(risk: SpikeRisk, here: Correlation) -> tuple[Tensor, Tensor, Tensor]:
    """The sign s, s∇η and −s∇²η."""
    assert here.gradient is not None
    assert here.hessian is not None
    one = torch.ones_like(here.value)
    sign = torch.where(here.value < 0, -one, one) if risk.signed else one
    return sign, sign[..., None] * here.gradient, -sign[..., None, None] * here.hessian


def _least(matrix: Float[Tensor, "runs points d d"]) -> Float[Tensor, "runs points"]:
    """The least eigenvalue of symmetric matrices of size one or two."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0, 0]
    middle = (matrix[..., 0, 0] + matrix[..., 1, 1]) / 2
    return middle - torch.hypot((matrix[..., 0, 0] - matrix[..., 1, 1]) / 2, matrix[..., 0, 1])


def _inside(
    centre: Float[Tensor, "runs cells d"],
    half: float,
    peak: Float[Tensor, "runs peaks d"],
    radius: Float[Tensor, "runs peaks"],
) -> Bool[Tensor, "runs cells"]:
    """Whether a cube lies in one of the cubes around the peaks."""
    inside = torch.zeros(centre.shape[:2], dtype=torch.bool, device=centre.device)
    for number in range(peak.shape[1]):
        apart = centre - peak[:, number, None]
        inside |= (apart - apart.round()).abs().amax(2) + half <= radius[:, number, None]
    return inside


def _cut(
    centre: Float[Tensor, "runs cells d"], alive: Bool[Tensor, "runs cells"], half: float
) -> tuple[Float[Tensor, "runs parts d"], Bool[Tensor, "runs parts"]]:
    """The halves along each axis of the cells that are alive; runs with fewer are filled up with cells that are not."""
    order = alive.int().argsort(1, descending=True)[:, : int(alive.sum(1).max())]
    dim = centre.shape[2]
    kept, still = centre.gather(1, order[..., None].expand(-1, -1, dim)), alive.gather(1, order)
    corners = torch.cartesian_prod(*[torch.tensor([-half, half], dtype=centre.dtype, device=centre.device)] * dim)
    parts = kept[:, :, None] + corners.reshape(-1, dim)
    return parts.flatten(1, 2), still.repeat_interleave(2**dim, 1)
