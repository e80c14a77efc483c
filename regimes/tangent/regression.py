"""Regression with a fixed kernel: ridge and ridgeless solutions, and the exact gradient flow of the tangent model."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import count, finite, kind, not_negative, real, shapes
from regimes.tangent.spectrum import Spectrum, spectrum

Time = float | Float[Tensor, "*runs"]


class KernelFit(NamedTuple):
    """f(x) = Σ_i k(x, x_i) c_i, and how well posed the solve was.

    `condition` is the ratio of extreme eigenvalues of the matrix that was inverted: K + n·ridge, without ridge K on the
    span that was kept. `rank` below n means that K was singular to working precision and the fit is the pseudo-inverse
    (least-norm) one. `cutoff` is the eigenvalue below which directions were left out; `smallest` the least eigenvalue
    found.
    """

    coefficients: Float[Tensor, "*runs n k"]
    condition: Float[Tensor, "*runs"]
    rank: Int[Tensor, "*runs"]
    cutoff: Float[Tensor, "*runs"]
    smallest: Float[Tensor, "*runs"]


def kernel_ridge(
    k_train_train: Float[Tensor, "*#runs n n2"],
    y: Float[Tensor, "*#runs n k"],
    *,
    ridge: float = 0.0,
    samples: int | None = None,
    cutoff: float | None = None,
) -> KernelFit:
    """Minimiser of 1/(2n) Σ_i ‖f(x_i) − y_i‖² + (ridge/2) ‖f‖²_K, that is c = (K + n·ridge·I)⁻¹ y; solved in float64.

    ridge = 0 is kernel interpolation: the limit ridge → 0, c = K⁺ y, the pseudo-inverse when K is singular (see
    KernelFit.rank). cutoff: relative size of the eigenvalues taken for zero without ridge (None: n times the rounding
    unit of the dtype of K). samples: the number n of inputs behind the rows, needed with ridge > 0; it is not the
    number of rows where these are (sample, output) pairs (merge_outputs). For a net that starts at f_0 pass y − f_0.
    Source: [ChizatOyallonBach2019] for the link with lazy training.
    """
    not_negative("kernel_ridge", "ridge", ridge, single=True)
    parts = _fitted("kernel_ridge", k_train_train, y, None, samples, cutoff)
    if samples is None and ridge > 0:
        raise ValueError(
            "kernel_ridge needs samples, the number of inputs behind the rows, by which a ridge counts; got none. "
            f"Pass samples={y.shape[-2]}, or fewer if the rows are (sample, output) pairs."
        )
    matrix = parts.values + (samples or 1) * ridge
    used = parts.kept | (matrix > 0)
    inverse = torch.where(used, 1 / torch.where(used, matrix, 1.0), 0.0)
    coefficients = parts.vectors @ (inverse[..., None] * (parts.vectors.mT @ y.to(torch.float64)))
    smallest = torch.where(used, matrix, float("inf")).amin(-1)
    return KernelFit(coefficients, matrix[..., -1] / smallest, parts.rank, parts.cutoff, parts.smallest)


def predict(fit: KernelFit, k_test_train: Float[Tensor, "*#runs n1 n"]) -> Float[Tensor, "*runs n1 k"]:
    """Values of the fit at new points, in float64."""
    kind("predict", "fit", fit, KernelFit, "what kernel_ridge returns")
    _test_kernel("predict", k_test_train, fit.coefficients)
    return k_test_train.to(torch.float64) @ fit.coefficients


def _fitted(
    caller: str, kernel: Tensor, y: Tensor, start: Tensor | None, samples: int | None, cutoff: float | None
) -> Spectrum:
    """The spectrum of the kernel, once targets and start fit to it."""
    arrays = {"k_train_train": (kernel, "*#runs n n"), "y": (y, "*#runs n k"), "f_train_0": (start, "*#runs n k")}
    cure = None if getattr(y, "ndim", 2) > 1 else "Pass y[:, None]"
    rows = shapes(caller, cure=cure, optional=("f_train_0",), **arrays)["n"]
    real(caller, y=y, f_train_0=start)
    finite(caller, y=y, f_train_0=start)
    if samples is not None and rows % count(caller, "samples", samples):
        raise ValueError(
            f"{caller} needs samples, the number of inputs behind the rows, to divide their number; got {samples} for "
            f"{rows} rows. Pass the number of inputs."
        )
    return spectrum(kernel, cutoff=cutoff)


def _test_kernel(caller: str, kernel: Tensor, values: Tensor, others: Tensor | None = None) -> None:
    """Refuse a test-train kernel that does not fit the values at the training points (and those at the others)."""
    cure = "The columns of k_test_train are the training points"
    arrays = {"k_test_train": (kernel, "*#runs n1 n"), "train": (values, "*#runs n k")}
    shapes(caller, cure=cure, optional=("f_test_0",), f_test_0=(others, "*#runs n1 k"), **arrays)
    real(caller, k_test_train=kernel, f_test_0=others)


class GradientFlow:
    """Exact solution of d/dt f_t(x) = −(1/n) Σ_i K(x, x_i)(f_t(x_i) − y_i), the tangent model under the square risk
    R = 1/(2n) Σ_i ‖f(x_i) − y_i‖²: no time stepping, t from 0 to inf.

    On the training points f_t − y = Σ_λ e^{−λt/n} u uᵀ (f_0 − y). All in float64, with any leading runs axes.
    Eigenvalues under the cutoff (see spectrum; `rank` says how many are above) never learn, so t = inf is the ridgeless
    solution started from f_0. samples: the number n of inputs, which sets the unit of time; it is not the number of
    rows where these are (sample, output) pairs (merge_outputs). f_train_0 = None is a start at zero.
    Source: [ChizatOyallonBach2019]; the time unit is that of regimes.conventions.
    """

    def __init__(
        self,
        k_train_train: Float[Tensor, "*#runs n n2"],
        y: Float[Tensor, "*#runs n k"],
        f_train_0: Float[Tensor, "*#runs n k"] | None = None,
        *,
        samples: int,
        cutoff: float | None = None,
    ) -> None:
        count("GradientFlow", "samples", samples)
        parts = _fitted("GradientFlow", k_train_train, y, f_train_0, samples, cutoff)
        self.samples = samples
        self.eigenvalues, self.vectors, self.kept = parts.values, parts.vectors, parts.kept
        self.rank, self.cutoff = parts.rank, parts.cutoff
        self.condition = parts.values[..., -1] / torch.where(parts.kept, parts.values, float("inf")).amin(-1)
        self.y = y.to(torch.float64)
        start = torch.zeros_like(self.y) if f_train_0 is None else f_train_0.to(torch.float64)
        self.residual = self.vectors.mT @ (start - self.y)  # Uᵀ(f_0 − y)

    def _exponent(self, t: Time) -> Float[Tensor, "*runs n"]:
        """λt/n, zero in the directions that never learn, also at t = inf."""
        not_negative("GradientFlow", "the time t", t, infinite=True)
        time = torch.as_tensor(t, dtype=torch.float64, device=self.eigenvalues.device)
        shapes("GradientFlow", t=(time, "*#runs"), eigenvalues=(self.eigenvalues, "*#runs n"))
        rates = torch.where(self.kept, self.eigenvalues / self.samples, 1.0)
        return torch.where(self.kept, rates * time[..., None], 0.0)

    def _learned(self, t: Time) -> Float[Tensor, "*runs n k"]:
        """Uᵀ K⁺ (1 − e^{−Kt/n}) (f_0 − y), minus the kernel coefficients in the eigenbasis."""
        factor = -torch.expm1(-self._exponent(t)) / torch.where(self.kept, self.eigenvalues, 1.0)
        return factor[..., None] * self.residual

    def train(self, t: Time) -> Float[Tensor, "*runs n k"]:
        """f_t on the training points."""
        return self.y + self.vectors @ (torch.exp(-self._exponent(t))[..., None] * self.residual)

    def test(
        self,
        t: Time,
        k_test_train: Float[Tensor, "*#runs n1 n"],
        f_test_0: Float[Tensor, "*#runs n1 k"] | None = None,
    ) -> Float[Tensor, "*runs n1 k"]:
        """f_t at other points: f_0(x) − K(x, X) K⁺ (1 − e^{−Kt/n}) (f_0(X) − y)."""
        _test_kernel("GradientFlow.test", k_test_train, self.y, f_test_0)
        change = k_test_train.to(torch.float64) @ (self.vectors @ self._learned(t))
        return -change if f_test_0 is None else f_test_0.to(torch.float64) - change

    def risk(self, t: Time) -> Float[Tensor, "*runs"]:
        """R(f_t) = 1/(2n) Σ_i ‖f_t(x_i) − y_i‖² on the training points."""
        left = torch.exp(-self._exponent(t))[..., None] * self.residual
        return left.square().sum((-2, -1)) / (2 * self.samples)

    def displacement(self, t: Time) -> Float[Tensor, "*runs"]:
        """Weight motion ‖w̄(t) − w_0‖ = √((f_0 − y)ᵀ K⁺ (1 − e^{−Kt/n})² (f_0 − y)) of f̄ = h̄ with K = Dh Dhᵀ.

        For f̄ = α h̄ with K = Dh Dhᵀ and w' = −∇R(αh)/α², divide by α. For the mean-field flow w' = −m∇F with Θ = m Dh
        Dhᵀ, divide by α for the root mean square motion over the m particles, √(1/m Σ_j ‖·‖²); the norm over all
        weights is √m times that.
        """
        moved = self.eigenvalues[..., None] * self._learned(t).square()
        return moved.sum((-2, -1)).sqrt()

    def time_to(self, risk: float | Float[Tensor, "*runs"]) -> Float[Tensor, "*runs"]:
        """First time at which R(f_t) <= risk: 0 if it holds at the start, inf if never. Bisection to rounding."""
        not_negative("GradientFlow.time_to", "risk", risk, infinite=True)
        if isinstance(risk, np.ndarray):
            raise ValueError("GradientFlow.time_to needs risk as a number or a tensor; got an array. Convert it.")
        goal = torch.as_tensor(risk, dtype=torch.float64, device=self.eigenvalues.device).expand(self.risk(0.0).shape)
        low, high = torch.zeros_like(goal), torch.ones_like(goal)
        reachable = (self.risk(float("inf")) < goal) & (goal > 0)
        needs = reachable & (self.risk(0.0) > goal)
        while (late := needs & (self.risk(high) > goal)).any():
            high = torch.where(late, 2 * high, high)
        for _ in range(200):
            middle = (low + high) / 2
            above = self.risk(middle) > goal
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        never = torch.where(self.risk(0.0) <= goal, 0.0, float("inf"))
        return torch.where(needs, high, never)
