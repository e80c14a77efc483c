"""Saved weights into a network made anew."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from regimes.errors import UserError

WIDER = {("real", "complex"), ("real", "of 16 bits")}  # kinds of weights that go into a model of the second kind


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], arch: str) -> None:
    """Load weights into a model; ValueError names the architecture and the first mismatch."""
    for name, weight in model.named_parameters():
        if is_lazy(weight):
            raise UserError(f"{name} of {arch} has no shape before its first call: call the network on one batch first")
    present = model.state_dict()
    for name in dict.fromkeys([*present, *weights]):
        came, needed = weights.get(name), present.get(name)
        if needed is None or came is None or came.shape != needed.shape:
            needs, got = ("nothing" if x is None else f"shape {tuple(x.shape)}" for x in (needed, came))
            raise UserError(
                f"the weights do not fit {arch}: {name} needs {needs}, the checkpoint has {got}; "
                "use the architecture and options that it was trained with"
            )
        kind, usual = _kind(came), _kind(needed)
        if kind != usual and (kind, usual) not in WIDER:
            raise UserError(
                f"the weights do not fit {arch}: {name} is {kind} in the checkpoint, and {usual} here; take the file "
                "that the training wrote"
            )
    model.load_state_dict(weights)


def refuse_altered(file: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """UserError where weights that fit the model are none that its own run has saved: of other precision, not finite.

    A run saves finite weights alone, and goes on to the bit from these.
    """
    wrong = None if (odd := odd_weight(model, weights)) is None else f"{odd} in it is NaN or infinite"
    for name, needed in model.state_dict().items():
        if weights[name].dtype != needed.dtype:
            wrong = f"{name} in it is {weights[name].dtype}, not {needed.dtype}"
    if wrong:
        raise UserError(f"{file} was altered: {wrong}; restore the file, or pass --fresh")


def refuse_not_finite(file: Path, model: nn.Module) -> None:
    """UserError where the weights that a file has put into the model are NaN or infinite."""
    if (odd := odd_weight(model, model.state_dict())) is not None:
        raise UserError(
            f"{file} has weights that are NaN or infinite ({odd}): its training has diverged, or the file was altered; "
            "give a checkpoint from before that"
        )


def odd_weight(model: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """The first of a model's weights and buffers that is NaN or infinite; masks, which are buffers, may hold −inf."""
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, weight in weights.items():
        if weight.is_floating_point():
            fine = weight.isfinite() if name in own else weight.isfinite() | (weight == -math.inf)
            if not bool(fine.all()):
                return name
    return None


def _kind(weight: Tensor) -> str:
    if weight.layout is not torch.strided:
        return "sparse"
    if weight.is_complex() or not weight.is_floating_point():
        return "complex" if weight.is_complex() else "integer"
    return "real" if weight.element_size() > 2 else "of 16 bits"
