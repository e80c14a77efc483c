"""What the start of an integration has to be."""

import math
from typing import Any

import torch
from torch import Tensor

from regimes.checks import finite, kind, real, shapes
from regimes.control.state import IntegratorState


def require_start(state: tuple[Tensor, ...], rtol: float | Tensor, atol: float | Tensor) -> None:
    """Refuse a start that is no tuple of finite tensors over the same runs, at least one, and impossible tolerances."""
    if not isinstance(state, tuple) or not state:
        raise ValueError(f"integrate needs the state as a tuple of tensors; got {type(state).__name__}. Pass (z,).")
    parts = {f"state[{number}]": part for number, part in enumerate(state)}
    cure = "The first axis of each tensor is that of the runs, at least one"
    runs = shapes("integrate", cure=cure, optional=(), **{name: (part, "runs *_") for name, part in parts.items()})[
        "runs"
    ]
    real("integrate", half=False, numpy=False, **parts)
    finite("integrate", **parts)
    for value, low in ((rtol, 0.0), (atol, torch.finfo(torch.float64).tiny)):
        try:
            given = torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            given = torch.tensor(math.nan)
        if tuple(given.shape) not in ((), (runs,)) or not bool(((given >= low) & (given < math.inf)).all()):
            raise ValueError(
                "integrate needs tolerances rtol >= 0, atol > 0, finite, one or one for each of the "
                f"{runs} runs; got rtol={rtol}, atol={atol}. Pass 1e-6, 1e-9."
            )


def require_velocity(slopes: tuple[Tensor, ...], state: tuple[Tensor, ...]) -> None:
    """Refuse a velocity that is not of the shapes and dtypes of the state: sums would spread it over the state."""
    if not isinstance(slopes, tuple | list) or not all(isinstance(part, Tensor) for part in slopes):
        raise ValueError(f"integrate needs a velocity that returns a tuple of tensors; got {type(slopes).__name__}.")
    needed, got = ([(tuple(part.shape), part.dtype) for part in each] for each in (state, slopes))
    if needed != got:
        raise ValueError(f"integrate needs a velocity of the shapes and dtypes of the state, {needed}; got {got}.")


def require_course(after: Any, state: tuple[Tensor, ...]) -> None:
    """Refuse what is no course, and that of a state of other shapes or dtypes."""
    kind("integrate", "after", after, IntegratorState, "the course of a solution, moment.course")
    needed, got = ([(tuple(part.shape), part.dtype) for part in each] for each in (state, after.parts))
    if needed != got:
        raise ValueError(
            f"integrate needs after as the course of a state of these shapes and dtypes, {needed}; got {got}. "
            "Pass the same start as there."
        )


def require_event(stopped: Any, runs: int) -> Tensor:
    """What an event returned, if it is one true or false for each run."""
    shapes("integrate", until=(stopped, str(runs)), cure="An event gives one true or false for each run")
    kind("integrate", "what until returns", stopped, Tensor, "a tensor of true and false")
    if stopped.dtype != torch.bool:
        raise ValueError(f"integrate needs until to return true or false; got {stopped.dtype}. Compare, as in f < 0.1.")
    return stopped
