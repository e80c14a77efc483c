"""The samples of a caller's own, checked against each other, against the network and against the risk."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regimes.checks import finite, shapes
from regimes.data.classification import Labelled
from regimes.errors import UserError, out_of_memory, users_choice
from regimes.models.residual import as_trace
from regimes.modules.modes import eval_mode
from regimes.modules.samples import require_dense
from regimes.modules.targets import Risk, refuse_many, refuse_misfit, risk_in_full, unfit_risk

Pair = tuple[Tensor, Tensor]
SHOWN = 32  # samples that the model is shown before training
MEAN = 1e-3  # relative: what rounding in float32 may make of a mean over parts; in 16 bits 8 units of theirs


class CallerSamples(NamedTuple):
    """The caller's samples."""

    train: Labelled
    validation: Labelled | None
    test: Labelled | None
    classes: int  # 0 where targets are no class labels
    shape: tuple[int, ...]


def checked(
    model: nn.Module, risk: Risk, target: float | None, train: Pair, validation: Pair | None, test: Pair | None
) -> CallerSamples:
    """The samples, each part checked against the first and against what the model makes of some of them."""
    parts: dict[str, Labelled | None] = {}
    for name, pair in (("train", train), ("validation", validation), ("test", test)):
        if pair is None:
            parts[name] = None
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
            got = type(pair).__name__
            if isinstance(pair, tuple | list):
                got += f" of {', '.join(type(part).__name__ for part in pair[:3]) or 'nothing'}"
            raise UserError(f"fit needs {name} as a pair of tensors (inputs, targets); got {got}. Use torch.as_tensor.")
        x, y = pair
        require_dense(f"fit: {name}", "inputs", x)
        require_dense(f"fit: {name}", "targets", y)
        shapes(f"fit: {name}", inputs=(x, "n *feature"), targets=(y, "n *target"))
        finite(f"fit: {name}", inputs=x, targets=y)
        labels = y.detach() if y.is_floating_point() or y.is_complex() else y.detach().long()
        parts[name] = Labelled(x.detach(), labels)
    first = parts["train"]
    assert first is not None
    labels = not first.labels.is_floating_point() and first.labels.ndim == 1
    for name, part in parts.items():
        if part is None:
            continue
        for what, given, of in (("inputs", part.x, first.x), ("targets", part.labels, first.labels)):
            if (given.shape[1:], given.dtype) != (of.shape[1:], of.dtype):
                raise UserError(
                    f"fit needs {name} {what} like those of train, {tuple(of.shape[1:])} of {of.dtype}; got "
                    f"{tuple(given.shape[1:])} of {given.dtype}."
                )
    with eval_mode(model), torch.no_grad():
        weight = next(model.parameters(), None)
        if weight is None:
            raise UserError("fit needs a model with weights to train; this one has none.")
        if not any(weight.requires_grad for weight in model.parameters()):
            raise UserError(
                "fit needs a model with weights to train; all of this one have requires_grad=False. "
                "Set it to True for those to train."
            )
        some = _spread(first.labels)
        shown = first.x[some].to(weight.device)  # a copy, as a model may write to its input
        if shown.is_floating_point() and shown.dtype != weight.dtype:
            raise UserError(
                f"fit needs inputs of the model's precision, {weight.dtype}; got {shown.dtype}: convert one of the two."
            )
        try:
            outputs = as_trace(model(shown)).output
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise UserError(
                f"fit needs inputs that the model takes; some of them, {tuple(shown.shape)} of {shown.dtype}, end in: "
                f"{error}"
            ) from error
    if not isinstance(outputs, Tensor):
        raise UserError(f"fit needs a model that returns one tensor; got {type(outputs).__name__}: pass output=.")
    finite("fit", **{"outputs of the model before training": outputs})
    targets = first.labels[some].to(outputs.device)
    refuse_misfit("fit", outputs, targets)
    classes = 0
    if labels and outputs.ndim == 2:
        classes = outputs.shape[1]
        for name, part in parts.items():
            if part is not None and not 0 <= int(part.labels.min()) <= int(part.labels.max()) < classes:
                raise UserError(
                    f"fit needs class labels 0..{classes - 1}, as the model has {classes} outputs; {name} has "
                    f"{int(part.labels.min())}..{int(part.labels.max())}."
                )
    elif risk is cross_entropy and first.labels.is_floating_point() and bool((first.labels < 0).any()):
        raise UserError(
            "cross_entropy needs class labels or probabilities; got negative numbers: pass risk=, mse_loss say."
        )
    if target is not None and (validation is None or not classes):
        raise UserError(
            "target is an accuracy on validation samples: pass validation= with class labels, or leave it out."
        )
    _refuse_no_mean(risk, outputs, targets)
    return CallerSamples(first, parts["validation"], parts["test"], classes, tuple(first.x.shape[1:]))


def _spread(labels: Tensor) -> Tensor:
    """Places of at most SHOWN samples, evenly spread: class labels from the least to the largest."""
    order = torch.argsort(labels, stable=True) if labels.ndim == 1 else torch.arange(len(labels), device=labels.device)
    places = torch.linspace(0, len(order) - 1, min(SHOWN, len(order)), dtype=torch.float64)
    return order[places.round().long().to(order.device)]


def _refuse_no_mean(risk: Risk, outputs: Tensor, targets: Tensor) -> None:
    """UserError where a risk does not take these outputs and targets, or is not the mean of its values on two parts."""
    n = len(outputs)
    cuts = sorted({cut for cut in (1, n // 8, n // 4, n - n // 8, n - 1) if 0 < cut < n})
    try:
        whole = risk_in_full(risk, outputs, targets)
        doubled = risk_in_full(risk, torch.cat([outputs, outputs]), torch.cat([targets, targets]))
        pairs = [
            [risk_in_full(risk, outputs[part], targets[part]) for part in (slice(cut), slice(cut, n))] for cut in cuts
        ]
    except (RuntimeError, ValueError, IndexError, TypeError, UserWarning) as error:
        if out_of_memory(error):
            raise
        raise UserError(str(unfit_risk("fit", name_of(risk), outputs, targets, error))) from error
    with users_choice():
        refuse_many("fit", whole)
        finite("fit", **{f"risk before training, on {n} of the samples": whole})
    if float(whole) != 0 and abs(float(doubled) / float(whole) - 2) < 1e-3:
        raise UserError("fit needs a risk that is a mean over samples; this one is a sum: divide it by their number.")
    close = max(MEAN, 8 * torch.finfo(outputs.dtype).eps) if outputs.is_floating_point() else MEAN
    for cut, (one, other) in zip(cuts, pairs, strict=True):
        mean = (cut * float(one) + (n - cut) * float(other)) / n
        if not abs(mean - float(whole)) <= close * max(abs(float(each)) for each in (whole, one, other)):
            raise UserError(
                f"fit needs a risk that is a mean over samples: on {n} of them it is {float(whole):.6g}, and by its "
                f"values on {cut} and on {n - cut} of them it would be {mean:.6g}. With weights of classes or labels "
                "to ignore, multiply the values of reduction='none' by weights and take their mean."
            )


def refuse_trained_risk(risk: Any) -> None:
    """UserError for a risk with weights of its own, which no step would change and no checkpoint keep."""
    names = (
        [name for name, weight in risk.named_parameters() if weight.requires_grad]
        if isinstance(risk, nn.Module)
        else []
    )
    if names:
        raise UserError(
            f"fit needs a risk without weights to train; this {type(risk).__name__} has {', '.join(names[:3])}, which "
            "would stay as they are. Make them part of the model, or set their requires_grad to False."
        )


def name_of(risk: Any) -> str:
    """A name for the settings: that of a function, or of the class of a module."""
    if not callable(risk):
        raise UserError(f"fit needs risk as a function (outputs, targets) → number; got {risk!r}.")
    return getattr(risk, "__name__", type(risk).__name__)
