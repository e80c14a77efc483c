"""Measures of how lazy a trained network was, each a plain function of tensors with any leading runs axes."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, finite, kind, real, shapes
from regimes.long_sums import norm

Tensors = Sequence[Float[Tensor, "..."]]


def _norm(values: Tensor, axes: int) -> Tensor:
    """Euclidean norm over the last `axes` axes."""
    return norm(values, axes)


def _unit(values: Tensor, what: str, cure: str) -> Tensor:
    """Divided by its norm over the last two axes."""
    return _ratio(values, _norm(values, 2)[..., None, None], what, cure)


def _cosine(one: Tensor, other: Tensor, what: str, cure: str) -> Tensor:
    """⟨A, B⟩ / (‖A‖ ‖B‖) over the last two axes; products of small or large entries would leave float32."""
    return (_unit(one, what, cure) * _unit(other, what, cure)).sum((-2, -1))


def _ratio(above: Tensor, below: Tensor, what: str, cure: str) -> Tensor:
    if (below == 0).any():
        raise ValueError(f"{what} is zero, so nothing can be measured relative to it: {cure}.")
    return above / below


def weight_motion(weights: Tensors | Tensor, start: Tensors | Tensor, *, runs: int = 0) -> Float[Tensor, "..."]:
    """Relative motion ‖w − w_0‖ / ‖w_0‖ of all parameters together; the first `runs` axes of each tensor are kept.

    weights, start: the same tensors in the same order, a list each, or one tensor each.
    """
    now, before = _listed("weights", weights), _listed("start", start)
    if len(now) != len(before) or not now:
        raise ValueError(
            f"weight_motion needs the same parameters twice, at least one; got {len(now)} and {len(before)}."
        )
    count("weight_motion", "runs", runs, at_least=0)
    for number, (w, w0) in enumerate(zip(now, before, strict=True)):
        shapes("weight_motion", weights=(w, "*w"), start=(w0, "*w"), cure=f"Look at tensor {number} of each")
        real("weight_motion", weights=w, start=w0)
        if runs >= w.ndim + (runs == 0):
            raise ValueError(
                f"weight_motion needs more axes than the {runs} of the runs; tensor {number} has {tuple(w.shape)}. "
                "Lower runs."
            )
    moved = _whole([w - w0 for w, w0 in zip(now, before, strict=True)], runs)
    return _ratio(moved, _whole(before, runs), "‖w_0‖", "give the absolute motion instead")


def _whole(tensors: Sequence[Tensor], runs: int) -> Tensor:
    """Euclidean norm of all tensors together."""
    norms = [_norm(each, each.ndim - runs) if each.ndim > runs else each.abs() for each in tensors]
    return _norm(torch.stack(norms, -1), 1)


def _listed(name: str, tensors: Any) -> list[Tensor]:
    """Several tensors as a list; one tensor is one parameter, and not as many as it has rows."""
    if isinstance(tensors, Tensor):
        return [tensors]
    kind("weight_motion", name, tensors, Sequence, "a list of tensors, such as list(model.parameters())")
    return list(tensors)


def kernel_drift(
    kernel: Float[Tensor, "*axes"], start: Float[Tensor, "*axes"], *, runs: int | None = None
) -> Float[Tensor, "*runs"]:
    """Relative change ‖Θ − Θ_0‖ / ‖Θ_0‖ of the tangent kernel, Frobenius norm over all of its entries.

    The kernels are those of ntk, (n, m) or (n, m, k, k). runs: how many axes of runs come before, each of them with a
    drift of its own; None: one if there are three or five axes, otherwise none. ValueError where kernels (n, n) of runs
    with two axes could be meant as well.
    """
    shapes("kernel_drift", kernel=(kernel, "*axes"), start=(start, "*axes"))
    real("kernel_drift", kernel=kernel, start=start)
    before = kernel.ndim % 2 if runs is None else count("kernel_drift", "runs", runs, at_least=0)
    axes = kernel.ndim - before
    if axes not in (2, 4) or (axes == 4 and kernel.shape[-1] != kernel.shape[-2]):
        raise ValueError(
            "kernel_drift needs kernels (n, m) or (n, m, k, k), after the axes of the runs; got "
            f"{tuple(kernel.shape)} with {before} of runs. Pass runs=, the number of these axes."
        )
    if runs is None and axes == 4 and _may_be_runs(kernel, start):
        raise ValueError(
            f"kernel_drift got {tuple(kernel.shape)}, which may be kernels (n, m, k, k) or kernels (n, n) of more axes "
            f"of runs. Pass runs={before} for the first, runs={before + 2} for the second."
        )
    return _ratio(_norm(kernel - start, axes), _norm(start, axes), "‖Θ_0‖", "the start has no tangent model")


def _may_be_runs(*kernels: Float[Tensor, "*runs n m k k"]) -> bool:
    """Whether each (k, k) inside may be a kernel of k samples, and the whole is none of n samples with themselves."""

    def symmetric(kernel: Tensor, other: Tensor) -> bool:
        gap = (kernel - other).abs().nan_to_num(nan=0.0)
        return bool((gap <= torch.finfo(kernel.dtype).eps ** 0.5 * kernel.abs().nan_to_num(nan=0.0).amax()).all())

    if kernels[0].shape[-1] == 1:
        return False
    inside = all(symmetric(each, each.mT) and not (each.diagonal(0, -2, -1) < 0).any() for each in kernels)
    square = kernels[0].shape[-4] == kernels[0].shape[-3]
    return inside and not (square and all(symmetric(each, each.mT.transpose(-4, -3)) for each in kernels))


def activation_flips(
    preactivations: Float[Tensor, "*runs n units"], start: Float[Tensor, "*runs n units"]
) -> Float[Tensor, "*runs"]:
    """Share of (unit, input) pairs whose pre-activation changed its sign; zero counts as not positive.

    For a ReLU these are the pairs whose derivative changed; for smooth activations it is the same sign count.
    """
    given = {"preactivations": preactivations, "start": start}
    shapes("activation_flips", preactivations=(preactivations, "*runs n units"), start=(start, "*runs n units"))
    real("activation_flips", half=True, numpy=False, **given)
    finite("activation_flips", **given)  # NaN would count as not positive
    return ((preactivations > 0) != (start > 0)).to(torch.float64).mean((-2, -1))


def tangent_distance(
    outputs: Float[Tensor, "*runs n k"], tangent: Float[Tensor, "*runs n k"]
) -> Float[Tensor, "*runs"]:
    """‖f − f̄‖ / ‖f̄‖ in L² of the given inputs, f the net and f̄ its tangent model, both after training."""
    shapes("tangent_distance", outputs=(outputs, "*runs n k"), tangent=(tangent, "*runs n k"))
    real("tangent_distance", outputs=outputs, tangent=tangent)
    return _ratio(
        _norm(outputs - tangent, 2), _norm(tangent, 2), "the tangent model", "train it, or compare at another time"
    )


def alignment(kernel: Float[Tensor, "*runs n n"], y: Float[Tensor, "*#runs n k"]) -> Float[Tensor, "*runs"]:
    """Kernel-target alignment ⟨Θ, YYᵀ⟩ / (‖Θ‖ ‖YYᵀ‖) in [0, 1], Frobenius products; 1 for Θ ∝ YYᵀ."""
    shapes("alignment", kernel=(kernel, "*runs n n"), y=(y, "*#runs n k"))
    real("alignment", kernel=kernel, y=y)
    y = _unit(y, "‖Y‖", "give nonzero targets")
    return _cosine(kernel, y @ y.mT, "‖Θ‖", "the net has no tangent model")


def cka(kernel: Float[Tensor, "*runs n n"], other: Float[Tensor, "*runs n n"]) -> Float[Tensor, "*runs"]:
    """Centred kernel alignment ⟨HΘH, HΘ'H⟩ / (‖HΘH‖ ‖HΘ'H‖), H = I − 11ᵀ/n: 1 for kernels that differ by a factor."""
    shapes("cka", kernel=(kernel, "*runs n n"), other=(other, "*runs n n"))
    real("cka", kernel=kernel, other=other)
    one, two = (each - each.mean(-1, keepdim=True) for each in (kernel, other))
    one, two = (each - each.mean(-2, keepdim=True) for each in (one, two))
    return _cosine(one, two, "a centred kernel", "give points that differ")
