"""What an objective is given: outputs and targets that fit together, and a risk that is a mean over samples."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn.functional import cross_entropy

Risk = Callable[[Tensor, Tensor], Tensor]
# Class labels, or numbers of the output's shape.
Targets = Integer[Tensor, "n *place"] | Bool[Tensor, "n *place"] | Float[Tensor, "n *target"]
HALF = (torch.float16, torch.bfloat16)
IGNORED = -100  # the label that torch's cross-entropy leaves out


def refuse_misfit(caller: str, outputs: Tensor, targets: Any) -> None:
    """ValueError unless targets are labels, one for each place of the output, or have the output's own shape.

    Risks broadcast: targets (n,) against outputs (n, 1) would be compared all with all. Reads shapes and dtypes only.
    """
    if not isinstance(targets, Tensor):
        raise ValueError(f"{caller} needs targets as a tensor; got {type(targets).__name__}. Use torch.as_tensor.")
    numbers = targets.is_floating_point() or targets.is_complex()
    labels = (*outputs.shape[:1], *outputs.shape[2:])
    right = targets.shape == outputs.shape or (not numbers and tuple(targets.shape) == labels)
    if not right or outputs.is_complex() or targets.is_complex() or not outputs.is_floating_point():
        kind = "numbers" if numbers else "labels"
        raise ValueError(
            f"{caller} needs targets as labels of shape {labels} (integers), or as numbers of the output's shape "
            f"{tuple(outputs.shape)}; got {kind} of shape {tuple(targets.shape)}, {targets.dtype}, output "
            f"{outputs.dtype}. Reshape them."
        )
    if targets.device != outputs.device:
        raise ValueError(
            f"{caller} needs targets on the device of the output, {outputs.device}; got {targets.device}. Use .to()."
        )
    if targets.dtype == torch.float64 and outputs.dtype != torch.float64:
        raise ValueError(
            f"{caller} needs targets in the precision of the output, {outputs.dtype}; got float64: convert, .float()."
        )


def refuse_labels(caller: str, outputs: Tensor, labels: Tensor) -> None:
    """ValueError for labels out of 0..k−1 (−100 is left out, as by torch). Reads the entries: a card waits for it."""
    out = ((labels < 0) | (labels >= outputs.shape[1])) & (labels != IGNORED)
    if count := int(out.sum()):
        raise ValueError(
            f"{caller} needs class labels 0..{outputs.shape[1] - 1}, as the output has {outputs.shape[1]} classes; "
            f"{count} of {labels.numel()} are not, {int(labels[out][0])} the first. Number the classes from 0."
        )


def risk_of(caller: str, risk: Risk, outputs: Tensor, targets: Any, *, look: bool = False) -> Float[Tensor, ""]:
    """risk(outputs, targets), one number; ValueError in place of what torch says of targets that do not fit.

    Outputs in half precision are widened to float32, so that a risk's gradient times a large λ stays finite on its way.
    Integers of any kind are labels (or, in the output's shape, numbers). look: read the labels beforehand, as on a card
    one out of range ends the process's use of it; later batches, and on a CPU all, are looked at where the risk fails.
    """
    refuse_misfit(caller, outputs, targets)
    labels = not targets.is_floating_point() and outputs.ndim > 1 and targets.shape != outputs.shape
    targets = targets.long() if labels else targets.to(outputs.dtype) if not targets.is_floating_point() else targets
    if look and labels and risk is cross_entropy and not outputs.is_cpu:
        refuse_labels(caller, outputs, targets)
    try:
        value = risk_in_full(risk, outputs, targets)
    except (IndexError, TypeError) as error:
        if labels:
            refuse_labels(caller, outputs, targets)
        raise unfit_risk(caller, "this one", outputs, targets, error) from error
    refuse_many(caller, value)
    return value


def risk_in_full(risk: Risk, outputs: Tensor, targets: Tensor) -> Any:
    """risk(outputs, targets), those of 16 bits widened to float32, in which a square of 300 is not yet infinite."""
    if outputs.dtype in HALF:
        outputs, targets = outputs.float(), targets.float() if targets.is_floating_point() else targets
    return risk(outputs, targets)


def unfit_risk(caller: str, name: str, outputs: Tensor, targets: Tensor, error: Exception) -> ValueError:
    """The error for a risk that does not take these outputs and targets."""
    return ValueError(
        f"{caller} needs a risk that takes outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} of "
        f"{targets.dtype}; {name} ends in: {error}"
    )


def refuse_many(caller: str, value: Any) -> None:
    """ValueError unless a risk has returned one number, as a tensor."""
    if not isinstance(value, Tensor) or value.ndim > 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{caller} needs a risk that is one number, a mean over samples, as a tensor; got {got}.")
