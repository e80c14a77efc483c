"""Whether forward mode, reverse mode and the values of a function belong to one derivative.

Forward mode does not see `torch.no_grad` inside a function, reverse mode does. Neither sees past `detach` and
`inference_mode`. The derivative of each alone looks plausible; one probe on two samples finds it wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad
from torch.func import jvp, vjp
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Tensors = Tensor | Mapping[str, Tensor]

NO_GRAD = (  # what an error says of a derivative that is wrong
    "as it happens where a part of it runs under torch.no_grad or detach. Take that out; for a part of a "
    "model that is not trained, set requires_grad=False on its parameters instead"
)


def push_forward(f: Callable[[Any], Tensor], at: Any, tangent: Any) -> tuple[Tensor, Tensor]:
    """(f(at), Df(at)·tangent), for a tensor or a mapping of tensors.

    Forward-mode derivative where every operation has one, else the transpose of the reverse mode: equal up to rounding.
    It is the reverse mode, too, where a table has a row for padding, which training never moves: forward mode would.
    """
    try:
        value, change = jvp(_without_padding(f), (at,), (tangent,))[:2]
        return value, change
    except NotImplementedError:
        value, pull = vjp(f, at)[:2]
        _, push = vjp(lambda cotangent: pull(cotangent)[0], torch.zeros_like(value))[:2]
        return value, push(tangent)[0]


class _Padding(TorchFunctionMode):
    """Within, a look-up in a table with a row for padding ends in NotImplementedError."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _TABLES:
            padding = kwargs.get("padding_idx", args[2] if func is torch.embedding and len(args) > 2 else None)
            if padding is not None and not (func is torch.embedding and padding < 0):
                raise NotImplementedError("forward mode moves the row for padding")
        return func(*args, **kwargs)


_TABLES = (F.embedding, F.embedding_bag, torch.embedding)


def _without_padding(f: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    if torch.compiler.is_compiling():
        return f

    def watched(at: Any) -> Tensor:
        with _Padding():
            return f(at)

    return watched


def by_backward(value: Tensor, leaves: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], Tensor]:
    """v ↦ J v of a value by its leaves: the derivative of the backward pass u ↦ Jᵀ u, which is linear in u.

    For what torch.func cannot follow. The graph of the value is kept; gradients have to be on when this is called.
    """
    if not value.requires_grad:
        return lambda _: torch.zeros_like(value)
    u = torch.zeros_like(value, requires_grad=True)
    pulled = grad(value, list(leaves), u, create_graph=True, allow_unused=True)
    linear = {place: each for place, each in enumerate(pulled) if each is not None and each.requires_grad}

    def push(tangents: Sequence[Tensor]) -> Tensor:
        if not linear:
            return torch.zeros_like(value).detach()
        along = [tangents[place] for place in linear]
        (pushed,) = grad(list(linear.values()), u, along, retain_graph=True, allow_unused=True)
        return torch.zeros_like(value).detach() if pushed is None else pushed.detach()

    return push


def adjoint(u: Tensors, pushed: Tensors, pulled: Tensors, v: Tensors) -> bool:
    """Whether ⟨u, Jv⟩ = ⟨Jᵀu, v⟩ up to rounding, for pushed = Jv and pulled = Jᵀu of what should be one J.

    With random u and v this holds by chance only if it always holds. Of NaN and infinite products it says nothing:
    True.
    """
    (left, size), (right, other) = _product(u, pushed), _product(pulled, v)
    unit = max(torch.finfo(each.dtype).eps for each in [*_parts(pushed), *_parts(pulled)])
    gap = (left - right).abs()
    return bool((gap <= unit**0.5 * (size + other)) | ~gap.isfinite())


@torch.no_grad()
def require_gradients(
    f: Callable[[Any], Tensor], at: Any, gradients: Any, caller: str, *, cure: str | None = None
) -> None:
    """Refuse a function that moves with a tensor whose gradient, of a random product with the output, is 0 throughout.

    Small steps both ways along a random direction. A function that moves by as much with one step as it fails to move
    back with the other has a kink or a jump there, where 0 is the derivative by convention.
    """
    if isinstance(at, Mapping):
        blind = [name for name, each in gradients.items() if each.numel() and not bool(each.any())]
        if len(blind) > 1 and not _moves(f, at, blind):
            return
        moved = [f"the parameter {name!r}" for name in blind if _moves(f, at, [name])][:1]
    else:
        moved = ["its input"] * (not bool(gradients.any()) and _moves(lambda each: f(each["x"]), {"x": at}, ["x"]))
    if moved:
        raise ValueError(
            f"{caller} needs a function that its derivative describes; here it moves with {moved[0]}, whose gradient "
            f"is 0, {cure or NO_GRAD}."
        )


def _moves(f: Callable[[Any], Tensor], at: Mapping[str, Tensor], names: list[str]) -> bool:
    """Whether f has a slope along a random direction of the named tensors, by central differences."""
    source = torch.Generator().manual_seed(1)
    steps: dict[str, Tensor] = {}
    for name in names:
        size = at[name].abs().amax()
        step = torch.finfo(at[name].dtype).eps ** (1 / 3) * torch.where(size > 0, size, 1.0)
        steps[name] = step * random_like(at[name], source)
    here, up, down = (
        f({**at, **{name: at[name] + sign * step for name, step in steps.items()}}) for sign in (0, 1, -1)
    )
    slope, bend = (up - down).abs().amax(), (up + down - 2 * here).abs().amax()
    rounding = 100 * torch.finfo(here.dtype).eps * here.abs().amax()
    return bool((slope > rounding) & (bend < slope / 4))


def random_like(like: Any, source: torch.Generator) -> Any:
    """Standard normal entries in the shape, dtype and place of a tensor or of a mapping of tensors."""
    if isinstance(like, Mapping):
        return {name: random_like(each, source) for name, each in like.items()}
    dtype = torch.complex128 if like.is_complex() else torch.float32 if like.dtype == torch.float32 else torch.float64
    return torch.randn(like.shape, generator=source, dtype=dtype, device=source.device).to(like)


def _parts(tensors: Tensors) -> list[Tensor]:
    return list(tensors.values()) if isinstance(tensors, Mapping) else [tensors]


_SQUARED = (1e-15, 1e15)  # norms whose products float32 holds with all digits


def _product(one: Tensors, other: Tensors) -> tuple[Tensor, Tensor]:
    """Re⟨one, other⟩, and the norm of one times that of the other, which bounds its rounding; both as float64.

    Each tensor's part is added up as `_dot` does; in float64 if it is too large or too small for float32.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        one = {name: one[name] for name in other}
    pairs = [(_real(a.reshape(-1)), _real(b.reshape(-1))) for a, b in zip(_parts(one), _parts(other), strict=True)]
    sizes = torch.stack([torch.stack([_norm(a), _norm(b)]) for a, b in pairs])
    fit = ((sizes > _SQUARED[0]) & (sizes < _SQUARED[1])).all(1).tolist()
    products = torch.zeros_like(sizes[0])
    for (a, b), size, plain in zip(pairs, sizes, fit, strict=True):
        wide = (a, b) if plain else (a.double(), b.double())
        size = size.prod() if plain else _norm(wide[0]) * _norm(wide[1])
        products += torch.stack([_dot(*wide), size])
    return products[0], products[1]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """a·b, added up in float64 from chunks that float32 adds up well: a copy in float64 takes longer than all else."""
    chunks = zip(a.split(2**14), b.split(2**14), strict=True)
    parts = [torch.dot(*map(_single, each)).double() for each in chunks]
    return torch.stack(parts).sum() if len(a) else torch.zeros((), dtype=torch.float64, device=a.device)


def _norm(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a, dtype=_single(a[:0]).dtype).double()


def _single(values: Tensor) -> Tensor:
    """The values, those of 16 bits in float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _real(values: Tensor) -> Tensor:
    return torch.view_as_real(values).reshape(-1) if values.is_complex() else values
