"""Overlaps K(u, v) = E σ(u·x) σ(v·x) of two neurons over the inputs, in closed form, with their derivatives.

An overlap is called on the input weights of two nets and gives all K(u_i, v_j) and a pull-back. Where only sums over j
are wanted, as in a step of training, `field` gives them without the matrices of derivatives: two matrix products and
one pass of elementary functions over the pairs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, count, given, real, shapes
from regimes.meanfield.joined_fields import ErrorFunctionJoined, ReluJoined

Pull = Callable[[Tensor], Tensor]
Overlap = Callable[[Tensor, Tensor], tuple[Tensor, Pull]]
Weights = Float[Tensor, "runs m d"]
OtherWeights = Float[Tensor, "runs other d"]
Charges = Float[Tensor, "runs other"]
Field = tuple[Float[Tensor, "runs m"], Float[Tensor, "runs m d"]]

# The logistic function as 1/2 + 1/2 Σ_k weight_k erf(s/(√2 width_k)): a logistic variable is a normal one of random
# width [AndrewsMallows1974]. Weights and widths are those of the least largest error over all s [MonahanStefanski1992],
# found by Lawson's reweighted least squares.
_LOGISTIC: dict[int, tuple[list[float], list[float]]] = {
    3: (
        [0.25220518353584875, 0.5852231403268656, 0.16257167613728557],
        [1.1014084976115683, 1.7307452397289549, 2.7469717684643866],
    ),
    4: (
        [0.10650279596575306, 0.4583643529253242, 0.37418371074777335, 0.06094914036114924],
        [0.9773920615314757, 1.431084624374978, 2.1047075681038625, 3.114646099700389],
    ),
    6: (
        [
            0.018308629775683143, 0.17176663927141902, 0.37326778849419645, 0.3177966501612122, 0.10968334692215786,
            0.009176945375331333,
        ],
        [
            0.82511319826024, 1.1133932967728697, 1.4944753949538998, 2.0153671341207864, 2.7239102765691596,
            3.7079046884959093,
        ],
    ),
    8: (
        [
            0.0033842529776734968, 0.053062382966132256, 0.19863350991517448, 0.3175887452358022, 0.2721442496594391,
            0.12755968937190454, 0.026324200970334482, 0.0013029689035393677,
        ],
        [
            0.7342778499903749, 0.9469772874115894, 1.2087308766720557, 1.5445889615807162, 1.9797562666822917,
            2.539977326440782, 3.2595725621292826, 4.225954824155312,
        ],
    ),
    10: (
        [
            0.0005059973116589755, 0.012413136940519898, 0.07272998928106159, 0.18520150395817134, 0.2666712281714241,
            0.24732905454128218, 0.15127038457968844, 0.05467953528173931, 0.008853397722428116, 0.000345772212026102,
        ],
        [
            0.6626141993053887, 0.8259003463517905, 1.015956616917098, 1.2473453182055112, 1.5338487410947659,
            1.8910736213199788, 2.3370943518128477, 2.8943256526537477, 3.5987040319405774, 4.538255142870587,
        ],
    ),
}  # fmt: skip
LOGISTIC_ERROR = {3: 4.4e-5, 4: 4.8e-6, 6: 8.8e-8, 8: 2.4e-9, 10: 1.4e-10}  # of the function, the largest over all s


@runtime_checkable
class Summed(Protocol):
    """An overlap that also gives sums over the neurons of the second net."""

    def __call__(self, u: Weights, v: OtherWeights) -> tuple[Tensor, Pull]: ...

    def field(self, u: Weights, v: OtherWeights, charges: Charges) -> Field: ...


class ReluOverlap:
    """K(u, v) = E relu(u·x) relu(v·x) for x ~ N(0, I), or uniform on the unit sphere, and its derivatives.

    Called: all K(u_i, v_j), and the pull-back w ↦ (Σ_j w_ij ∂K(u_i, v_j)/∂u_i)_i.
    K = |u||v|/(2π) (sin φ + (π − φ) cos φ) and ∂K/∂u = (|v| sin φ u/|u| + (π − φ) v)/(2π), φ the angle between u and v.
    On the sphere of R^d: divided by d, as |x|² has mean d. cos φ is clipped to [−1, 1], which it leaves by rounding
    only; the error of φ near 0 cancels in K and in ∂K/∂u. Where u = 0 the derivative is set to 0, as that of ReLU.
    Source: [ChoSaul2009].
    """

    def __init__(self, name: str, *, sphere: bool) -> None:
        self.__name__, self.sphere = name, sphere

    def __call__(self, u: Weights, v: OtherWeights) -> tuple[Float[Tensor, "runs m other"], Pull]:
        _require_weights(self.__name__, u, v)
        factor = self._factor(u)
        (length_u, direction), (length_v, other) = _polar(u), _polar(v)
        cosine = (direction @ other.mT).clamp_(-1, 1)
        parallel = (
            cosine.abs() >= 1
        )  # where autograd finds infinite slopes of sine and rest, which cancel in those of K
        inside = cosine.masked_fill(parallel, 0)
        sine = _sine(inside).masked_fill(parallel, 0)
        rest = torch.where(parallel, math.pi * (cosine > 0).to(cosine), (-inside).acos())
        value = (length_u * length_v.mT) * (sine + rest * cosine) * factor

        def pull(weights: Tensor) -> Tensor:
            slope = direction * ((weights * sine) @ length_v) + (weights * rest) @ v
            return (slope * factor).masked_fill(length_u == 0, 0)

        return value, pull

    def field(self, u: Weights, v: OtherWeights, charges: Charges) -> Field:
        """Σ_j charge_j K(u_i, v_j) and Σ_j charge_j ∂K(u_i, v_j)/∂u_i; K is u·∂K/∂u, as it is homogeneous in u."""
        given(f"{self.__name__}.field", charges=charges)
        _require_weights(f"{self.__name__}.field", u, v, charges)
        (length, direction), (length_v, other) = _polar(u), _polar(v)
        cosine = (direction @ other.mT).clamp_(-1, 1)
        column = charges.unsqueeze(2)
        radial = _sine(cosine) @ (column * length_v)
        slope = torch.baddbmm(direction * radial, _rest(cosine), column * v)
        slope = slope.mul_(self._factor(u)).masked_fill_(length == 0, 0)
        return (u * slope).sum(2), slope

    def joined(self, m: int, v: OtherWeights, charges: Charges) -> ReluJoined:
        """`field` of any net of m neurons joined with v, in memory of its own."""
        return ReluJoined(self._factor(v), m, v, charges)

    def coefficient(self, length: Tensor, degree: int) -> Tensor:
        """E relu(|u| t) h_n(t) for t ~ N(0, 1), h_n the normalised Hermite polynomial of that degree.

        For even n its square is |u|² ((n − 3)!!)²/(2π n!), for n = 1 it is |u|²/4, for other odd n zero.
        """
        if self.sphere:
            raise ValueError("coefficient needs Gaussian inputs; got the overlap on the sphere. Use relu_gaussian.")
        if degree % 2:
            return length * (0.5 if degree == 1 else 0.0)
        odd = math.prod(range(degree - 3, 1, -2)) if degree > 2 else 1
        sign = -1 if degree > 2 and degree % 4 == 0 else 1
        return length * (sign * odd / math.sqrt(2 * math.pi * math.factorial(degree)))

    def _factor(self, u: Tensor) -> float:
        return 1 / (2 * math.pi * (u.shape[2] if self.sphere else 1))


class ErrorFunctionOverlap:
    """K(u, v) = E σ(u·x) σ(v·x) for x ~ N(0, I) and σ(s) = constant + Σ_k weight_k erf(s/(√2 width_k)).

    Called: all K(u_i, v_j), and the pull-back as in `ReluOverlap`. With z_kl = ρ_k(u) ρ_l(v) u·v and
    ρ_k(u) = (width_k² + |u|²)^-½:
    K = constant² + (2/π) Σ_kl weight_k weight_l arcsin z_kl and
    ∂K/∂u = (2/π) Σ_kl weight_k weight_l ρ_k(u) ρ_l(v) (v − ρ_k(u)² (u·v) u)/√(1 − z_kl²).
    1 − z_kl² is kept at or above width_k² ρ_k(u)², which it is by Cauchy-Schwarz: with weights of 1e8, all is finite.
    Error: where u and v are nearly parallel the differences lose digits, a relative error of about
    1e-16·min(|u|², |v|²)/width². Source: [Williams1996], for one error function.
    """

    def __init__(self, name: str, weights: Sequence[float], widths: Sequence[float], constant: float = 0.0) -> None:
        self.__name__, self.constant = name, constant
        self.terms = tuple(zip(weights, widths, strict=True))

    def coefficient(self, length: Tensor, degree: int) -> Tensor:
        """E σ(|u| t) h_n(t) for t ~ N(0, 1), h_n the normalised Hermite polynomial of that degree.

        For odd n it is √(2 s_n/π) Σ_k weight_k (|u| ρ_k)^n up to its sign, arcsin z = Σ_n s_n z^n.
        """
        if degree % 2 == 0:
            return torch.full_like(length, self.constant if degree == 0 else 0.0)
        half = degree // 2
        series = math.comb(2 * half, half) / 4**half / degree
        powers = [weight * (length / (length.square() + width**2).sqrt()) ** degree for weight, width in self.terms]
        return math.sqrt(2 * series / math.pi) * torch.stack(powers).sum(0)

    def value(self, s: Tensor) -> Tensor:
        """σ(s), elementwise."""
        terms = [weight * torch.erf(s / (math.sqrt(2) * width)) for weight, width in self.terms]
        return self.constant + torch.stack(terms).sum(0)

    def __call__(self, u: Weights, v: OtherWeights) -> tuple[Float[Tensor, "runs m other"], Pull]:
        _require_weights(self.__name__, u, v)
        product = u @ v.mT
        value, slope, inward = (torch.zeros_like(product) for _ in range(3))
        for weight, width in self.terms:
            radius, floor = _radius(u, width)
            for other_weight, other_width in self.terms:
                radii = radius * _radius(v, other_width)[0].mT
                z = (product * radii).clamp(-1, 1)
                one = weight * other_weight * radii / (1 - z.square()).maximum(floor).sqrt()
                value = value + weight * other_weight * z.asin()
                slope, inward = slope + one, inward + one * product * radius.square()

        def pull(weights: Tensor) -> Tensor:
            return (2 / math.pi) * ((weights * slope) @ v - u * (weights * inward).sum(2, keepdim=True))

        return self.constant**2 + (2 / math.pi) * value, pull

    def field(self, u: Weights, v: OtherWeights, charges: Charges) -> Field:
        """Σ_j charge_j K(u_i, v_j) and Σ_j charge_j ∂K(u_i, v_j)/∂u_i."""
        given(f"{self.__name__}.field", charges=charges)
        _require_weights(f"{self.__name__}.field", u, v, charges)
        if len(self.terms) == 1:
            return self._single(u, v, charges.unsqueeze(2))
        product, column = u @ v.mT, charges.unsqueeze(2)
        arcsines, slopes = torch.zeros_like(product), torch.zeros_like(product)
        z, part, total = (torch.empty_like(product) for _ in range(3))
        one, inward = product.new_ones(()), torch.zeros_like(u[..., :1])
        others = [(weight, _radius(v, width)[0].mT) for weight, width in self.terms]
        for weight, width in self.terms:
            radius, floor = _radius(u, width)
            scaled = product * radius
            total.zero_()
            for other_weight, other_radius in others:
                torch.mul(scaled, other_radius, out=z).clamp_(-1, 1)
                arcsines.add_(torch.asin(z, out=part), alpha=weight * other_weight)
                torch.maximum(torch.addcmul(one, z, z, value=-1, out=part), floor, out=part)
                total.addcmul_(part.rsqrt_(), other_radius, value=weight * other_weight)
            slopes.add_(total.mul_(radius))
            inward.addcmul_(radius.square(), total.mul_(product) @ column)
        slope = torch.baddbmm(u * inward, slopes, column * v, beta=-1).mul_(2 / math.pi)
        value = torch.baddbmm(self.constant**2 * column.sum(1, keepdim=True), arcsines, column, alpha=2 / math.pi)
        return value.squeeze(2), slope

    def joined(self, m: int, v: OtherWeights, charges: Charges) -> ErrorFunctionJoined | None:
        """`field` of any net of m neurons joined with v, in memory of its own; of one error function only."""
        if len(self.terms) != 1:
            return None
        ((weight, width),) = self.terms
        return ErrorFunctionJoined(weight, width, self.constant, m, v, charges)

    def _single(self, u: Tensor, v: Tensor, column: Tensor) -> Field:
        """`field` of one error function: Σ_j of (u·v) ∂z/∂(u·v) is u times the sum of the rest, one product less."""
        ((weight, width),) = self.terms
        (radius, floor), (other_radius, _) = _radius(u, width), _radius(v, width)
        z = ((u * radius) @ (v * other_radius).mT).clamp_(-1, 1)
        steep = torch.addcmul(z.new_ones(()), z, z, value=-1)
        along = torch.maximum(steep, floor, out=steep).rsqrt_() @ (column * other_radius * v)
        slope = torch.addcmul(along, u * radius.square(), (u * along).sum(2, keepdim=True), value=-1)
        factor = weight * weight * 2 / math.pi
        value = torch.baddbmm(self.constant**2 * column.sum(1, keepdim=True), z.asin_(), column, alpha=factor)
        return value.squeeze(2), slope.mul_(factor * radius)


def logistic(terms: int = 8) -> ErrorFunctionOverlap:
    """The overlap for the logistic function σ(s) = 1/(1 + e^-s), which `terms` error functions stand for.

    Error: the function is off by at most LOGISTIC_ERROR[terms], so that K is by at most twice that, for weights of any
    size. The overlap is the exact one of the function that stands for it: risk and gradient belong together to
    rounding, and no risk is below 0. terms: 3, 4, 6, 8 or 10; the costs grow as their square.
    Source: [MonahanStefanski1992].
    """
    count("logistic", "terms", terms)
    if terms not in _LOGISTIC:
        raise ValueError(f"logistic needs terms as one of {', '.join(map(str, _LOGISTIC))}; got {terms}. Change it.")
    weights, widths = _LOGISTIC[terms]
    return ErrorFunctionOverlap(f"logistic({terms})", [weight / 2 for weight in weights], widths, 0.5)


relu_gaussian = ReluOverlap("relu_gaussian", sphere=False)
relu_sphere = ReluOverlap("relu_sphere", sphere=True)
erf_gaussian = ErrorFunctionOverlap("erf_gaussian", [1.0], [math.sqrt(0.5)])
logistic_gaussian = logistic()


def _require_weights(caller: str, u: Tensor, v: Tensor, charges: Tensor | None = None) -> None:
    shapes(caller, optional=("charges",), u=(u, "runs m d"), v=(v, "runs other d"), charges=(charges, "runs other"))
    real(caller, u=u, v=v, charges=charges)
    alike(caller, u=u, v=v, charges=charges)


def _polar(u: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths and directions; the direction of 0 is 0."""
    length = u.norm(dim=2, keepdim=True)
    return length, u / length.masked_fill(length == 0, 1)


def _radius(u: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """ρ = (width² + |u|²)^-½ and width² ρ²."""
    radius = (u.square().sum(2, keepdim=True) + width**2).rsqrt()
    return radius, (width * radius).square()


def _sine(cosine: Tensor) -> Tensor:
    return torch.addcmul(cosine.new_ones(()), cosine, cosine, value=-1).sqrt_()


def _rest(cosine: Tensor) -> Tensor:
    """π − φ, in the memory of cos φ: arccos(−cos φ)."""
    return cosine.neg_().acos_()
