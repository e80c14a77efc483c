"""What a map along blocks costs: transport cost of the steps, action and length of the path, cost of the map.

A path is the states z_0..z_L of one segment, all of one shape (n, ...); networks that change shape give several paths,
one a segment, and their costs add up. Everything is differentiable.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.transport.cost import check_exponent

Path = Float[Tensor, "layers n ..."] | Sequence[Float[Tensor, "n ..."]]
Steps = Sequence[Float[Tensor, "n ..."]]
Convention = Callable[[Float[Tensor, "n *feature"], float], Float[Tensor, ""]]


class Energy(NamedTuple):
    """Energies of a path (or of several, added up), as returned by `measure`."""

    blocks: Float[Tensor, "blocks"]
    transport: Float[Tensor, ""]
    action: Float[Tensor, ""]
    map_cost: Float[Tensor, ""]
    length: Float[Tensor, ""]
    straightness: Float[Tensor, ""]


def sum_over_features(step: Float[Tensor, "n *feature"], p: float) -> Float[Tensor, ""]:
    """1/n Σ_i ‖v^i‖^p: Euclidean norm over all features (a sum), mean over samples, no factor ½."""
    step = _wide(step)
    if p == 2:
        return _square_sum(step) / len(step)
    flat = step.flatten(1) if step.ndim > 1 else step[:, None]
    return torch.linalg.vector_norm(flat, dim=1).pow(check_exponent(p)).mean()


def mean_over_features(step: Float[Tensor, "n *feature"], p: float) -> Float[Tensor, ""]:
    """1/(n d) Σ_i Σ_k |v_k^i|^p: mean over samples AND features, as in the published code; d times less at p = 2."""
    step = _wide(step)
    return _square_sum(step) / step.numel() if p == 2 else step.abs().pow(check_exponent(p)).mean()


def _square_sum(step: Tensor) -> Tensor:
    """The sum of a product: unlike `square` and `mean`, its gradient costs no copies where channels come last."""
    return (step * step).sum()


def _wide(step: Tensor) -> Tensor:
    """In float32 at least: sums in half precision lose digits or overflow."""
    return step.float() if step.dtype in (torch.float16, torch.bfloat16) else step


def block_costs(steps: Steps, *, p: float = 2.0, convention: Convention = sum_over_features) -> Float[Tensor, "blocks"]:
    """Cost of each block's step v_k; the steps may differ in shape."""
    if len(steps) == 0:
        raise ValueError("block_costs needs the step v_k of at least one block; got none.")
    return torch.stack([convention(step, check_exponent(p)) for step in steps])


def transport_cost(steps: Steps, *, p: float = 2.0, convention: Convention = sum_over_features) -> Float[Tensor, ""]:
    """Σ_k ‖v_k‖^p over all blocks k, each as `convention` counts it; what the least-action penalty multiplies.

    Source: [Karkar2020] eq. (8) for `sum_over_features`.
    """
    return block_costs(steps, p=p, convention=convention).sum()


def steps_of(path: Path) -> list[Float[Tensor, "n ..."]]:
    """The steps v_k = z_{k+1} − z_k of a path."""
    if len(path) < 2:
        raise ValueError(f"a path needs its states z_0..z_L, at least two; got {len(path)}.")
    shapes = sorted({tuple(state.shape) for state in path})
    if len(shapes) > 1:
        raise ValueError(f"the states of a path need one shape; got {shapes}: pass one path a segment.")
    return [after - before for before, after in pairwise(path)]


def action(path: Path, *, p: float = 2.0, step: float | None = None) -> Float[Tensor, ""]:
    """Mean action 1/n Σ_i Σ_k ‖v_k^i‖^p / step^(p−1), the discrete ∫‖ż‖^p dt; default step 1/L (unit time).

    In unit time action ≥ map_cost, with equality if and only if every path is straight and evenly paced.
    """
    steps = steps_of(path)
    return transport_cost(steps, p=p) / (1 / len(steps) if step is None else step) ** (p - 1)


def map_cost(path: Path, *, p: float = 2.0) -> Float[Tensor, ""]:
    """Cost of the map x ↦ T(x) from the first state to the last: 1/n Σ_i ‖x_i − T(x_i)‖^p."""
    steps_of(path)
    return sum_over_features(path[-1] - path[0], check_exponent(p))


def length(path: Path) -> Float[Tensor, ""]:
    """Mean length 1/n Σ_i Σ_k ‖v_k^i‖ of the polygon through the states."""
    return transport_cost(steps_of(path), p=1.0)


def straightness(path: Path) -> Float[Tensor, ""]:
    """Mean distance from first to last state over mean length: in [0, 1], 1 if and only if all paths are straight.

    Paths that do not move are straight.
    """
    total = length(path)
    return map_cost(path, p=1.0) / total if total > 0 else torch.ones_like(total)


def measure(paths: Sequence[Path], *, p: float = 2.0) -> Energy:
    """All energies of the paths of one network, one path a segment: costs, actions and lengths add up.

    `straightness` is the sum of the segments' mean distances over the sum of their mean lengths.
    """
    if len(paths) == 0:
        raise ValueError("measure needs the path of at least one segment; got none.")
    steps = [step for path in paths for step in steps_of(path)]
    costs = block_costs(steps, p=p)
    total = torch.stack([length(path) for path in paths]).sum()
    distance = torch.stack([map_cost(path, p=1.0) for path in paths]).sum()
    return Energy(
        blocks=costs,
        transport=costs.sum(),
        action=torch.stack([action(path, p=p) for path in paths]).sum(),
        map_cost=torch.stack([map_cost(path, p=p) for path in paths]).sum(),
        length=total,
        straightness=distance / total if total > 0 else torch.ones_like(total),
    )
