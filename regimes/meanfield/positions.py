"""Positions of particles: a tensor (runs, m, *feature), or tuples, named tuples, lists and dicts of such tensors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from regimes.checks import alike, finite, real, shapes

Position = Tensor | tuple | list | dict


def leaves(position: Any) -> list[Any]:
    """Its tensors, in the order in which they stand; a dict in the order of its keys' insertion."""
    if isinstance(position, dict):
        return [leaf for part in position.values() for leaf in leaves(part)]
    if isinstance(position, tuple | list):
        return [leaf for part in position for leaf in leaves(part)]
    return [position]


def rebuild(position: Position, parts: Sequence[Tensor]) -> Any:
    """A position of the same structure with other tensors, which come in the order of `leaves`."""
    return _filled(position, iter(parts))


def each(function: Callable[..., Tensor], position: Position, *others: Position) -> Any:
    """The function of every tensor, together with the tensors of the others that stand in the same place."""
    _same("each", position, *others)
    return rebuild(
        position, [function(*row) for row in zip(*map(_ordered(position), (position, *others)), strict=True)]
    )


def points_of(position: Position) -> tuple[int, int]:
    """The numbers of runs and of particles."""
    first = leaves(position)[0]
    return first.shape[0], first.shape[1]


def square_norms(position: Position) -> Tensor:
    """|θ|² of every particle (runs, m): the sum over all entries of all tensors."""
    squares = (part.flatten(2).square().sum(2) if part.ndim > 2 else part.square() for part in leaves(position))
    return torch.stack(list(squares)).sum(0)


def spread(position: Position, runs: int) -> Any:
    """The same points for each of so many runs, where they are given for one."""
    return each(lambda part: part.expand(runs, *part.shape[1:]), position)


def require_position(
    caller: str, name: str, position: Any, *, like: Position | None = None, runs: int | None = None
) -> dict[str, int]:
    """Refuse what is no position, with the sizes of runs and m.

    Its tensors have to be real, finite, of one precision on one device, with the same runs and m. `like`: another
    position, of which it has to have the structure, the features, the precision and the device.
    """
    parts = [part for part in leaves(position) if isinstance(part, Tensor)]
    strange = [part for part in leaves(position) if not isinstance(part, Tensor)]
    if strange or not parts:
        got = type(strange[0]).__name__ if strange else "nothing"
        raise ValueError(
            f"{caller} needs {name} as a tensor (runs, m, *feature), or tuples and dicts of such; got {got} in it. "
            "Use torch.as_tensor."
        )
    named: dict[str, Any] = {
        name if len(parts) == 1 else f"{name}[{number}]": part for number, part in enumerate(parts)
    }
    cure = "The first axis is that of the runs, the second that of the particles"
    specs: dict[str, Any] = {key: (part, f"{runs or 'runs'} m *_") for key, part in named.items()}
    sizes = shapes(caller, cure=cure, **specs)
    real(caller, **named)
    alike(caller, **named)
    finite(caller, **named)
    if like is not None:
        _same(caller, like, position)
        rows = zip(named.items(), _ordered(like)(like), _ordered(like)(position), strict=True)
        for (key, _), other, part in rows:
            if part.shape[2:] != other.shape[2:]:
                raise ValueError(
                    f"{caller} needs {key} (runs, m, *{tuple(other.shape[2:])}), as the positions of the measure; "
                    f"got {tuple(part.shape)}. Pass points of the same kind."
                )
        alike(caller, **{name: parts[0], "positions": leaves(like)[0]})
    return {"runs": parts[0].shape[0], **sizes}


def _filled(position: Position, parts: Iterator[Tensor]) -> Any:
    if isinstance(position, dict):
        return {key: _filled(part, parts) for key, part in position.items()}
    if isinstance(position, tuple | list):
        filled = [_filled(part, parts) for part in position]
        return getattr(type(position), "_make", type(position))(filled)
    return next(parts)


def _shape(position: Any) -> Any:
    """The structure without the tensors; dicts alike whatever the order of their keys."""
    if isinstance(position, dict):
        return {key: _shape(part) for key, part in position.items()}
    if isinstance(position, tuple | list):
        return [_shape(part) for part in position]
    return None


def _same(caller: str, first: Position, *others: Position) -> None:
    for other in others:
        if _shape(other) != _shape(first):
            raise ValueError(
                f"{caller} needs positions of one structure; got {_described(first)} and {_described(other)}. "
                "Use the same tuples and keys."
            )


def _described(position: Any) -> str:
    if isinstance(position, dict):
        return "{" + ", ".join(f"{key}: {_described(part)}" for key, part in position.items()) + "}"
    if isinstance(position, tuple | list):
        return "(" + ", ".join(map(_described, position)) + ")"
    return "tensor" if isinstance(position, Tensor) else type(position).__name__


def _ordered(like: Position) -> Callable[[Position], list[Tensor]]:
    """`leaves`, with the keys of dicts in the order in which they stand in `like`."""

    def read(form: Position, position: Any) -> list[Tensor]:
        if isinstance(form, dict):
            return [leaf for key, part in form.items() for leaf in read(part, position[key])]
        if isinstance(form, tuple | list):
            return [leaf for part, other in zip(form, position, strict=True) for leaf in read(part, other)]
        return [position]

    return lambda position: read(like, position)
