"""A loss that no two-layer net of m neurons can go below, from the ranks of its Hermite tensors."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, kind
from regimes.meanfield.particles import Particles, require_particles


@runtime_checkable
class Expanded(Protocol):
    """An overlap that knows the Hermite coefficients of its activation."""

    def coefficient(self, length: Tensor, degree: int) -> Tensor: ...


def rank_bound(teacher: Particles, overlap: Expanded, m: int, *, degrees: int = 40) -> Float[Tensor, " runs"]:
    """A lower bound of R(f) = ½ E(f − y)² over all nets f of m neurons without bias, x ~ N(0, I).

    The part of degree n of a neuron is a c_n(|b|) ⟨(b/|b|)^⊗n, H_n(x)⟩, and parts of several degrees are orthogonal. So
    that of f is a tensor of rank m at most, and unfolded into d^p rows and d^(n−p) columns, p = ⌊n/2⌋, a matrix of rank
    m at most. The distance of the teacher's from all of those is known [EckartYoung1936]:
    R(f) ≥ ½ Σ_n Σ_{i > m} s_i², s_1 ≥ s_2 ≥ ... the singular values of the teacher's matrix of degree n.
    It is 0 once m is the number of the teacher's neurons. Degrees above `degrees` are left out, which lowers it.
    """
    require_particles("rank_bound", teacher, k=1)
    kind("rank_bound", "overlap", overlap, Expanded, "an overlap with Hermite coefficients, such as relu_gaussian")
    count("rank_bound", "m", m, at_least=0)
    count("rank_bound", "degrees", degrees, at_least=0)
    length = teacher.input.norm(dim=2, keepdim=True)
    direction = teacher.input / length.masked_fill(length == 0, 1)
    cosines = direction @ direction.mT
    bound = torch.zeros_like(length[:, 0, 0])
    for degree in range(degrees + 1):
        charges = teacher.output * overlap.coefficient(length, degree)
        left, right = (_root(cosines**power) for power in (degree // 2, degree - degree // 2))
        values = torch.linalg.svdvals(left @ (charges * right))
        bound += values[:, m:].square().sum(1) / 2
    return bound


def _root(gram: Float[Tensor, "runs m m"]) -> Float[Tensor, "runs m m"]:
    """The symmetric square root of a Gram matrix."""
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(1)) @ vectors.mT
