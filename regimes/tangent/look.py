"""One look at a model on two samples: whether its derivatives are what training sees, and how they can be taken."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vjp

from regimes.conventions import Params
from regimes.errors import first_line, out_of_memory
from regimes.modules import (
    NO_GRAD,
    PLACES,
    adjoint,
    called,
    copied,
    push_forward,
    random_like,
    require_gradients,
    require_registered,
)
from regimes.tangent.finite import require_finite
from regimes.tangent.functional import Functional, trainable
from regimes.tangent.plain import Plain


class Derivatives(NamedTuple):
    """Which ways lead to the derivatives of a model; plain autograd in reverse mode always does."""

    transforms: bool  # torch.func follows the model in reverse mode
    forward: bool  # by the same way as the reverse mode, J times a vector can be had
    reason: str  # why not


def look(f: Functional, params: Params, plain: Plain, x: Tensor, caller: str) -> Derivatives:
    """Compare the derivatives by plain autograd, torch.func in reverse and in forward mode, for one random pair u, v.

    ValueError: trained tensors that are not registered, or are read from another place than their own; derivatives that
    are not finite; a forward mode that differs from the reverse mode; an output that moves with a parameter whose
    gradient is 0; a backward pass that fails.
    """
    few, source = x[:2].detach(), torch.Generator().manual_seed(0)
    u, gradients = _reverse(plain, few, source, caller)
    v = {name: _random_bytes(each, source) for name, each in params.items()}
    require_finite(caller, {f"parameter {name!r}": value for name, value in gradients.items()})
    found = _by_transforms(f, params, plain, few, u, v, gradients, caller)
    if not found.transforms:
        _require_one_place(plain, few, u, gradients, caller)
        try:
            pushed = plain.push(few, v)[1]
            found = found._replace(forward=adjoint(u, pushed, gradients, v), reason="it cannot be differentiated twice")
        except Exception as error:
            if out_of_memory(error):
                raise
            found = found._replace(reason=first_line(error))
    still = lambda values: _evaluated(plain.model, f, _padding_kept(plain.model, values, params), few)  # noqa: E731
    require_gradients(still, params, gradients, caller)
    return found


def _reverse(plain: Plain, few: Tensor, source: torch.Generator, caller: str) -> tuple[Tensor, Params]:
    """A random cotangent u of the few samples, and Jᵀu by plain autograd.

    It comes from a batch of four in which each sample has other places and neighbours than among the few, so that one
    comparison with a gradient of these sees what depends on the place, too.
    """
    places = torch.arange(3, -1, -1, device=few.device) % len(few)
    u = few.new_empty(0)

    def cotangent(value: Tensor, leaves: Params) -> Tensor:
        nonlocal u
        again = lambda: called(plain.model, few.clone(), caller)  # noqa: E731
        require_registered(value, leaves.values(), plain.model, caller, again)
        u = random_like(value[: len(few)], source)
        parts = torch.tensor([1, 3, 3, 1], dtype=u.dtype, device=u.device) * (len(few) / 8)  # of a sample add up to 1
        return u[places] * parts.view(-1, *[1] * (u.ndim - 1))

    try:
        gradients = plain.pull(few[places], cotangent)[1]
    except Exception as error:
        if isinstance(error, ValueError) or out_of_memory(error):
            raise
        raise ValueError(
            f"{caller} needs a model that autograd can differentiate; its backward pass ends in: {first_line(error)}"
        ) from error
    return u, gradients


def _random_bytes(like: Tensor, source: torch.Generator) -> Tensor:
    """Random whole numbers of a byte each: a draw gives eight of them, where normal ones take longer than a pass."""
    size = like.numel() * (2 if like.is_complex() else 1)
    drawn = torch.randint(-(2**63), 2**63 - 1, (size // 8 + 1,), generator=source, device=source.device)
    numbers = drawn.view(torch.int8)[:size].to(like.device, like.dtype.to_real())
    return torch.view_as_complex(numbers.view(-1, 2)).view(like.shape) if like.is_complex() else numbers.view_as(like)


def _require_one_place(plain: Plain, few: Tensor, u: Tensor, gradients: Params, caller: str) -> None:
    """Refuse a model by whose gradient one sample counts otherwise at another place of the batch.

    Its value may be the same at all places, as with a parameter for each place that starts at 0.
    """
    alone = plain.pull(few, lambda *_: u)[1]
    if differing(gradients, alone, u.dtype) is None:
        return
    for name, module in plain.model.named_modules():
        if getattr(module, "scale_grad_by_freq", False):
            raise ValueError(
                f"{caller} needs derivatives; layer {name!r} ({type(module).__name__}) divides its gradient by how "
                "often an index comes in the batch, which is no derivative. Set its scale_grad_by_freq = False."
            )
    raise ValueError(f"{caller} needs a model that maps each sample by itself; {PLACES}")


def _by_transforms(
    f: Functional, params: Params, plain: Plain, few: Tensor, u: Tensor, v: Params, gradients: Params, caller: str
) -> Derivatives:
    if scripted(plain.model):
        return Derivatives(False, False, "torch.func does not follow modules of torch.jit")
    try:
        with torch.inference_mode(False), torch.enable_grad():
            value, pull = vjp(lambda values: f(values, few), params)[:2]
            pulled = pull(u)[0]
            constant = f(params, few[:1])
    except Exception as error:
        if out_of_memory(error):
            raise
        return Derivatives(False, False, first_line(error))
    with torch.inference_mode(False), torch.enable_grad():
        require_registered(constant, (), plain.model, caller, lambda: f(params, few[:1]))
    odd = differing(pulled, gradients, value.dtype)
    if odd is not None:
        _require_one_place(plain, few, u, gradients, caller)
    if odd is not None and trainable(plain.model)[odd]._backward_hooks:
        raise ValueError(
            f"{caller} needs derivatives; a hook on the parameter {odd!r} changes its gradient. Take the hook off (the "
            "handle that register_hook gave has remove())."
        )
    if odd is not None:
        raise ValueError(
            f"{caller} needs a model that reads its registered parameters in each call; here the gradient of {odd!r} "
            "changes where values are put in for it, so a copy of it is used elsewhere. Read the parameter itself in "
            "forward."
        )
    try:
        with torch.inference_mode(False), torch.enable_grad():
            pushed = push_forward(lambda values: f(values, few), params, v)[1]
    except Exception as error:
        if out_of_memory(error):
            raise
        return Derivatives(True, False, first_line(error))
    if not adjoint(u, pushed, gradients, v):
        raise ValueError(
            f"{caller} needs a model with one derivative; here forward and reverse mode differ, {NO_GRAD}."
        )
    return Derivatives(True, True, "")


def differing(one: Params, other: Params, dtype: torch.dtype) -> str | None:
    """The first name whose two gradients are not the same up to rounding: in `dtype`, or coarser if they are."""
    unit = max(torch.finfo(each).eps for each in (dtype, *(gradient.dtype for gradient in other.values())))
    sizes = {name: each.norm() for name, each in other.items()}
    whole = torch.stack([each.double() for each in sizes.values()]).norm()
    for name, each in other.items():
        gap = (one[name].to_dense() - each).norm()
        if not bool((gap <= unit**0.5 * sizes[name] + 1000 * unit * whole) | ~gap.isfinite()):
            return name
    return None


def _evaluated(model: nn.Module, f: Functional, values: Params, x: Tensor) -> Tensor:
    if not scripted(model):
        with torch.enable_grad():  # some take a gradient inside
            return f(values, x).detach()
    other = copied(model)
    for name, tensor in other.named_parameters():
        if name in values:
            tensor.copy_(values[name])
    return called(other, x.clone(), "the tangent model")


def _padding_kept(model: nn.Module, values: Params, params: Params) -> Params:
    """The values, with the rows for padding as they are among the parameters: training never moves them."""
    kept = dict(values)
    for name, module in model.named_modules():
        table, row = f"{name}.weight" if name else "weight", getattr(module, "padding_idx", None)
        if row is not None and table in kept and kept[table] is not params[table]:
            kept[table] = kept[table].clone()
            kept[table][row] = params[table][row]
    return kept


def scripted(model: nn.Module) -> bool:
    """Whether a part of it comes from torch.jit."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
