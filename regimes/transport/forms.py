"""How risk, transport cost and the multiplier λ make one number, and the names of the choices."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.modules.targets import Risk
from regimes.transport.energy import Convention, mean_over_features, sum_over_features

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def divided(risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """risk + transport/λ: the objective divided by λ, steps of one size. Source: author code of [Karkar2020], 2020."""
    return risk + transport / multiplier


def multiplied(risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """transport + λ·risk: the method of multipliers as written. Source: [Karkar2020] section 3, author code of 2019."""
    return transport + multiplier * risk


def risk_only(risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """λ·risk: the control that takes the multiplier's larger steps and leaves the transport out."""
    return multiplier * risk


FORMS: dict[str, Form] = {"divided": divided, "multiplied": multiplied, "risk_only": risk_only}
RISKS: dict[str, Risk] = {"cross_entropy": cross_entropy}
CONVENTIONS: dict[str, Convention] = {
    "mean_over_features": mean_over_features,
    "sum_over_features": sum_over_features,
}


def combined(form: Form, risk: Tensor, transport: Tensor, multiplier: Tensor) -> Tensor:
    """form(risk, C, λ) in float32 at least: in float16 a λ above 65,504 is infinite, and C/λ is lost far below."""
    wide = torch.promote_types(torch.promote_types(risk.dtype, transport.dtype), torch.float32)
    return form(risk.to(wide), transport.to(wide), multiplier.to(wide))


def chosen(caller: str, what: str, given: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """A function, or the one of that name; ValueError lists the names."""
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str) or not callable(given):
        raise ValueError(f"{caller} needs {what} as one of {', '.join(known)}, or a function; got {given!r}.")
    return given
