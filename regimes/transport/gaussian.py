"""Optimal transport between Gaussians in closed form: ground truth for everything else here."""

from math import frexp
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, finite, given, real, shapes


class AffineMap(NamedTuple):
    """The map x ↦ target + (x − source) A, A symmetric positive definite: the gradient of a convex quadratic."""

    matrix: Float[Tensor, "d d"]
    source: Float[Tensor, "d"]
    target: Float[Tensor, "d"]

    def __call__(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        shapes("AffineMap", x=(x, f"*n {len(self.source)}"))
        return self.target + (x - self.source) @ self.matrix


def _root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(matrix)
    # Eigenvalues within rounding of 0 may come out as −1e-17: they are 0.
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def _check(caller: str, mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> None:
    """Two laws in one space, each covariance symmetric with eigenvalues that are not negative, as it was given."""
    given(caller, mean_x=mean_x, cov_x=cov_x, mean_y=mean_y, cov_y=cov_y)
    real(caller, numpy=True, mean_x=mean_x, cov_x=cov_x, mean_y=mean_y, cov_y=cov_y)
    shapes(caller, mean_x=(mean_x, "d"), cov_x=(cov_x, "d d"), mean_y=(mean_y, "d"), cov_y=(cov_y, "d d"))
    alike(caller, mean_x=mean_x, cov_x=cov_x, mean_y=mean_y, cov_y=cov_y)
    finite(caller, mean_x=mean_x, cov_x=cov_x, mean_y=mean_y, cov_y=cov_y)
    for name, matrix in (("cov_x", cov_x), ("cov_y", cov_y)):
        slack = 1e4 * torch.finfo(matrix.dtype).eps  # sums over samples round both halves differently
        values = torch.linalg.eigvalsh(matrix)
        if (matrix - matrix.T).abs().max() > slack * matrix.abs().max() or values[0] < -slack * values[-1].abs():
            raise ValueError(
                f"{caller} needs {name} symmetric, no eigenvalue negative; the least is {values[0]:.3g}. Check it."
            )


def bures_map(
    mean_x: Float[Tensor, "d"], cov_x: Float[Tensor, "d d"], mean_y: Float[Tensor, "d"], cov_y: Float[Tensor, "d d"]
) -> AffineMap:
    """Optimal map for ‖x − y‖² from N(mean_x, cov_x) to N(mean_y, cov_y).

    A = S⁻¹ (S cov_y S)^½ S⁻¹ with S = cov_x^½, in float64. ValueError if cov_x is singular, up to the rounding of its
    precision: then no map is determined.
    """
    _check("bures_map", mean_x, cov_x, mean_y, cov_y)
    (one, unit), (other, other_unit) = _scaled(cov_x), _scaled(cov_y)
    values = torch.linalg.eigvalsh(one)
    if values[0] <= max(1e-12, len(values) * torch.finfo(cov_x.dtype).eps) * values[-1]:
        raise ValueError(
            f"bures_map needs a regular cov_x; its least eigenvalue is {values[0] / values[-1]:.3g} of the "
            "largest: drop flat directions."
        )
    root = _root(one)
    inverse = torch.linalg.inv(root)
    matrix = inverse @ _root(_symmetric(root @ other @ root)) @ inverse * (other_unit**0.5 / unit**0.5)
    return AffineMap(_symmetric(matrix).to(cov_x.dtype), mean_x, mean_y)


def bures_cost(
    mean_x: Float[Tensor, "d"], cov_x: Float[Tensor, "d d"], mean_y: Float[Tensor, "d"], cov_y: Float[Tensor, "d d"]
) -> Float[Tensor, ""]:
    """W₂² = ‖mean_x − mean_y‖² + tr(cov_x + cov_y − 2 (S cov_y S)^½), S = cov_x^½; no factor ½, no root. In float64."""
    _check("bures_cost", mean_x, cov_x, mean_y, cov_y)
    (one, unit), (other, other_unit) = _scaled(cov_x), _scaled(cov_y)
    root = _root(one)
    cross = torch.trace(_root(_symmetric(root @ other @ root))) * (unit**0.5 * other_unit**0.5)
    spread = unit * torch.trace(one) + other_unit * torch.trace(other) - 2 * cross
    return ((mean_x.double() - mean_y.double()).square().sum() + spread).to(cov_x.dtype)


def _scaled(matrix: Float[Tensor, "d d"]) -> tuple[Float[Tensor, "d d"], float]:
    """A covariance in float64 over a power of four near its largest entry, and that, so that products are held."""
    largest = float(matrix.detach().abs().max())
    unit = 4.0 ** (frexp(largest)[1] // 2) if largest > 0 else 1.0
    return matrix.double() / unit, unit


def _symmetric(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    return (matrix + matrix.T) / 2
