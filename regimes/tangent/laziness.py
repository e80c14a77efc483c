"""Measures of how lazy a trained network was, each a plain function of tensors with any leading runs axes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, finite, real, shapes

Tensors = Sequence[Float[Tensor, "..."]]


def _norm(values: Tensor, axes: int) -> Tensor:
    """Euclidean norm over the last `axes` axes."""
    return torch.linalg.vector_norm(values, dim=tuple(range(-axes, 0)))


def _ratio(above: Tensor, below: Tensor, what: str, cure: str) -> Tensor:
    if (below == 0).any():
        raise ValueError(f"{what} is zero, so nothing can be measured relative to it: {cure}.")
    return above / below


def weight_motion(weights: Tensors, start: Tensors, *, runs: int = 0) -> Float[Tensor, "..."]:
    """Relative motion ‖w − w_0‖ / ‖w_0‖ of all parameters together; the first `runs` axes of each tensor are kept."""
    if len(weights) != len(start) or not weights:
        raise ValueError(
            f"weight_motion needs the same parameters twice, at least one; got {len(weights)} and {len(start)}."
        )
    count("weight_motion", "runs", runs, at_least=0)
    for number, (w, w0) in enumerate(zip(weights, start, strict=True)):
        shapes("weight_motion", weights=(w, "*w"), start=(w0, "*w"), cure=f"Look at tensor {number} of each")
        real("weight_motion", weights=w, start=w0)
        if runs >= w.ndim + (runs == 0):
            raise ValueError(
                f"weight_motion needs more axes than the {runs} of the runs; tensor {number} has {tuple(w.shape)}. "
                "Lower runs."
            )
    moved = sum((w - w0).flatten(runs).square().sum(-1) for w, w0 in zip(weights, start, strict=True))
    norm = sum(w0.flatten(runs).square().sum(-1) for w0 in start)
    assert isinstance(moved, Tensor)
    assert isinstance(norm, Tensor)
    return _ratio(moved.sqrt(), norm.sqrt(), "‖w_0‖", "give the absolute motion instead")


def kernel_drift(kernel: Float[Tensor, "*runs n m"], start: Float[Tensor, "*runs n m"]) -> Float[Tensor, "*runs"]:
    """Relative change ‖Θ − Θ_0‖ / ‖Θ_0‖ of the tangent kernel, Frobenius norm; (n, n, k, k): merge_outputs."""
    shapes("kernel_drift", kernel=(kernel, "*runs n m"), start=(start, "*runs n m"))
    real("kernel_drift", kernel=kernel, start=start)
    return _ratio(_norm(kernel - start, 2), _norm(start, 2), "‖Θ_0‖", "the start has no tangent model")


def activation_flips(
    preactivations: Float[Tensor, "*runs n units"], start: Float[Tensor, "*runs n units"]
) -> Float[Tensor, "*runs"]:
    """Share of (unit, input) pairs whose pre-activation changed its sign; zero counts as not positive.

    For a ReLU these are the pairs whose derivative changed; for smooth activations it is the same sign count.
    """
    given = {"preactivations": preactivations, "start": start}
    shapes("activation_flips", preactivations=(preactivations, "*runs n units"), start=(start, "*runs n units"))
    real("activation_flips", half=True, **given)
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
    target = y @ y.mT
    return _ratio(
        (kernel * target).sum((-2, -1)), _norm(kernel, 2) * _norm(target, 2), "‖Θ‖‖YYᵀ‖", "give nonzero targets"
    )
