"""What a field has to be of which rates are measured: a function that moves each state by itself."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from regimes.checks import count, finite, function, given, real, shapes
from regimes.errors import RunFailed, one_line, out_of_memory
from regimes.modules import chance_restored, require_deterministic, require_separate_samples

Field = Callable[[Tensor], Tensor]
CODES = 16  # groups of states, of which any two are told apart by one of four halves
ROUNDING = 1000  # rounding units by which a velocity may change beside other states


def require_field(caller: str, field: Field, z: Tensor, batch_axes: int, *, any_number: bool = False) -> None:
    """Refuse states that are no finite numbers, and a field that is no function of one state at a time.

    The field is called at z: its values have to be finite, of the shape and dtype of z, the same at a second call, and
    those of one state the same beside other states. any_number: another number of states, too, has to be possible
    along the last batch axis, and their places may not matter. ValueError where one of it fails.
    """
    given(caller, field=field)
    function(caller, field=field)
    count(caller, "batch_axes", batch_axes)
    shapes(caller, z=(z, " ".join([f"batch_{axis}" for axis in range(batch_axes)] + ["feature", "*_"])))
    real(caller, z=z)
    finite(caller, z=z)
    if isinstance(field, nn.Module):
        require_deterministic(field, caller)
        any_number = any_number or batch_axes == 1
    with torch.no_grad(), chance_restored():
        moved = velocity(caller, field, z)
        again = velocity(caller, field, z)
    allowed = ROUNDING * torch.finfo(z.dtype).eps * float(moved.abs().amax())
    if not float((again - moved).abs().amax()) <= allowed:
        raise ValueError(f"{caller} needs a field that gives the same each time; two calls at z differ.")
    _require_alone(caller, field, z.detach(), moved, batch_axes, allowed)
    if any_number:
        _require_any_number(caller, field, z.detach(), batch_axes - 1)


def velocity(caller: str, field: Field, z: Tensor) -> Tensor:
    """f(z). ValueError: it is no tensor of the shape and dtype of z, or not finite."""
    moved = field(z.clone())
    if not isinstance(moved, Tensor) or moved.shape != z.shape or moved.dtype != z.dtype:
        got = f"{tuple(moved.shape)} {moved.dtype}" if isinstance(moved, Tensor) else type(moved).__name__
        raise ValueError(
            f"{caller} needs a field of the shape and dtype of the states, {tuple(z.shape)} {z.dtype}; got {got}."
        )
    finite(caller, **{"values of the field": moved})
    return moved


@torch.no_grad()
def _require_alone(caller: str, field: Field, z: Tensor, moved: Tensor, batch_axes: int, allowed: float) -> None:
    """Refuse a field whose value at one state changes with the others, over all batch axes.

    Groups of states are replaced by others; of any two groups, one is replaced without the other.
    """
    number = prod(z.shape[:batch_axes])
    states, values = z.reshape(number, -1), moved.reshape(number, -1)
    turned = states.roll(1, 0)
    others = torch.where((turned == states).all(1, keepdim=True), 2 * states + 1, turned)
    codes = torch.arange(number, device="cpu")
    if number > CODES:
        codes = torch.randint(CODES, (number,), generator=torch.Generator().manual_seed(0), device="cpu")
    with chance_restored():
        for bit in range(CODES.bit_length() - 1):
            half = (codes >> bit & 1 == 1).to(z.device)
            for kept in (half, ~half) if bool(half.any() & ~half.all()) else ():
                found = field(torch.where(kept[:, None], states, others).reshape(z.shape)).reshape(number, -1)
                if not float((found - values)[kept].abs().amax()) <= allowed:
                    raise ValueError(
                        f"{caller} needs a field that maps each sample by itself; here its value at one state changes "
                        "with the other states. Look for sums or means over the axes of the batch."
                    )


def _require_any_number(caller: str, field: Field, z: Tensor, axis: int) -> None:
    """Refuse a field that takes one number of states only, or whose value changes with the place of a state."""

    def by_state(states: Tensor) -> Tensor:
        return field(states.movedim(0, axis)).movedim(axis, 0)

    try:
        require_separate_samples(by_state, z.movedim(axis, 0).contiguous(), caller)
    except RunFailed:
        raise
    except (RuntimeError, IndexError) as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"{caller} needs a field that takes any number of states on axis {axis}; with another number than "
            f"{z.shape[axis]} it fails: {one_line(error)}. For weights of each net give the nets an axis before it."
        ) from error
