"""The map T that a segment of residual blocks makes between states: what is to be compared with optimal transport."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regimes.checks import finite, kind
from regimes.errors import one_line, out_of_memory
from regimes.models.recording import chains
from regimes.models.residual import ResidualNet, cloud
from regimes.models.tracing import TracedModel
from regimes.modules import require_batch, require_deterministic, unwrapped

CLOSE = 1e-4  # relative distance to which the map, run again on its starting states, must give the traced end


class StateMap(NamedTuple):
    """Two clouds of n states in one space, the map from one to the other, and the states on the way.

    For `regimes.ot_gap(m.start, m.transport_map, path=m.path)`.
    """

    start: Tensor
    end: Tensor
    transport_map: Callable[[Tensor], Tensor]
    path: tuple[Tensor, ...]


@torch.no_grad()
def state_map(model: nn.Module, x: Tensor, *, segment: int = 0) -> StateMap:
    """The map T of one segment of a residual model, and its states on the inputs x, detached.

    model: a `ResidualNet`, or what `trace_residuals` returns, in eval mode. A first block with a shortcut comes from
    another space: T is the blocks after it. ValueError where blocks are no map of the state alone, or where the segment
    has no block within its space.
    """
    require_deterministic(model, "state_map")
    require_batch("state_map", x)
    finite("state_map", x=x)
    kind("state_map", "segment", segment, int, "a whole number")
    model = unwrapped(model)
    if isinstance(model, TracedModel) and isinstance(model.own, ResidualNet):
        model = model.own
    if isinstance(model, ResidualNet):
        own = model.segment(segment)
        if not own.maps():
            raise ValueError(
                f"segment {segment} only changes the space: it has no block within it. Choose another one."
            )
        return _made(cloud(_run(lambda: model(x, trace=True), x), model, segment), own.transport, segment)
    if not isinstance(model, TracedModel):
        raise ValueError(
            f"state_map needs a ResidualNet, or trace_residuals(model, blocks=...); got {type(model).__name__}."
        )
    found = chains(_run(lambda: model.calls(x), x)[1])
    if not -len(found) <= segment < len(found):
        raise ValueError(f"the model has {len(found)} segments, numbered from 0; got {segment}. Choose one of these.")
    inside = [call for call in found[segment] if not call.enters]
    if not inside:
        raise ValueError(f"segment {segment} only changes the space: it has no block within it. Choose another one.")
    path = (inside[0].start, *(call.end for call in inside))
    blocks = [model.own.get_submodule(call.name) for call in inside]
    return _made(path, _composed(blocks), segment)


def _run(call: Callable[[], Any], x: Tensor) -> Any:
    try:
        return call()
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"state_map needs inputs that the model takes; {tuple(x.shape)} of {x.dtype} ends in: "
            f"{one_line(error, 100)}. Reshape or convert them."
        ) from None


def _composed(blocks: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    def transport_map(z: Tensor) -> Tensor:
        for block in blocks:
            z = block(z)
        return z

    return transport_map


def _made(path: Sequence[Tensor], transport_map: Callable[[Tensor], Tensor], segment: int) -> StateMap:
    start, end = path[0].detach(), path[-1].detach()
    try:
        again = transport_map(start)
        distance = (again - end).norm() / end.norm().clamp(min=torch.finfo(end.dtype).tiny)
    except (TypeError, RuntimeError, AttributeError) as error:
        if out_of_memory(error):
            raise
        reason = one_line(error, 100)
        raise ValueError(f"the blocks of segment {segment} are no map of the state alone: {reason}.") from None
    if not bool(distance <= CLOSE):
        raise ValueError(
            f"the blocks of segment {segment}, run again on their first state, end elsewhere (relative distance "
            f"{float(distance):.2g}): they depend on more than the state, or something acts between them."
        )
    return StateMap(start, end, transport_map, tuple(state.detach() for state in path))
