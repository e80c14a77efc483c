"""Matrices held to a form by torch parametrisations: skew-symmetric, negative definite, orthogonal; fields of them.

A restricted linear layer is trained by free numbers, as many as the form leaves: `parameter_count` counts those. State
dicts, copies, `initialise` and tangent kernels take it like any layer.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from regimes.activations import TANH, Activation, require_activation
from regimes.checks import kind, not_negative
from regimes.models.potentials import Potential


class _Triangle(nn.Module):
    """A square matrix whose entries are those of a vector of free numbers, or zero."""

    index: Tensor
    sign: Tensor

    def __init__(self, width: int, diagonal: int) -> None:
        super().__init__()
        self.rows, self.columns = torch.tril_indices(width, width, diagonal)
        index, sign = torch.zeros(width, width, dtype=torch.long), torch.zeros(width, width)
        index[self.rows, self.columns] = torch.arange(len(self.rows))
        sign[self.rows, self.columns] = 1.0
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("sign", sign, persistent=False)

    def lower(self, free: Float[Tensor, " free"]) -> Float[Tensor, "width width"]:
        """The lower triangle of these numbers."""
        return free[self.index] * self.sign.to(free.dtype)

    def from_free(self, matrix: Float[Tensor, "width width"]) -> Float[Tensor, " free"]:
        """The free numbers that a matrix without any form gives: its entries in the triangle."""
        return matrix[self.rows, self.columns]


class Skew(_Triangle):
    """A = L − Lᵀ with L strictly lower: Aᵀ = −A."""

    def __init__(self, width: int) -> None:
        super().__init__(width, -1)

    def forward(self, free: Float[Tensor, " free"]) -> Float[Tensor, "width width"]:
        """A."""
        lower = self.lower(free)
        return lower - lower.mT

    def right_inverse(self, matrix: Float[Tensor, "width width"]) -> Float[Tensor, " free"]:
        """The free numbers of a skew matrix; ValueError for another."""
        _require(matrix, matrix + matrix.mT, "a skew-symmetric matrix")
        return self.from_free(matrix)


class NegativeDefinite(_Triangle):
    """A = −LLᵀ − margin·I with L lower: symmetric, all eigenvalues at most −margin."""

    def __init__(self, width: int, margin: float) -> None:
        super().__init__(width, 0)
        self.margin = margin

    def forward(self, free: Float[Tensor, " free"]) -> Float[Tensor, "width width"]:
        """A."""
        lower = self.lower(free)
        return -(lower @ lower.mT) - self.margin * torch.eye(len(lower), dtype=free.dtype, device=free.device)

    def right_inverse(self, matrix: Float[Tensor, "width width"]) -> Float[Tensor, " free"]:
        """The free numbers of such a matrix; ValueError for another."""
        _require(matrix, matrix - matrix.mT, "a symmetric matrix")
        unit = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        lower, failed = torch.linalg.cholesky_ex(-matrix - self.margin * unit)
        if failed:
            raise ValueError(
                f"the weight needs a matrix with all eigenvalues below −{self.margin:g}; got one up to "
                f"{float(torch.linalg.eigvalsh(matrix).max()):.3g}. Change the matrix, or the margin."
            )
        return self.from_free(lower)


def _require(matrix: Tensor, defect: Tensor, needed: str) -> None:
    if float(defect.abs().max()) > 100 * torch.finfo(matrix.dtype).eps * float(matrix.abs().max()):
        raise ValueError(f"the weight needs {needed}; got one that misses it by {float(defect.abs().max()):.3g}.")


def skew(linear: nn.Linear) -> nn.Linear:
    """The same layer with a skew-symmetric weight, made of the lower triangle of the present one."""
    return _restricted("skew", linear, Skew(_width("skew", linear)))


def negative_definite(linear: nn.Linear, *, margin: float = 0.0) -> nn.Linear:
    """The same layer with weight −LLᵀ − margin·I, L the lower triangle of the present one. With margin 0 and L singular
    it is negative semidefinite.
    """
    not_negative("negative_definite", "margin", margin, single=True)
    return _restricted("negative_definite", linear, NegativeDefinite(_width("negative_definite", linear), margin))


def orthogonal(linear: nn.Linear) -> nn.Linear:
    """The same layer with orthonormal rows, or columns if it has more rows than columns: a point of Stiefel's manifold.

    It is torch's parametrisation by the matrix exponential or Householder reflections; the present weight is made
    orthonormal.
    """
    kind("orthogonal", "linear", linear, nn.Linear, "an nn.Linear")
    _refuse_twice("orthogonal", linear)
    parametrizations.orthogonal(linear)
    return linear


def _width(caller: str, linear: nn.Linear) -> int:
    kind(caller, "linear", linear, nn.Linear, "an nn.Linear")
    if linear.in_features != linear.out_features or linear.in_features < 2:
        raise ValueError(
            f"{caller} needs a square layer of at least 2 features; got {linear.in_features} to {linear.out_features}. "
            "Change the width."
        )
    return linear.in_features


def _refuse_twice(caller: str, linear: nn.Linear) -> None:
    if parametrize.is_parametrized(linear, "weight"):
        raise ValueError(f"{caller} needs a layer whose weight is free; this one has a parametrisation already.")


@torch.no_grad()
def _restricted(caller: str, linear: nn.Linear, form: Skew | NegativeDefinite) -> nn.Linear:
    _refuse_twice(caller, linear)
    form.to(linear.weight.device)
    lower = form.from_free(linear.weight)
    if isinstance(form, NegativeDefinite):  # Cholesky's factor has a positive diagonal
        lower = torch.where(form.rows == form.columns, lower.abs() + torch.finfo(lower.dtype).tiny, lower)
    linear.weight.copy_(form(lower))
    parametrize.register_parametrization(linear, "weight", form)
    return linear


@torch.no_grad()
def put_weight(module: nn.Module, weight: Tensor) -> None:
    """Set a layer's weight to a matrix drawn without regard to its form.

    A form of this file takes the entries of its triangle. Others are asked for what they make of the matrix: torch's
    `orthogonal` gives the nearest one in its QR decomposition. ValueError where a parametrisation cannot be set.
    """
    if not parametrize.is_parametrized(module, "weight"):
        module.weight.copy_(weight)  # type: ignore[union-attr,operator]
        return
    forms = module.parametrizations.weight  # type: ignore[union-attr]
    if len(forms) == 1 and isinstance(forms[0], _Triangle):  # type: ignore[arg-type]
        forms.original.copy_(forms[0].from_free(weight))  # type: ignore[union-attr,operator,index]
        return
    for form in forms:  # type: ignore[union-attr]
        if not hasattr(form, "right_inverse"):
            raise ValueError(
                f"a weight made by {type(form).__name__} cannot be drawn anew: it has no right_inverse. Give that "
                "class one, or draw its numbers yourself."
            )
    module.weight = weight  # by right_inverse


class AntisymmetricField(nn.Module):
    """r(z) = σ((S − γI) z + b), S skew: with σ' ≥ 0 no eigenvalue of its Jacobian has a real part above 0.

    For σ' > 0 the Jacobian D(S − γI) is similar to D^½SD^½ − γD. Frozen in time that is stability of the linearised
    equation; it bounds no amplification where S depends on depth. Source: [HaberRuthotto2018].
    """

    def __init__(self, width: int, *, damping: float = 0.0, activation: Activation = TANH) -> None:
        super().__init__()
        not_negative("AntisymmetricField", "damping", damping, single=True)
        require_activation(activation, "AntisymmetricField")
        self.linear = skew(nn.Linear(width, width))
        self.damping, self.activation = damping, activation

    def forward(self, z: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """r(z)."""
        return self.activation.value(self.linear(z) - self.damping * z)


class DissipativeField(nn.Module):
    """z' = (J − R)∇H(z) with J skew and R = LLᵀ ⪰ 0, so that H' = −∇HᵀR∇H ≤ 0. Without R, H is constant.

    H is a Potential, whose `value` it is. A port-Hamiltonian field without ports; the flow has this property, and a
    discrete step of h as far as its order. Source: [Celledoni2021] for Hamiltonian fields.
    """

    def __init__(self, energy: Potential, width: int, *, dissipates: bool = True) -> None:
        super().__init__()
        kind("DissipativeField", "energy", energy, Potential, "a Potential")
        kind("DissipativeField", "dissipates", dissipates, bool, "True or False")
        self.energy = energy
        self.turn = skew(nn.Linear(width, width, bias=False))
        self.loss = negative_definite(nn.Linear(width, width, bias=False)) if dissipates else None

    def forward(self, z: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """z'."""
        gradient = self.energy(z)
        turned = self.turn(gradient)
        return turned if self.loss is None else turned + self.loss(gradient)
