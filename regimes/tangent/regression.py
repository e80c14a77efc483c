"""Regression with a fixed kernel: ridge and ridgeless solutions, and the exact gradient flow of the tangent model."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import finite, kind, not_negative, real, shapes
from regimes.tangent.cholesky import cholesky_solve
from regimes.tangent.spectrum import merge_outputs, spectrum

Time = float | Float[Tensor, "*runs"]
Kernel = Float[Tensor, "*kernel"]  # (*runs, n, n) or (*runs, n, n, k, k)
Across = Float[Tensor, "*across"]  # (*runs, n1, n) or (*runs, n1, n, k, k)
EIGEN_ROWS = 3000  # rows above which a ridge is solved by Cholesky


class KernelFit(NamedTuple):
    """f(x) = Σ_i k(x, x_i) c_i, and how well posed the solve was.

    `condition` is the ratio of extreme eigenvalues of the matrix that was inverted: K + shift·I, without ridge K on the
    span that was kept (inf where that is empty, as of a zero kernel). `rank` below the number of rows means that K was
    singular to working precision and the fit is the pseudo-inverse (least-norm) one. `cutoff` is the eigenvalue below
    which directions were left out; `smallest` the least eigenvalue of K. By Cholesky (see kernel_ridge) `rank` counts
    the rows, and `smallest` is known to a small share of the shift. `shift`: all that was added to the diagonal,
    n·ridge. `pairs`: K was (n, n, k, k).
    """

    coefficients: Float[Tensor, "*runs n k"]
    condition: Float[Tensor, "*runs"]
    rank: Int[Tensor, "*runs"]
    cutoff: Float[Tensor, "*runs"]
    smallest: Float[Tensor, "*runs"]
    shift: float
    pairs: bool


def kernel_ridge(
    k_train_train: Kernel,
    y: Float[Tensor, "*#runs n k"],
    *,
    ridge: float = 0.0,
    cutoff: float | None = None,
) -> KernelFit:
    """Minimiser of 1/(2n) Σ_i ‖f(x_i) − y_i‖² + (ridge/2) ‖f‖²_K, that is c = (K + n·ridge·I)⁻¹ y; solved in float64.

    K is (n, n), the same for each of the k outputs, or (n, n, k, k) as ntk gives it. (Where n = k, four axes are those
    of the second.)
    ridge = 0 is kernel interpolation: the limit ridge → 0, c = K⁺ y, the pseudo-inverse when K is singular (see
    KernelFit.rank). cutoff: relative size of the eigenvalues taken for zero without ridge (None: n times the rounding
    unit of the dtype of K). By eigenvalues, or above 3,000 rows with a ridge by Cholesky, where `condition` and
    `smallest` come from Lanczos. Beyond what memory holds: regimes.tangent.iterative. For a net that starts at f_0
    pass y − f_0.
    ValueError: with Cholesky, a ridge so small that K + n·ridge·I is not positive definite in floating point.
    Source: [ChizatOyallonBach2019] for the link with lazy training.
    """
    not_negative("kernel_ridge", "ridge", ridge, single=True)
    rows = _rows("kernel_ridge", k_train_train, y, None)
    shift = rows.n * float(ridge)
    if shift > 0 and rows.matrix.ndim == 2 and len(rows.matrix) > EIGEN_ROWS:
        solved = cholesky_solve(rows.matrix, rows.columns(y), shift, cutoff)
        return KernelFit(rows.back(solved.solution), *solved[1:], shift, rows.pairs)
    parts = spectrum(rows.matrix, cutoff=cutoff)
    matrix = parts.values + shift
    used = parts.kept | (matrix > 0)
    inverse = torch.where(used, 1 / torch.where(used, matrix, 1.0), 0.0)
    coefficients = parts.vectors @ (inverse[..., None] * (parts.vectors.mT @ rows.columns(y)))
    smallest = torch.where(used, matrix, float("inf")).amin(-1)
    condition = torch.where(used.any(-1), matrix[..., -1] / smallest, float("inf"))
    return KernelFit(rows.back(coefficients), condition, parts.rank, parts.cutoff, parts.smallest, shift, rows.pairs)


def predict(fit: KernelFit, k_test_train: Across) -> Float[Tensor, "*runs n1 k"]:
    """Values of the fit at new points, in float64."""
    kind("predict", "fit", fit, KernelFit, "what kernel_ridge returns")
    require_across("predict", k_test_train, fit.coefficients, fit.pairs)
    return across(k_test_train, fit.coefficients, fit.pairs)


class _Rows(NamedTuple):
    """A kernel as a matrix over its rows: samples, or (sample, output) pairs."""

    matrix: Float[Tensor, "*runs rows rows"]
    n: int
    k: int
    pairs: bool

    def columns(self, values: Float[Tensor, "*#runs n k"]) -> Float[Tensor, "*#runs rows columns"]:
        """In float64, one column where the rows are pairs."""
        values = values.to(torch.float64)
        return values.flatten(-2)[..., None] if self.pairs else values

    def back(self, columns: Float[Tensor, "*runs rows columns"]) -> Float[Tensor, "*runs n k"]:
        return columns.reshape(*columns.shape[:-2], -1, self.k) if self.pairs else columns


def _rows(caller: str, kernel: Tensor, y: Tensor, start: Tensor | None) -> _Rows:
    """The kernel by rows, once targets and start fit to it."""
    pairs = of_pairs(kernel, y)
    axes = "*#runs n n k k" if pairs else "*#runs n n"
    arrays = {"k_train_train": (kernel, axes), "y": (y, "*#runs n k"), "f_train_0": (start, "*#runs n k")}
    cure = None if getattr(y, "ndim", 2) > 1 else "Pass y[:, None]"
    sizes = shapes(caller, cure=cure, optional=("f_train_0",), **arrays)
    real(caller, y=y, f_train_0=start)
    finite(caller, y=y, f_train_0=start)
    return _Rows(merge_outputs(kernel) if pairs else kernel, sizes["n"], sizes["k"], pairs)


def of_pairs(kernel: Tensor, y: Tensor) -> bool:
    """Whether the kernel is (n, n, k, k) for targets (n, k)."""
    n, k = (0, 0) if getattr(y, "ndim", 0) < 2 else y.shape[-2:]
    return getattr(kernel, "ndim", 0) >= 4 and tuple(kernel.shape[-4:]) == (n, n, k, k)


def across(
    k_test_train: Across,
    coefficients: Float[Tensor, "*#runs n k"],
    pairs: bool,
) -> Float[Tensor, "*runs n1 k"]:
    """Σ_j k(x, x_j) c_j in float64."""
    kernel = k_test_train.to(torch.float64)
    if not pairs:
        return kernel @ coefficients
    return torch.einsum("...ijab,...jb->...ia", kernel, coefficients)


def require_across(caller: str, kernel: Tensor, values: Tensor, pairs: bool, others: Tensor | None = None) -> None:
    """Refuse a test-train kernel that does not fit the values at the training points (and those at the others)."""
    cure = "The second axis of k_test_train is that of the training points"
    arrays = {"k_test_train": (kernel, "*#runs n1 n k k" if pairs else "*#runs n1 n"), "train": (values, "*#runs n k")}
    shapes(caller, cure=cure, optional=("f_test_0",), f_test_0=(others, "*#runs n1 k"), **arrays)
    real(caller, k_test_train=kernel, f_test_0=others)


class GradientFlow:
    """Exact solution of d/dt f_t(x) = −(1/n) Σ_i K(x, x_i)(f_t(x_i) − y_i), the tangent model under the square risk
    R = 1/(2n) Σ_i ‖f(x_i) − y_i‖²: no time stepping, t from 0 to inf.

    On the training points f_t − y = Σ_λ e^{−λt/n} u uᵀ (f_0 − y). All in float64, with any leading runs axes.
    K is (n, n), the same for each of the k outputs, or (n, n, k, k) as ntk gives it.
    Eigenvalues under the cutoff (see spectrum; `rank` says how many are above) never learn, so t = inf is the ridgeless
    solution started from f_0. f_train_0 = None is a start at zero.
    Source: [ChizatOyallonBach2019]; the time unit is that of regimes.conventions.
    """

    def __init__(
        self,
        k_train_train: Kernel,
        y: Float[Tensor, "*#runs n k"],
        f_train_0: Float[Tensor, "*#runs n k"] | None = None,
        *,
        cutoff: float | None = None,
    ) -> None:
        self._rows = _rows("GradientFlow", k_train_train, y, f_train_0)
        self.samples = self._rows.n
        parts = spectrum(self._rows.matrix, cutoff=cutoff)
        self.eigenvalues, self.vectors, self.kept = parts.values, parts.vectors, parts.kept
        self.rank, self.cutoff = parts.rank, parts.cutoff
        least = torch.where(parts.kept, parts.values, float("inf")).amin(-1)
        self.condition = torch.where(parts.kept.any(-1), parts.values[..., -1] / least, float("inf"))
        self.y = y.to(torch.float64)
        start = torch.zeros_like(self.y) if f_train_0 is None else f_train_0.to(torch.float64)
        self.residual = self.vectors.mT @ self._rows.columns(start - self.y)  # Uᵀ(f_0 − y)

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
        return self.y + self._rows.back(self.vectors @ (torch.exp(-self._exponent(t))[..., None] * self.residual))

    def test(
        self,
        t: Time,
        k_test_train: Across,
        f_test_0: Float[Tensor, "*#runs n1 k"] | None = None,
    ) -> Float[Tensor, "*runs n1 k"]:
        """f_t at other points: f_0(x) − K(x, X) K⁺ (1 − e^{−Kt/n}) (f_0(X) − y)."""
        require_across("GradientFlow.test", k_test_train, self.y, self._rows.pairs, f_test_0)
        change = across(k_test_train, self._rows.back(self.vectors @ self._learned(t)), self._rows.pairs)
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
