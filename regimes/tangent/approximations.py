"""Cheaper stand-ins of a tangent kernel, each held against exact entries on some samples in its own result."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regimes import checks
from regimes.checks import count, kind
from regimes.modules import called
from regimes.tangent.inputs import held_samples, outer_names
from regimes.tangent.operator import TangentOperator

COMPARED = 8


class Compared(NamedTuple):
    """An approximation `value`, and how far it is from exact entries on a few `samples`, drawn at random.

    error: ‖approximate − exact‖_F / ‖exact‖_F over those entries; standard_error: of it, by the jackknife over the
    samples. deviation: standard deviation of each entry of the value where it comes from chance, else None.
    """

    value: Tensor
    deviation: Tensor | None
    error: float
    standard_error: float
    samples: Int[Tensor, " s"]
    approximate: Tensor
    exact: Tensor


class _Sum(nn.Module):
    """Σ_a f_a / √k."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        outputs = called(self.model, x, "pseudo_kernel").flatten(1)
        return outputs.sum(1, keepdim=True) / outputs.shape[1] ** 0.5


def pseudo_kernel(operator: TangentOperator, *, generator: torch.Generator, compared: int = COMPARED) -> Compared:
    """The kernel (n, n) of Σ_a f_a / √k, which stands for Θ ≈ pseudo ⊗ 1_k: k times fewer passes, k² fewer entries.

    Compared with all k × k entries of Θ on the samples. The error falls with the width as 1/√m.
    Source: [MohamadiBaeSutherland2023].
    """
    samples = _drawn("pseudo_kernel", operator, generator, compared)
    value = TangentOperator(_Sum(operator.model), operator.x, memory=operator.memory).gram(outputs="trace")
    exact = _exact(operator, samples)
    small = value[samples][:, samples]
    approximate = small[..., None, None] * torch.eye(operator.outputs, dtype=value.dtype, device=value.device)
    return _compared(value, None, samples, approximate, exact, axes=2)


def projected_kernel(
    operator: TangentOperator, *, generator: torch.Generator, directions: int = 64, compared: int = COMPARED
) -> Compared:
    """Θ (n, n, k, k) from derivatives along random directions, 1/r Σ_s (J v_s)(J v_s)ᵀ with normal v_s, without bias.

    r products with J, and n·k·r numbers. Entry (i, j) has the variance (Θ_ii Θ_jj + Θ_ij²) / r.
    """
    samples = _drawn("projected_kernel", operator, generator, compared)
    r = count("projected_kernel", "directions", directions)
    params, columns = outer_names(operator.model, operator.tangent.params), []
    for _ in range(r):
        along = {name: _normal(value, generator) for name, value in params.items()}
        columns.append(operator.jvp(along).reshape(-1))
    sketch = torch.stack(columns, 1)
    flat = sketch @ sketch.T / r
    deviation = ((flat.diagonal()[:, None] * flat.diagonal() + flat.square()) / r).sqrt()
    n, k = len(operator.x), operator.outputs
    value, spread = (each.view(n, k, n, k).transpose(1, 2) for each in (flat, deviation))
    approximate = value[samples][:, samples]
    return _compared(value, spread, samples, approximate, _exact(operator, samples), axes=2)


def kernel_product(
    operator: TangentOperator, vector: Float[Tensor, "n k"], *, generator: torch.Generator, compared: int = COMPARED
) -> Compared:
    """Θ v without Θ (operator.matvec), compared with products of exact rows of Θ: they differ by rounding only."""
    samples = _drawn("kernel_product", operator, generator, compared)
    value = operator.matvec(vector)
    exact = torch.stack([torch.einsum("jab,jb->a", _row(operator, each), vector) for each in samples])
    return _compared(value, None, samples, value[samples], exact, axes=1)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal entries; of complex ones both parts are."""
    if like.is_complex():
        return torch.complex(_normal(like.real, generator), _normal(like.imag, generator))
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=torch.float64).to(like)


def _drawn(caller: str, operator: TangentOperator, generator: torch.Generator, compared: int) -> Tensor:
    kind(caller, "operator", operator, TangentOperator, "a tangent operator; use regimes.tangent_operator")
    checks.generator(caller, generator)
    if len(operator.x) < 2:
        raise ValueError(f"{caller} needs at least two samples, to compare with exact entries; got {len(operator.x)}.")
    size = min(count(caller, "compared", compared, 2), len(operator.x))
    order = torch.randperm(len(operator.x), generator=generator, device=generator.device)
    return order[:size].to(operator.x.device)


def _row(operator: TangentOperator, sample: Tensor) -> Tensor:
    """Θ (n, k, k) of one sample with all."""
    one = TangentOperator(operator.model, operator.x[sample][None], memory=operator.memory)
    return one.gram(held_samples(operator.model, operator.x))[0]


def _exact(operator: TangentOperator, samples: Tensor) -> Tensor:
    return TangentOperator(operator.model, operator.x[samples], memory=operator.memory).gram()


def _compared(
    value: Tensor, deviation: Tensor | None, samples: Tensor, approximate: Tensor, exact: Tensor, axes: int
) -> Compared:
    """axes: how many of the first axes count samples."""

    def error(kept: Tensor) -> float:
        one, other = approximate[kept].double(), exact[kept].double()
        if axes == 2:
            one, other = one[:, kept], other[:, kept]
        return float((one - other).norm() / other.norm())

    every = torch.arange(len(samples), device=exact.device)
    without = [error(every[every != place]) for place in range(len(every))] if len(every) > 1 else [float("nan")]
    mean = sum(without) / len(without)
    spread = ((len(without) - 1) / len(without) * sum((each - mean) ** 2 for each in without)) ** 0.5
    return Compared(value, deviation, error(every), spread, samples, approximate, exact)
