"""Kernel ridge regression beyond what memory holds: preconditioned conjugate gradients on products with the kernel."""

from collections.abc import Callable
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.checks import count, finite, fraction, kind, positive, real, shapes
from regimes.errors import one_line, out_of_memory, shown
from regimes.tangent.operator import TangentOperator
from regimes.tangent.regression import across, require_across

Values = Float[Tensor, "n k"]
Columns = Float[Tensor, "rows columns"]
Product = Callable[[Values], Values]
_BLOCK = 2**26  # entries of a stored kernel that are read at a time


class IterativeFit(NamedTuple):
    """f(x) = Σ_i k(x, x_i) c_i with c = (K + shift·I)⁻¹ y to the relative `residual` ‖y − (K + shift) c‖ / ‖y‖ reached.

    `shift` = n·ridge is all that was added to the diagonal. `condition` of K + shift·I: (λ_max + shift)/shift with the
    λ_max of the preconditioner, as if the least eigenvalue of K were 0. `preconditioned`: the ratio of the extreme
    eigenvalues of the system that was iterated, as far as the iterations saw them; without a preconditioner `condition`
    is the same. `products`: vectors that were multiplied by the kernel. `pairs`: K is (n, n, k, k); None: not known, of
    a function, or no matter, with one output.
    """

    coefficients: Values
    residual: float
    shift: float
    condition: float
    preconditioned: float
    iterations: int
    products: int
    pairs: bool | None


def iterative_ridge(
    kernel: TangentOperator | Product | Tensor | Any,
    y: Values,
    *,
    ridge: float,
    generator: torch.Generator,
    rank: int = 100,
    tolerance: float = 1e-6,
    iterations: int = 1000,
    progress: Callable[[str], object] | None = None,
) -> IterativeFit:
    """Minimiser of 1/(2n) Σ_i ‖f(x_i) − y_i‖² + (ridge/2) ‖f‖²_K by conjugate gradients, K known by its products.

    kernel: a TangentOperator, which never forms K; a function from values (n, k) to K times them; or K itself, (n, n)
    or (n, n, k, k), as a tensor or a memory-mapped array, read in blocks. All vectors are of float64; products of an
    operator or a stored kernel are taken in its own precision, and no smaller residual than that allows is reached.
    Preconditioned by a randomised Nyström approximation of that rank (0: none), of `rank` products; it pays where the
    spectrum falls below n·ridge within that rank. For f(x) at other points: predict_iterative, or
    operator.jvp(operator.vjp(c), x).
    ValueError: the residual is not under `tolerance` after `iterations`: no answer that has not converged is returned;
    and K that is not positive semidefinite beyond rounding.
    Source: [FrangellaTroppUdell2023].
    """
    caller = "iterative_ridge"
    positive(caller, "ridge", ridge, single=True)
    fraction(caller, "tolerance", tolerance)
    count(caller, "rank", rank, 0)
    count(caller, "iterations", iterations)
    checks.generator(caller, generator)
    checks.function(caller, progress=progress)
    shapes(caller, y=(y, "n k"), cure=None if getattr(y, "ndim", 2) > 1 else "Pass y[:, None]")
    real(caller, y=y)
    finite(caller, y=y)
    n, k = y.shape
    product, coupled = _product(caller, kernel, y)
    known = isinstance(kernel, TangentOperator) or hasattr(kernel, "shape")
    pairs = coupled if known and k > 1 else None
    made = 0

    def apply(columns: Columns) -> Columns:
        nonlocal made
        values = [column.reshape(n, k) for column in columns.T] if coupled else [columns]
        made += columns.shape[1]
        images = [product(value).to(y.device, torch.float64).reshape(len(columns), -1) for value in values]
        result = torch.cat(images, 1)
        if not bool(result.isfinite().all()):
            raise ValueError(f"{caller} needs a finite kernel; a product with it has NaN or infinite entries.")
        return result

    shift, target = n * float(ridge), y.to(torch.float64).reshape(-1, 1 if coupled else k)
    size = len(target)
    preconditioner = _Nystrom.made(apply, size, min(rank, size), shift, target, generator)
    solution, residual, steps, spread = _gradients(
        lambda v: apply(v) + shift * v, preconditioner, target, tolerance, iterations, progress
    )
    if not residual <= tolerance:
        raise ValueError(
            f"{caller} needs more than {iterations} iterations: the residual is {residual:.2e} of ‖y‖, not "
            f"{tolerance:.0e}. Raise iterations, rank or ridge, or compute products in float64."
        )
    condition = (preconditioner.top + shift) / shift if rank else spread
    return IterativeFit(solution.reshape(n, k), residual, shift, condition, spread, steps, made, pairs)


def predict_iterative(fit: IterativeFit, k_test_train: Tensor) -> Float[Tensor, "n1 k"]:
    """Values of the fit at other points, from K between them and the training points: (n1, n) or (n1, n, k, k).

    ValueError: K of the other kind than that which was fitted (see IterativeFit.pairs).
    """
    kind("predict_iterative", "fit", fit, IterativeFit, "what iterative_ridge returns")
    pairs = getattr(k_test_train, "ndim", 2) == 4 if fit.pairs is None else fit.pairs
    require_across("predict_iterative", k_test_train, fit.coefficients, pairs)
    finite("predict_iterative", k_test_train=k_test_train)
    return across(k_test_train, fit.coefficients, pairs)


def _product(caller: str, kernel: Any, y: Values) -> tuple[Product, bool]:
    """The product with values (n, k), and whether it couples the outputs."""
    n, k = y.shape
    if isinstance(kernel, TangentOperator):
        if (len(kernel.x), kernel.outputs) != (n, k):
            got = (len(kernel.x), kernel.outputs)
            raise ValueError(f"{caller} needs targets of the shape of the outputs {got}; got {(n, k)}.")
        dtype, device = kernel.tangent.dtype, kernel.tangent.device
        return lambda v: kernel.matvec(v.to(device, dtype)), True
    if not hasattr(kernel, "shape"):
        if not callable(kernel):
            raise ValueError(
                f"{caller} needs a kernel as a tensor, a memory map, a tangent operator or a function v -> K v; got "
                f"{shown(kernel)}."
            )
        return _checked(caller, kernel), True
    shape = tuple(kernel.shape)
    if shape not in ((n, n), (n, n, k, k)):
        raise ValueError(
            f"{caller} needs a kernel ({n}, {n}) or ({n}, {n}, {k}, {k}) for targets {(n, k)}; got {shape}."
        )
    real(caller, numpy=True, kernel=kernel)
    full, step = len(shape) == 4, max(1, _BLOCK // (n * k * k))

    def by_blocks(values: Values) -> Values:
        parts = []
        for start in range(0, n, step):
            read = kernel[start : start + step]
            block = (read if isinstance(read, Tensor) else torch.from_numpy(np.array(read))).to(values)
            parts.append(torch.einsum("ijab,jb->ia", block, values) if full else block @ values)
        return torch.cat(parts)

    return by_blocks, full


def _checked(caller: str, function: Callable[[Values], Any]) -> Product:
    """A caller's own product, which has to take and give float64 values (n, k)."""

    def product(values: Values) -> Values:
        try:
            image = function(values)
        except (TypeError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            raise ValueError(
                f"{caller} needs a function of float64 values {tuple(values.shape)} giving K times them; it failed: "
                f"{one_line(error, 160)}."
            ) from error
        if not isinstance(image, Tensor) or image.shape != values.shape:
            got = tuple(image.shape) if isinstance(image, Tensor) else shown(image)
            raise ValueError(f"{caller} needs a function that keeps the shape {tuple(values.shape)}; it gave {got}.")
        return image

    return product


class _Nystrom:
    """P⁻¹ = (λ_r + shift) U (Λ + shift)⁻¹ Uᵀ + (I − U Uᵀ) of K ≈ U Λ Uᵀ with rank r."""

    def __init__(self, vectors: Columns, values: Tensor, shift: float) -> None:
        self.vectors, self.values, self.shift = vectors, values, shift
        self.top = float(values.max()) if len(values) else 0.0

    @classmethod
    def made(
        cls,
        apply: Callable[[Columns], Columns],
        size: int,
        rank: int,
        shift: float,
        like: Tensor,
        generator: torch.Generator,
    ) -> "_Nystrom":
        """The eigenvalues of Y (Ωᵀ Y)⁻¹ Yᵀ with Y = K Ω, computed with a shift at rounding that is taken off again."""
        if rank == 0:
            return cls(like.new_zeros(size, 0), like.new_zeros(0), shift)
        probes = torch.randn(size, rank, generator=generator, device=generator.device, dtype=torch.float64)
        probes = torch.linalg.qr(probes.to(like.device)).Q
        image = apply(probes)
        small = torch.finfo(torch.float64).eps * float(image.norm()) * size**0.5
        image = image + small * probes
        inner = probes.mT @ image
        factor, failed = torch.linalg.cholesky_ex((inner + inner.mT) / 2)
        if int(failed):
            values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
            if float(values[0]) < -1e-5 * float(values[-1]):
                raise ValueError(
                    "iterative_ridge needs a positive semidefinite kernel; on a random space its least eigenvalue is "
                    f"{float(values[0]):.3g}, its largest {float(values[-1]):.3g}."
                )
            kept = values > 1e-10 * values[-1]
            half = image @ (vectors[:, kept] / values[kept].sqrt())
        else:
            half = torch.linalg.solve_triangular(factor, image.mT, upper=False).mT
        found = torch.linalg.svd(half, full_matrices=False)
        return cls(found.U, (found.S.square() - small).clamp(min=0), shift)

    def __call__(self, residual: Columns) -> Columns:
        if not len(self.values):
            return residual
        along = self.vectors.mT @ residual
        weights = (self.values.min() + self.shift) / (self.values + self.shift) - 1
        return residual + self.vectors @ (weights[:, None] * along)


def _gradients(
    apply: Callable[[Columns], Columns],
    precondition: Callable[[Columns], Columns],
    target: Columns,
    tolerance: float,
    iterations: int,
    progress: Callable[[str], object] | None,
) -> tuple[Columns, float, int, float]:
    """Conjugate gradients, each column for itself: solution, true relative residual, steps, spread of the spectrum."""
    scale = float(target.norm())
    solution = torch.zeros_like(target)
    if scale == 0:
        return solution, 0.0, 0, 1.0
    residual, step, spread = target.clone(), 0, 1.0
    for _ in range(3):  # from the true residual anew where the one carried along has drifted from it
        z = precondition(residual)
        direction, product = z, (residual * z).sum(0)
        diagonal, beside, shown = [], [], int(target.norm(dim=0).argmax())
        goal = 0.3 * tolerance * scale
        while step < iterations and float(residual.norm()) > goal:
            image = apply(direction)
            bend = (direction * image).sum(0)
            if bool((bend < 0).any()):
                raise ValueError(
                    "iterative_ridge needs a positive definite kernel with the ridge; a direction has less."
                )
            along = torch.where(bend > 0, product / bend, 0.0)
            solution = solution + along * direction
            residual = residual - along * image
            z = precondition(residual)
            before, product = product, (residual * z).sum(0)
            share = torch.where(before > 0, product / before, 0.0)
            direction = z + share * direction
            diagonal.append(float(along[shown]))
            beside.append(float(share[shown]))
            step += 1
            if progress is not None and step % 10 == 0:
                progress(f"residual {float(residual.norm()) / scale:.2e} after {step} iterations")
        spread = max(spread, _spread(diagonal, beside))
        residual = target - apply(solution)
        if float(residual.norm()) <= tolerance * scale or step >= iterations:
            break
    reached = float(residual.norm()) / scale
    return solution, reached if isfinite(reached) else inf, step, spread


def _spread(along: list[float], share: list[float]) -> float:
    """Ratio of the extreme eigenvalues that conjugate gradients have seen: of their tridiagonal matrix."""
    steps = next((number for number, value in enumerate(along) if not value > 0), len(along))
    if steps < 2:
        return 1.0
    a, b = torch.tensor(along[:steps], dtype=torch.float64), torch.tensor(share[: steps - 1], dtype=torch.float64)
    main = 1 / a
    main[1:] += b / a[:-1]
    off = b.sqrt() / a[:-1]
    values = torch.linalg.eigvalsh(torch.diag(main) + torch.diag(off, 1) + torch.diag(off, -1))
    return float(values[-1] / values[0]) if float(values[0]) > 0 else inf
