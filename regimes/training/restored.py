"""Whether a state that was read is one that this training can have come to; ValueError says what is not."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from regimes.errors import UserError, one_line, out_of_memory, shown

MOVING = ("params", "lr")  # of a group of weights: no settings
NOT_NEGATIVE = ("exp_avg_sq", "max_exp_avg_sq")  # means of squares, which may overflow; a step is then 0
ROUNDING = 1 + 1e-9


def refuse_unlike_optimiser(optimiser: Optimizer, held: Mapping[str, Any]) -> None:
    """ValueError unless settings are those of the optimiser, and its tensors have the shapes of their weights.

    torch takes others as they are: it would step with them, and read beyond the end of those that are too small.
    """
    numbers = [group["params"] for group in optimiser.state_dict()["param_groups"]]
    for group, own, places in zip(held["param_groups"], optimiser.param_groups, numbers, strict=True):
        for name in own:
            if name in group and name not in MOVING and _plain(group[name]) != _plain(own[name]):
                raise ValueError(f"{name} of its optimiser is {shown(group[name])}, and {shown(own[name])} here")
        least, most = 0, own.get("initial_lr", own["lr"]) * ROUNDING
        if not _number(group["lr"]) or not least <= group["lr"] <= most:
            raise ValueError(f"the learning rate in it is {shown(group['lr'])}, not one from 0 to {most:g}")
        if group["params"] != places or any(type(place) is not int for place in group["params"]):
            raise ValueError("its optimiser numbers its weights in another way")
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for number, moments in held["state"].items():
        for name, value in moments.items():
            if value is not None and (wrong := _odd_moment(name, value, weights[number])):
                raise ValueError(f"{name} of weight {number} in its optimiser {wrong}")


def refuse_unlike_schedule(schedule: LRScheduler, held: Mapping[str, Any], epoch: int) -> None:
    """ValueError unless a schedule stands at this epoch, and starts from the same learning rates."""
    own = schedule.state_dict()
    for name, needed in {**own, "last_epoch": epoch, "_step_count": epoch + 1}.items():
        if name in held and name != "_last_lr" and _plain(held[name]) != _plain(needed):
            raise ValueError(f"{name} of its schedule is {shown(held[name])}, and {shown(needed)} here")


def refuse_unlike_objective(own: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """ValueError unless the numbers of an objective are of their kinds: no NaN, none negative, counts whole."""
    for name, needed in own.items():
        value = held.get(name, needed)  # earlier versions kept less
        if isinstance(needed, Tensor):
            same = isinstance(value, Tensor) and value.shape == needed.shape and value.dtype == needed.dtype
            good = same and not bool(value.isnan().any()) and bool((value >= 0).all())
        else:
            good = _count(value)
        if not good:
            raise ValueError(f"{name} of its objective is {shown(value)}")


def refuse_misplaced(held: Mapping[str, Any], steps: int, total: int) -> int:
    """The steps that a state has seen; ValueError unless they are of a run of `total`, an epoch being `steps`."""
    epoch, step = held["epoch"], held["step"]
    if step >= steps:
        raise ValueError(f"state.step is {shown(step)}, and an epoch has {steps} steps, from 0")
    done = epoch * steps + step
    if done > total:
        raise ValueError(f"state.epoch is {shown(epoch)} and state.step {step}: {total} steps are the whole run")
    count = held["objective"].get("count", done)
    if count != done:
        raise ValueError(f"count of its objective is {shown(count)}, after {done} steps")
    for moments in held["optimizer"]["state"].values():
        if not 0 <= float(moments.get("step", 0)) <= done:
            raise ValueError(f"step of its optimiser is {shown(float(moments['step']))}, after {done} steps")
    return done


def refuse_odd_sums(sums: Mapping[str, Any], needed: Mapping[str, Any], done: int) -> None:
    """ValueError unless the sums of an epoch under way are finite, of the kinds of those needed, and of steps done."""
    for name, own in needed.items():
        value = sums.get(name, own)  # earlier versions kept less
        if isinstance(own, Tensor):
            same = isinstance(value, Tensor) and value.shape == own.shape and value.dtype == own.dtype
            good = same and bool(value.isfinite().all())
        elif isinstance(own, list):
            good = isinstance(value, list) and all(one in own for one in value)
        else:
            good = _count(value) if isinstance(own, int) else _number(value) and value >= 0
        if not good:
            raise ValueError(f"{name} of its sums is {shown(value)}")
    if sums.get("steps", 0) > done:
        raise ValueError(f"steps of its sums is {shown(sums['steps'])}, after {done} steps")


@contextmanager
def misfits_told(file: Path) -> Iterator[None]:
    """What does not fit is a UserError that names the file; a full memory passes through."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        unfit = UserError(f"{file} does not fit this run ({one_line(error)}); restore it, or pass --fresh")
        raise error if out_of_memory(error) else unfit from None


def _odd_moment(name: str, value: Any, weight: Tensor) -> str | None:
    """What is wrong with a tensor that the optimiser keeps of a weight; None where it is as it should be."""
    if not isinstance(value, Tensor):
        return f"is {shown(value)}, not a tensor"
    if name == "step":
        good = value.ndim == 0 and bool(value >= 0) and math.isfinite(float(value))
        return None if good else f"is {shown(value)}, not a number of steps"
    if value.shape != weight.shape or value.dtype != weight.dtype:
        return f"is {value.dtype} of shape {tuple(value.shape)}, not {weight.dtype} of shape {tuple(weight.shape)}"
    good = (value >= 0) if name in NOT_NEGATIVE else value.isfinite()
    return None if bool(good.all()) else f"is NaN{' or negative' if name in NOT_NEGATIVE else ' or infinite'}"


def _plain(value: Any) -> Any:
    """A value that equals others of its kind alone: True is not 1."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else (isinstance(value, bool), value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
