"""Matrices held to a form by torch parametrisations: skew-symmetric, negative definite, orthogonal; fields of them.

A restricted linear layer is trained by free numbers, as many as the form leaves: `parameter_count` counts those. State
dicts, copies, `initialise` and tangent kernels take it like any layer.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from regimes.activations import TANH, Activation, require_activation
from regimes.checks import count, finite, kind, not_negative, real, shapes, without_values
from regimes.models.potentials import Potential


class _Triangle(nn.Module):
    """A square matrix made of free numbers, as many as there are entries in its lower triangle."""

    def __init__(self, width: int, diagonal: int) -> None:
        super().__init__()
        self.width, self.diagonal = width, diagonal

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows and columns of the free numbers, in order."""
        rows, columns = torch.tril_indices(self.width, self.width, self.diagonal, device=device)
        return rows, columns

    def lower(self, free: Float[Tensor, " free"]) -> Float[Tensor, "width width"]:
        """The lower triangle of these numbers."""
        return free.new_zeros(self.width, self.width).index_put(self.places(free.device), free)

    def from_free(self, matrix: Float[Tensor, "width width"]) -> Float[Tensor, " free"]:
        """The free numbers that a matrix without any form gives: its entries in the triangle."""
        return matrix[self.places(matrix.device)]

    def require(self, matrix: Tensor, defect: Callable[[Tensor], Tensor], needed: str) -> None:
        """Refuse what is no matrix of this width, and one whose defect is more than rounding."""
        shapes("the weight", cure="Change the matrix", matrix=(matrix, f"{self.width} {self.width}"))
        real("the weight", half=True, matrix=matrix)
        if without_values(matrix):
            return
        finite("the weight", matrix=matrix)
        missed = float(defect(matrix).abs().max())
        if not missed <= 100 * torch.finfo(matrix.dtype).eps * float(matrix.abs().max()):
            raise ValueError(f"the weight needs {needed}; got one that misses it by {missed:.3g}. Change the matrix.")


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
        self.require(matrix, lambda a: a + a.mT, "a skew-symmetric matrix")
        return self.from_free(matrix)


class NegativeDefinite(_Triangle):
    """A = −LLᵀ − margin·I with L lower: symmetric, all eigenvalues at most −margin."""

    def __init__(self, width: int, margin: float) -> None:
        super().__init__(width, 0)
        self.margin = float(margin)

    def forward(self, free: Float[Tensor, " free"]) -> Float[Tensor, "width width"]:
        """A."""
        lower = self.lower(free)
        return -(lower @ lower.mT) - self.margin * torch.eye(len(lower), dtype=free.dtype, device=free.device)

    def right_inverse(self, matrix: Float[Tensor, "width width"]) -> Float[Tensor, " free"]:
        """The free numbers of such a matrix, L with a diagonal of at least 0; ValueError for another."""
        self.require(matrix, lambda a: a - a.mT, "a symmetric matrix")
        if without_values(matrix):
            return self.from_free(matrix)
        exact = matrix.double()
        rest = -(exact + exact.mT) / 2 - self.margin * torch.eye(self.width, dtype=exact.dtype, device=exact.device)
        lower, failed = torch.linalg.cholesky_ex(rest)
        if failed:  # singular up to rounding, or another matrix
            values, vectors = torch.linalg.eigh(rest)
            rounding = self.width * torch.finfo(matrix.dtype).eps * max(float(values.abs().max()), self.margin)
            if not float(values[0]) >= -rounding:
                raise ValueError(
                    f"the weight needs a matrix with all eigenvalues below −{self.margin:g}, or there; got one up "
                    f"to {-float(values[0]) - self.margin:.3g}. Change the matrix, or the margin."
                )
            upper = torch.linalg.qr((vectors * values.clamp(min=0).sqrt()).mT).R
            lower = (upper * torch.where(upper.diagonal() < 0, -1.0, 1.0)[:, None]).mT
        return self.from_free(lower).to(matrix.dtype)


def skew(linear: nn.Linear) -> nn.Linear:
    """The same layer with a skew-symmetric weight L − Lᵀ, L the strictly lower triangle of the present one."""
    return _restricted("skew", linear, Skew(_width("skew", linear)), 0.0)


def negative_definite(linear: nn.Linear, *, margin: float = 0.0) -> nn.Linear:
    """The same layer with weight −LLᵀ − margin·I, L the lower triangle of the present one. With margin 0 and L singular
    it is negative semidefinite.
    """
    not_negative("negative_definite", "margin", margin, single=True)
    form = NegativeDefinite(_width("negative_definite", linear), margin)
    return _restricted("negative_definite", linear, form, -form.margin - max(1.0, form.margin))


def orthogonal(linear: nn.Linear) -> nn.Linear:
    """The same layer with orthonormal rows, or columns if it has more rows than columns: a point of Stiefel's manifold.

    It is torch's parametrisation by the matrix exponential or Householder reflections; the present weight is made
    orthonormal.
    """
    kind("orthogonal", "linear", linear, nn.Linear, "an nn.Linear")
    _require_free("orthogonal", linear)
    real("orthogonal", weight=linear.weight)
    finite("orthogonal", weight=linear.weight)
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


def _require_free(caller: str, linear: nn.Linear) -> None:
    """Refuse a weight that has a parametrisation, and numbers of which no form can be made."""
    if parametrize.is_parametrized(linear, "weight"):
        raise ValueError(f"{caller} needs a layer whose weight is free; this one has a parametrisation already.")
    real(caller, half=True, weight=linear.weight)
    if not without_values(linear.weight):
        finite(caller, weight=linear.weight)


@torch.no_grad()
def _restricted(caller: str, linear: nn.Linear, form: Skew | NegativeDefinite, start: float) -> nn.Linear:
    """The layer with the form made of its present weight; before, start·I is put there, which is of the form."""
    _require_free(caller, linear)
    raw = linear.weight.clone()
    linear.weight.copy_(start * torch.eye(len(raw), dtype=raw.dtype, device=raw.device))
    parametrize.register_parametrization(linear, "weight", form)
    put_weight(linear, raw)
    return linear


@torch.no_grad()
def put_weight(module: nn.Module, weight: Tensor) -> None:
    """Set a layer's weight to a matrix drawn without regard to its form.

    A form of this file takes the entries of its triangle. Others are asked for what they make of the matrix: torch's
    `orthogonal` gives the nearest one in its QR decomposition. ValueError: a matrix of another shape, and where a
    parametrisation cannot be set.
    """
    kind("put_weight", "weight", weight, Tensor, "a tensor")
    own = getattr(module, "weight", None)
    kind("put_weight", "module", module if isinstance(own, Tensor) else None, nn.Module, "a layer with a weight")
    shape = tuple(own.shape)  # pyright: ignore[reportOptionalMemberAccess]
    if tuple(weight.shape) != shape:
        raise ValueError(f"put_weight needs a weight of shape {shape}; got {tuple(weight.shape)}. Change the weight.")
    real("put_weight", half=True, weight=weight)
    if not without_values(weight):
        finite("put_weight", weight=weight)
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
        count("AntisymmetricField", "width", width, at_least=2)
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
        count("DissipativeField", "width", width, at_least=2)
        inputs = energy.linear.in_features if isinstance(energy.linear, nn.Linear) else None
        if inputs != width:
            got = "a convolution" if inputs is None else f"one of {inputs}"
            raise ValueError(
                f"DissipativeField needs an energy of {width} features, as width says; got {got}. Try "
                f"dense_potential({width})."
            )
        self.energy = energy
        self.turn = skew(nn.Linear(width, width, bias=False))
        self.loss = negative_definite(nn.Linear(width, width, bias=False)) if dissipates else None

    def forward(self, z: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """z'."""
        gradient = self.energy(z)
        turned = self.turn(gradient)
        return turned if self.loss is None else turned + self.loss(gradient)
