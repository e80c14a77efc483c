"""What a fixed kernel will do on points it was not trained on: leave-one-out, effective dimension, learning curves."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import counts, finite, kind, not_negative, real, shapes
from regimes.tangent.regression import Kernel, of_pairs
from regimes.tangent.spectrum import merge_outputs, spectrum


def leave_one_out(kernel: Kernel, y: Float[Tensor, "n k"], *, ridge: float = 0.0) -> Float[Tensor, "n k"]:
    """f(x_i) of the fit to all samples but i, for every i, from one inverse: y_i − (G⁻¹)_ii⁻¹ c_i, G = K + n·ridge·I.

    K is (n, n) or (n, n, k, k), where all outputs of a sample are left out together and (G⁻¹)_ii is a block (k, k).
    Exact for fits that keep n·ridge of all n samples on the diagonal. In float64.
    ValueError: without ridge, K that is singular to working precision; one sample.
    """
    not_negative("leave_one_out", "ridge", ridge, single=True)
    pairs = of_pairs(kernel, y)
    cure = None if getattr(y, "ndim", 2) > 1 else "Pass y[:, None]"
    shapes("leave_one_out", kernel=(kernel, "n n k k" if pairs else "n n"), y=(y, "n k"), cure=cure)
    real("leave_one_out", y=y)
    finite("leave_one_out", y=y)
    n, k = y.shape
    if n < 2:
        raise ValueError("leave_one_out needs at least two samples: of one nothing is left. Pass more.")
    parts = spectrum(merge_outputs(kernel) if pairs else kernel)
    shifted = parts.values + n * float(ridge)
    if not bool((shifted > parts.cutoff).all()):
        zero = int((shifted <= parts.cutoff).sum())
        raise ValueError(
            f"leave_one_out needs a regular matrix; {zero} eigenvalues of K + n·ridge·I are zero to "
            "working precision, as with duplicate points. Pass a larger ridge."
        )
    inverse = parts.vectors @ (parts.vectors / shifted).mT
    target = y.to(torch.float64)
    if not pairs:
        return target - inverse @ target / inverse.diagonal()[:, None]
    blocks = inverse.reshape(n, k, n, k)
    own = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    coefficients = torch.einsum("iajb,jb->ia", blocks, target)
    return target - torch.linalg.solve(own, coefficients[..., None])[..., 0]


def effective_dimension(kernel: Kernel, *, ridge: float) -> Float[Tensor, "*runs"]:
    """tr K (K + n·ridge·I)⁻¹ = Σ λ/(λ + n·ridge): how many directions the ridge lets through; with ridge 0 the rank.

    K is (n, n), counted once for all outputs, or (n, n, k, k), counted over (sample, output) pairs; one axis of runs
    may come before.
    """
    not_negative("effective_dimension", "ridge", ridge, single=True)
    kind("effective_dimension", "kernel", kernel, Tensor, "a tensor")
    pairs = kernel.ndim >= 4
    parts = spectrum(merge_outputs(kernel) if pairs else kernel)
    shift = (kernel.shape[-3] if pairs else kernel.shape[-1]) * float(ridge)
    shares = torch.where(parts.kept, parts.values / torch.where(parts.kept, parts.values + shift, 1.0), 0.0)
    return shares.sum(-1)


class LearningCurve(NamedTuple):
    """Predicted mean square error on new points, the sum over outputs without ½, for each number of samples.

    `learnability` (sizes, modes): the share of each eigenfunction that is learned. `overfitting` = n/(n − Σ L²) >= 1.
    """

    error: Float[Tensor, "sizes"]
    learnability: Float[Tensor, "sizes modes"]
    overfitting: Float[Tensor, "sizes"]


def learning_curve(
    eigenvalues: Float[Tensor, "modes"],
    coefficients: Float[Tensor, "modes k"],
    sizes: Sequence[int],
    *,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> LearningCurve:
    """Test error of kernel ridge regression with n samples, by the self-consistent theory of Gaussian eigenfunctions.

    eigenvalues λ_i of the kernel under the distribution of x, K(x, x') = Σ λ_i φ_i(x) φ_i(x'), E φ_i φ_j = δ_ij;
    coefficients v_i of the target Σ v_i φ_i; noise: variance of each output's noise. With κ >= 0 from
    Σ λ_i/(λ_i + κ) + n·ridge/κ = n and L_i = λ_i/(λ_i + κ):  E = (Σ (1 − L_i)² v_i² + k·noise) n/(n − Σ L_i²), the
    noise of new points included. Exact for many modes and samples; empirical_modes estimates λ and v from a kernel.
    What the kernel cannot learn of the target is a mode with λ = 0, which acts as noise does.
    Without ridge and with n at least the number of modes κ = 0; at n = Σ L_i² the error is infinite.
    Source: [BordelonCanatarPehlevan2020], [SimonDickens2023].
    """
    caller = "learning_curve"
    shapes(caller, eigenvalues=(eigenvalues, "modes"), coefficients=(coefficients, "modes k"))
    real(caller, eigenvalues=eigenvalues, coefficients=coefficients)
    finite(caller, eigenvalues=eigenvalues, coefficients=coefficients)
    not_negative(caller, "eigenvalues", eigenvalues)
    not_negative(caller, "ridge", ridge, single=True)
    not_negative(caller, "noise", noise, single=True)
    values, square = eigenvalues.to(torch.float64), coefficients.to(torch.float64).square().sum(1)
    rows, curve = [], []
    for n in counts(caller, "sizes", sizes):
        shares = _shares(values, n, n * float(ridge))
        left = n - float(shares.square().sum())
        risk = float(((1 - shares).square() * square).sum()) + coefficients.shape[1] * float(noise)
        factor = n / left if left > 1e-9 * n else float("inf")
        rows.append(shares)
        curve.append((factor * risk if risk > 0 else 0.0, factor))
    error, factor = torch.tensor(curve, dtype=torch.float64).T
    return LearningCurve(error, torch.stack(rows), factor)


def _shares(values: Tensor, n: int, shift: float) -> Float[Tensor, "modes"]:
    """λ/(λ + κ) with κ by bisection in its logarithm."""
    positive = values > 0
    if shift == 0 and int(positive.sum()) <= n:
        return positive.to(torch.float64)  # κ = 0
    low, high = -745.0, float(torch.log((values.sum() + shift) / n)) + 1.0  # Σ λ/(λ+κ) <= Σ λ/κ
    for _ in range(200):
        middle = (low + high) / 2
        kappa = torch.tensor(middle, dtype=torch.float64).exp()
        if float((values / (values + kappa)).sum() + shift / kappa) > n:
            low = middle
        else:
            high = middle
    return values / (values + torch.tensor(high, dtype=torch.float64).exp())


class Modes(NamedTuple):
    """Eigenvalues of a kernel under a distribution, and the coefficients of targets, largest first.

    A last eigenvalue 0 stands for all that the kernel cannot learn of the targets.
    """

    eigenvalues: Float[Tensor, "modes"]
    coefficients: Float[Tensor, "modes k"]


def empirical_modes(kernel: Float[Tensor, "N N"], y: Float[Tensor, "N k"]) -> Modes:
    """λ_i ≈ eigenvalues of K/N, v_i ≈ u_iᵀ y/√N on N samples: good for the modes far above the N-th.

    Take N well above the sizes of the curve. In float64, modes above the cutoff of spectrum. Where targets have a part
    outside these, the last mode has λ = 0 and the coefficient ‖y − Σ u uᵀ y‖/√N of each output.
    """
    shapes("empirical_modes", kernel=(kernel, "n n"), y=(y, "n k"))
    real("empirical_modes", y=y)
    finite("empirical_modes", y=y)
    parts, n = spectrum(kernel), len(y)
    kept = parts.kept.flip(0)
    vectors = parts.vectors.flip(1)[:, kept]
    values, target = parts.values.flip(0)[kept] / n, y.to(torch.float64) / n**0.5
    coefficients = vectors.mT @ target
    left = (target - vectors @ coefficients).norm(dim=0, keepdim=True)
    if bool((left > torch.finfo(torch.float64).eps ** 0.75 * target.norm(dim=0)).any()):
        values, coefficients = torch.cat([values, values.new_zeros(1)]), torch.cat([coefficients, left])
    return Modes(values, coefficients)
