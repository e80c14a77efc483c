"""What a network was trained to: labels, numbers, or whatever a risk of one's own takes; the risk of its outputs."""

import warnings
from collections.abc import Callable
from math import inf, isfinite
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from regimes.checks import finite
from regimes.errors import first_line, out_of_memory
from regimes.modules.targets import HALF, Risk, refuse_many, unfit_risk
from regimes.tangent.diagnosis.pair import CALLER

MEAN = 1e-3  # relative: what rounding in float32 may make of a mean of the risks of single samples
LOOKED_AT = 200  # samples on which a risk is checked
SEARCH = 100  # steps to the best constant


class OwnRisk(NamedTuple):
    """The caller's risk, the y that it takes, and the precision in which it is given outputs."""

    risk: Risk
    y: Shaped[Tensor, "n *targets"]
    dtype: torch.dtype

    def __call__(self, outputs: Float[Tensor, "m k"], y: Shaped[Tensor, "m *targets"]) -> Any:
        return self.risk(outputs.to(self.dtype).clone(), y)  # a copy, as a risk may write to it


class Targets(NamedTuple):
    """y as numbers (n, any), one-hot for class labels; labels: None unless the risk is the cross-entropy of these.

    own: a risk of the caller's own; without it cross-entropy where there are labels, else half the square.
    """

    values: Float[Tensor, "n _"]
    labels: Int[Tensor, " n"] | None
    own: OwnRisk | None = None

    def of(self, some: Int[Tensor, " m"]) -> "Targets":
        """The targets of some of the samples."""
        labels = None if self.labels is None else self.labels[some]
        own = None if self.own is None else self.own._replace(y=self.own.y[some])
        return Targets(self.values[some], labels, own)

    @property
    def alike(self) -> bool:
        """Whether they are the same at all points."""
        y = self.values if self.own is None else self.own.y
        return bool((y == y[:1]).all())

    def risks(self, outputs: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """The risk of each sample: cross-entropy of labels, half the square, or the caller's for each by itself."""
        if self.own is not None:
            twice = torch.arange(len(outputs), device=outputs.device)[:, None].expand(-1, 2)  # for those that squeeze
            return torch.stack([self.own(outputs[pair], self.own.y[pair]) for pair in twice]).double()
        if self.labels is not None:
            return cross_entropy(outputs, self.labels, reduction="none")
        return (outputs - self.values).square().sum(1) / 2

    def mean_risk(self, outputs: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """The mean risk of all samples, to be differentiated by the outputs."""
        if self.own is not None:
            return self.own(outputs, self.own.y).double()
        return self.risks(outputs).mean()

    def slope(self, outputs: Float[Tensor, "n k"]) -> tuple[float, Float[Tensor, "n k"]]:
        """The mean risk and its derivative by the outputs."""
        return _with_slope(self.mean_risk, outputs)


def _with_slope(risk: Callable[[Tensor], Tensor], outputs: Tensor) -> tuple[float, Tensor]:
    with torch.enable_grad():
        at = outputs.detach().clone().requires_grad_()
        value = risk(at)
        (found,) = torch.autograd.grad(value, at)
    return float(value.detach()), found


def targets_of(y: Shaped[Tensor, "n *targets"], k: int, risk: Risk | None, dtype: torch.dtype) -> Targets:
    """y for networks of k outputs, which they give in dtype. ValueError, without a risk, for a y that fits none."""
    labels = not y.is_floating_point() and not y.is_complex() and y.dtype != torch.bool and y.ndim == 1
    if risk is None or (risk is cross_entropy and labels):
        return _plain(y, k)
    own = OwnRisk(risk, y.detach().clone(), torch.float32 if dtype in HALF else dtype)
    if labels and k > 1 and int(y.min()) >= 0 and int(y.max()) < k:
        return Targets(one_hot(y.long(), k).double(), None, own)
    numbers = torch.view_as_real(y.detach()) if y.is_complex() else y.detach()
    return Targets(numbers.double().reshape(len(y), -1), None, own)


def _plain(y: Tensor, k: int) -> Targets:
    if not y.is_floating_point():
        if y.ndim != 1 or y.is_complex():
            raise ValueError(
                f"{CALLER} needs class labels (n,) or targets in floating point; got {tuple(y.shape)}. Or pass risk=, "
                "the loss of the training."
            )
        if k == 1:
            raise ValueError(
                f"{CALLER} needs an output for each class; the model has one. Pass y as numbers (n, 1), or risk=, the "
                "loss of the training."
            )
        if y.dtype == torch.bool or int(y.min()) < 0 or int(y.max()) >= k:
            raise ValueError(f"{CALLER} needs labels from 0 to {k - 1}, one for each of the {k} outputs; got others.")
        return Targets(one_hot(y.long(), k).double(), y.long())
    finite(CALLER, y=y)
    values = y.double().reshape(len(y), -1)
    if values.shape[1] != k:
        raise ValueError(
            f"{CALLER} needs targets of the shape of the outputs, {k} a sample; got {tuple(y.shape)}. Or pass risk=, "
            "the loss of the training."
        )
    return Targets(values, None)


def require_mean(targets: Targets, **outputs: Float[Tensor, "n k"]) -> None:
    """ValueError for a risk of the caller's own that is no mean over samples, or that does not take these outputs."""
    if targets.own is None:
        return
    some = torch.arange(min(LOOKED_AT, len(targets.values)), device=targets.values.device)
    for name, each in outputs.items():
        _require_mean(targets.of(some), targets.own, each[some], name)


def _require_mean(targets: Targets, own: OwnRisk, outputs: Tensor, name: str) -> None:
    own = own._replace(y=own.y[: len(outputs)])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Using a target size")  # torch's, where it broadcasts
        whole = _tried(own, outputs, own.y)
        doubled = _tried(own, torch.cat([outputs, outputs]), torch.cat([own.y, own.y]))
        for pair in ([0, 0], [-1, -1]):
            _tried(own, outputs[pair], own.y[pair])
    if not isfinite(whole):
        raise ValueError(f"{CALLER} needs a risk that is finite; on the outputs of {name} it is {whole}.")
    if whole != 0 and abs(doubled / whole - 2) < MEAN:
        raise ValueError(
            f"{CALLER} needs a risk that is a mean over samples; this one is a sum: divide it by their number."
        )
    risks = targets.risks(outputs).detach()
    mean, size = float(risks.mean()), max(abs(whole), float(risks.abs().mean()))
    wide = own.y.ndim == 1 and outputs.shape[1] == 1
    cure = "With y (n,) and outputs (n, 1), the one is compared with all of the other: pass y[:, None]" if wide else (
        "With weights of classes or labels to ignore, multiply the values of reduction='none' by weights and take "
        "their mean"
    )  # fmt: skip
    if not abs(mean - whole) <= MEAN * size:
        raise ValueError(
            f"{CALLER} needs a risk that is a mean over samples: on {len(outputs)} of them it is {whole:.6g}, and the "
            f"mean of its values on each is {mean:.6g}. {cure}."
        )
    try:
        slopes = [_with_slope(risk, outputs)[1] for risk in (targets.mean_risk, lambda f: targets.risks(f).mean())]
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"{CALLER} needs a risk that can be differentiated by the outputs: {first_line(error)}."
        ) from error
    if not (slopes[0] - slopes[1]).norm() <= MEAN * max(each.norm() for each in slopes):
        raise ValueError(
            f"{CALLER} needs a risk that is a mean over samples: its derivative by the output of one depends on "
            f"others. {cure}."
        )


def _tried(own: OwnRisk, outputs: Tensor, y: Tensor) -> float:
    try:
        value: Any = own(outputs, y)
    except Exception as error:  # whatever stands in its way
        if out_of_memory(error):
            raise
        name = getattr(own.risk, "__name__", type(own.risk).__name__)
        told = ValueError(first_line(error))
        raise unfit_risk(CALLER, name, outputs.to(own.dtype), y, told) from error
    refuse_many(CALLER, value)
    return float(value.detach())


def constant_risk(targets: Targets, *outputs: Float[Tensor, "n k"]) -> float:
    """Risk of the best constant: the mean, the shares of the labels; for a risk of the caller's own the least found.

    outputs: of the networks; from their means it is searched for, and from 0.
    """
    if targets.own is None:
        mean = targets.values.mean(0, keepdim=True)
        best = mean if targets.labels is None else mean.log()
        return max(float(targets.risks(best.expand_as(targets.values)).mean()), 0.0)
    means = [each.mean(0, keepdim=True) for each in outputs]
    return min(_least(targets, start) for start in (torch.zeros_like(means[0]), *means))


def _least(targets: Targets, start: Float[Tensor, "1 k"]) -> float:
    """The least risk seen on the way down from a constant output."""
    constant, seen = start.detach().clone().requires_grad_(), [inf]
    search = torch.optim.LBFGS([constant], max_iter=SEARCH, line_search_fn="strong_wolfe")

    def risk() -> float:
        value, constant.grad = _with_slope(
            lambda at: targets.mean_risk(at.repeat(len(targets.values), 1)), constant.detach()
        )
        if not isfinite(value):
            raise ArithmeticError("the search has left where the risk is finite")
        seen.append(value)
        return value

    try:
        search.step(risk)
    except Exception as error:  # the risk takes no such constant: what was seen before stands
        if out_of_memory(error):
            raise
    return min(seen)
