"""What a map along blocks costs: transport cost of the steps, action and length of the path, cost of the map.

A path is the states z_0..z_L of one segment, all of one shape (n, ...); networks that change shape give several paths,
one a segment, and their costs add up. Everything is differentiable. States in half precision are widened before they
are subtracted. What takes a path refuses NaN; what takes steps stands in the training loop, where the test would wait
for the card at every step, and hands NaN on.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import finite, given, positive, real, shapes
from regimes.transport.cost import check_exponent

Path = Float[Tensor, "layers n ..."] | Sequence[Float[Tensor, "n ..."]]
Steps = Sequence[Float[Tensor, "n ..."]]
Convention = Callable[[Float[Tensor, "n *feature"], float], Float[Tensor, ""]]


class Energy(NamedTuple):
    """Energies of a path (or of several, added up), as returned by `measure`.

    `blocks` are the costs of the blocks' steps, `transport` their sum; `distance` is the mean distance from first to
    last state.
    """

    blocks: Float[Tensor, "blocks"]
    transport: Float[Tensor, ""]
    action: Float[Tensor, ""]
    map_cost: Float[Tensor, ""]
    distance: Float[Tensor, ""]
    length: Float[Tensor, ""]
    straightness: Float[Tensor, ""]


def sum_over_features(step: Float[Tensor, "n *feature"], p: float) -> Float[Tensor, ""]:
    """1/n Σ_i ‖v^i‖^p: Euclidean norm over all features (a sum), mean over samples, no factor ½."""
    _check_step(step, "sum_over_features")
    if p == 2:
        return _square_sum(step) / len(step)
    step = _widened(step)
    flat = step.flatten(1) if step.ndim > 1 else step[:, None]
    return torch.linalg.vector_norm(flat, dim=1).pow(check_exponent(p, "sum_over_features")).mean()


def mean_over_features(step: Float[Tensor, "n *feature"], p: float) -> Float[Tensor, ""]:
    """1/(n d) Σ_i Σ_k |v_k^i|^p: mean over samples AND features, as in the published code; d times less at p = 2."""
    _check_step(step, "mean_over_features")
    if p == 2:
        return _square_sum(step) / step.numel()
    return _widened(step).abs().pow(check_exponent(p, "mean_over_features")).mean()


class _SquareSum(torch.autograd.Function):
    """Σ x², whose gradient 2x takes one pass; that of the product x·x takes three, and `square` copies besides."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        wide = _widened(x)
        return (wide * wide).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return (_widened(x) * (2 * gradient)).to(x.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 2 * (_widened(x) * _widened(tangent)).sum()


def _square_sum(step: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # which fuses the passes, and does not take functions with a forward mode
        wide = _widened(step)
        return (wide * wide).sum()
    return _SquareSum.apply(step)


def _check_step(step: Tensor, caller: str) -> None:
    real(caller, half=True, numpy=True, step=step)
    shapes(caller, step=(step, "n *feature"))


def _widened(step: Tensor) -> Tensor:
    """In float32 at least: sums in half precision lose digits or overflow, and differences of states are noise."""
    return step.float() if step.dtype in (torch.float16, torch.bfloat16) else step


def block_costs(
    steps: Steps, *, p: float = 2.0, convention: Convention = sum_over_features, squares: Sequence[Tensor] = ()
) -> Float[Tensor, "blocks"]:
    """Cost of each block's step v_k; the steps may differ in shape. squares: Σ v_k² of each where it is known."""
    if len(steps) == 0:
        raise ValueError("block_costs needs the step v_k of at least one block; got none.")
    p = check_exponent(p, "block_costs")
    if squares and p == 2 and convention in _PARTS:
        parts = [square / _PARTS[convention](step) for square, step in zip(squares, steps, strict=True)]
    else:
        parts = [convention(step, p) for step in steps]
    return torch.stack(parts)


_PARTS: dict[Convention, Callable[[Tensor], int]] = {sum_over_features: len, mean_over_features: Tensor.numel}


def transport_cost(
    steps: Steps, *, p: float = 2.0, convention: Convention = sum_over_features, squares: Sequence[Tensor] = ()
) -> Float[Tensor, ""]:
    """Σ_k ‖v_k‖^p over all blocks k, each as `convention` counts it; what the least-action penalty multiplies.

    squares: Σ v_k² of each block where it is known, as in a trace.
    Source: [Karkar2020] eq. (8) for `sum_over_features`.
    """
    return block_costs(steps, p=p, convention=convention, squares=squares).sum()


def steps_of(path: Path) -> list[Float[Tensor, "n ..."]]:
    """The steps v_k = z_{k+1} − z_k of a path, in float32 at least."""
    return [after - before for before, after in pairwise(_states(path, "steps_of"))]


def action(path: Path, *, p: float = 2.0, step: float | None = None) -> Float[Tensor, ""]:
    """Mean action 1/n Σ_i Σ_k ‖v_k^i‖^p / step^(p−1), the discrete ∫‖ż‖^p dt; default step 1/L (unit time).

    In unit time action ≥ map_cost, with equality if and only if every path is straight and, for p > 1, evenly paced.
    At p = 1 the action is the mean length: the pace does not count.
    """
    states = _states(path, "action")
    p = check_exponent(p, "action")
    if step is not None:
        positive("action", "step", step)
    return _action(states, p, step)


def map_cost(path: Path, *, p: float = 2.0) -> Float[Tensor, ""]:
    """Cost of the map x ↦ T(x) from the first state to the last: 1/n Σ_i ‖x_i − T(x_i)‖^p."""
    return _map_cost(_states(path, "map_cost"), check_exponent(p, "map_cost"))


def length(path: Path) -> Float[Tensor, ""]:
    """Mean length 1/n Σ_i Σ_k ‖v_k^i‖ of the polygon through the states."""
    return _action(_states(path, "length"), 1.0, None)


def straightness(path: Path) -> Float[Tensor, ""]:
    """Mean distance from first to last state over mean length: in [0, 1], 1 if and only if all paths are straight.

    Paths that do not move are straight.
    """
    states = _states(path, "straightness")
    return straight_share(_map_cost(states, 1.0), _action(states, 1.0, None))


def straight_share(distance: Float[Tensor, ""], length: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """distance / length, 1 where nothing moves: the straightness of paths of that mean distance and mean length."""
    real("straight_share", numpy=True, distance=distance, length=length)
    shapes("straight_share", distance=(distance, ""), length=(length, ""))
    finite("straight_share", distance=distance, length=length)
    if distance < 0 or length < 0 or (length == 0 and distance > 0):
        raise ValueError(f"straight_share needs 0 <= distance <= length; got {distance:.4g} and {length:.4g}.")
    return torch.ones_like(length) if length == 0 else distance / length


def measure(paths: Sequence[Path], *, p: float = 2.0) -> Energy:
    """All energies of the paths of one network, one path a segment: costs, actions, distances and lengths add up.

    `straightness` is the sum of the segments' mean distances over the sum of their mean lengths.
    """
    if len(paths) == 0:
        raise ValueError("measure needs the path of at least one segment; got none.")
    p = check_exponent(p, "measure")
    segments = [_states(path, "measure") for path in paths]
    costs = block_costs([after - before for states in segments for before, after in pairwise(states)], p=p)
    distance = torch.stack([_map_cost(states, 1.0) for states in segments]).sum()
    total = torch.stack([_action(states, 1.0, None) for states in segments]).sum()
    return Energy(
        blocks=costs,
        transport=costs.sum(),
        action=torch.stack([_action(states, p, None) for states in segments]).sum(),
        map_cost=torch.stack([_map_cost(states, p) for states in segments]).sum(),
        distance=distance,
        length=total,
        straightness=straight_share(distance, total),
    )


def _states(path: Path, caller: str) -> list[Tensor]:
    """The states of a path, in float32 at least; ValueError unless two or more of one shape, finite."""
    if not isinstance(path, Tensor | Sequence) or isinstance(path, str) or (isinstance(path, Tensor) and path.ndim < 2):
        raise ValueError(f"{caller} needs the states z_0..z_L of a path, a tensor each; got {type(path).__name__}.")
    if len(path) < 2:
        raise ValueError(f"{caller} needs the states z_0..z_L of a path, at least two; got {len(path)}.")
    states = [torch.from_numpy(state.copy()) if isinstance(state, np.ndarray) else state for state in path]
    named: dict[str, Any] = {f"z_{number}": state for number, state in enumerate(states)}
    given(caller, **named)
    shaped: dict[str, Any] = {name: (state, "n *_") for name, state in named.items()}
    real(caller, half=True, numpy=True, **named)
    shapes(caller, **shaped)
    found = sorted({tuple(state.shape) for state in states})
    if len(found) > 1:
        raise ValueError(f"{caller} needs the states of a path in one shape; got {found}: pass one path a segment.")
    finite(caller, **named)
    return [_widened(state) for state in states]


def _action(states: list[Tensor], p: float, step: float | None) -> Tensor:
    moved = [after - before for before, after in pairwise(states)]
    return transport_cost(moved, p=p) / (1 / len(moved) if step is None else step) ** (p - 1)


def _map_cost(states: list[Tensor], p: float) -> Tensor:
    return sum_over_features(states[-1] - states[0], p)
