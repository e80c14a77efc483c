"""The risk of a measure of spikes whose sum was seen through a Dirichlet kernel: values and forces in closed form."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import finite, kind, positive, real, shapes
from regimes.meanfield.functionals import Forces
from regimes.meanfield.measures import Measure, require_measure
from regimes.meanfield.positions import require_position
from regimes.meanfield.spikes.dirichlet import harmonics


class Correlation(NamedTuple):
    """η at some points and, as far as they were asked for, its gradient and its second derivatives."""

    value: Float[Tensor, "runs points"]
    gradient: Float[Tensor, "runs points d"] | None = None
    hessian: Float[Tensor, "runs points d d"] | None = None


class SpikeRisk:
    """F(μ) = ‖y − D_n * μ‖² / (2λ) + |μ| for measures μ on the torus [0, 1)^d, d = 1 or 2; a Functional.

    D_n(x) = Π_i sin((2n+1)πx_i)/sin(πx_i), the kernel of order n; norm of L²([0, 1)^d), no factor besides the ½; |μ|
    is the total variation. λF is the Beurling-Lasso ½‖y − D_n * μ‖² + λ|μ|. `signed=False`: positive measures only.
    Positions are (runs, m, d), of any real numbers: the torus is that of their fractions.
    F'[μ](θ) = s − η(θ), with the dual certificate η(θ) = ⟨D_n(· − θ), y − D_n * μ⟩/λ and s the sign of the mass, 1
    where there is none. At a minimiser |η| ≤ 1 (signed) or η ≤ 1 (positive) everywhere, and η = s where the mass is.
    All is computed in the basis of `harmonics`, in which ‖·‖ is the Euclidean norm: no grid, no error but rounding.
    target: coefficients of y, (runs, 2n+1) or (runs, 2n+1, 2n+1), as `observed` gives them.
    Source: [ChizatBach2018] section 4: R = ‖y − ·‖²/(2λ) and V = |w|.
    """

    def __init__(self, target: Float[Tensor, "runs *frequencies"], *, penalty: float, signed: bool = True) -> None:
        dim = getattr(target, "ndim", 0) - 1
        shapes("SpikeRisk", target=(target, "runs k k" if dim == 2 else "runs k"))
        real("SpikeRisk", target=target)
        finite("SpikeRisk", target=target)
        positive("SpikeRisk", "penalty", penalty, single=True)
        kind("SpikeRisk", "signed", signed, bool, "True or False")
        size = target.shape[1]
        if size % 2 == 0 or size < 3:
            raise ValueError(
                f"SpikeRisk needs 2n + 1 coefficients along each axis, n at least 1; got {size}. Pass observed."
            )
        self.dim, self.order, self.penalty, self.signed = dim, size // 2, float(penalty), signed
        self.at_least = 0.0
        # In one dimension the second factor is the constant 1: then both dimensions are one code.
        self.target = target[..., None] if dim == 1 else target

    @property
    def runs(self) -> int:
        return len(self.target)

    def select(self, runs: Tensor, *, of: int | None = None) -> "SpikeRisk":
        """The risks of some runs; one target for all `of` runs stays as it is."""
        if of is not None and self.runs == 1 != of:
            return self
        target = self.target[runs]
        return SpikeRisk(target[..., 0] if self.dim == 1 else target, penalty=self.penalty, signed=self.signed)

    def repeated(self, runs: int) -> "SpikeRisk":
        """With a target for each of so many runs, where there is one for all."""
        if self.runs not in (1, runs):
            raise ValueError(f"SpikeRisk needs measures of the {self.runs} runs of its targets; got {runs} runs.")
        return self if self.runs == runs else self.select(self.target.new_zeros(runs, dtype=torch.int64))

    def value(self, measure: Measure) -> Float[Tensor, " runs"]:
        """F(μ)."""
        self._require(measure)
        return self._value(self.residual(measure), measure.mass)

    def variation(
        self, measure: Measure, at: Tensor | None = None, *, sign: float = 1.0
    ) -> Float[Tensor, "runs points"]:
        """F' at its particles or, along mass of the given sign, 1 − sign·η at other points (runs, points, d)."""
        self._require(measure)
        if at is None:
            return self.value_and_forces(measure).variation
        require_position("SpikeRisk", "at", at, like=measure.position, runs=measure.runs)
        return 1 - sign * self.correlation(self.residual(measure), at).value

    def mass_bound(self, value: Float[Tensor, " runs"]) -> Float[Tensor, " runs"]:
        """What |ν| is at most for every ν with F(ν) ≤ value: the value."""
        return value

    def value_and_forces(self, measure: Measure) -> Forces:
        """F, and F' and ∇F' at the particles."""
        self._require(measure)
        value, here = self.value_and_correlation(measure)
        assert here.gradient is not None
        signs = torch.ones_like(measure.mass).masked_fill(measure.mass < 0, -1)
        return Forces(value, signs - here.value, -here.gradient)

    def residual(self, measure: Measure) -> Float[Tensor, "runs k l"]:
        """Coefficients of y − D_n * μ; l = 1 in one dimension."""
        return self.target - _sum(self._factors(measure.position), measure.mass)

    def correlation(self, residual: Tensor, at: Tensor, derivatives: int = 0) -> Correlation:
        """η at the points (runs, points, d), with up to two derivatives."""
        return self._correlation(residual, self._factors(at, derivatives), derivatives)

    def on_grid(self, residual: Tensor, points: int) -> Correlation:
        """η and ∇η at the grid i/points, the last axis running fastest."""
        axis = torch.arange(points, dtype=residual.dtype, device=residual.device) / points
        first = harmonics(axis, self.order, 1)
        second = first if self.dim == 2 else [torch.ones_like(axis[:1, None]), torch.zeros_like(axis[:1, None])]
        dual = residual / self.penalty

        def table(one: int, two: int) -> Tensor:
            return (first[one] @ dual @ second[two].mT).flatten(1)

        return Correlation(table(0, 0), torch.stack([table(1, 0), table(0, 1)][: self.dim], -1))

    def value_and_correlation(
        self, measure: Measure, derivatives: int = 1
    ) -> tuple[Float[Tensor, " runs"], Correlation]:
        """F, and η at the particles: one pass, without checks."""
        factors = self._factors(measure.position, derivatives)
        residual = self.target - _sum(factors, measure.mass)
        return self._value(residual, measure.mass), self._correlation(residual, factors, derivatives)

    def _require(self, measure: Measure) -> None:
        require_measure("SpikeRisk", measure, signed=self.signed)
        runs = "runs" if self.runs == 1 else str(self.runs)
        shapes(
            "SpikeRisk",
            position=(measure.position, f"{runs} m {self.dim}"),
            cure=f"Positions are (runs, m, {self.dim}), with the runs of the target",
        )

    def _value(self, residual: Tensor, mass: Tensor) -> Tensor:
        return residual.square().sum((1, 2)) / (2 * self.penalty) + mass.abs().sum(1)

    def _factors(self, position: Tensor, derivatives: int = 0) -> list[list[Tensor]]:
        """For each of two axes the basis at the points and its derivatives."""
        factors = [harmonics(position[..., axis], self.order, derivatives) for axis in range(self.dim)]
        if self.dim == 1:
            one = torch.ones_like(position)
            factors.append([one, *[torch.zeros_like(one)] * derivatives])
        return factors

    def _correlation(self, residual: Tensor, factors: list[list[Tensor]], derivatives: int) -> Correlation:
        across, along = factors
        dual = residual / self.penalty
        carried = [each @ dual for each in across]  # (runs, points, l)

        def pair(first: int, second: int) -> Tensor:
            return (carried[first] * along[second]).sum(-1)

        value, gradient, hessian = pair(0, 0), None, None
        if derivatives:
            gradient = torch.stack([pair(1, 0), pair(0, 1)] if self.dim == 2 else [pair(1, 0)], -1)
        if derivatives > 1:
            rows = [[pair(2, 0), pair(1, 1)], [pair(1, 1), pair(0, 2)]] if self.dim == 2 else [[pair(2, 0)]]
            hessian = torch.stack([torch.stack(row, -1) for row in rows], -2)
        return Correlation(value, gradient, hessian)


def observed(measure: Measure, order: int) -> Float[Tensor, "runs *frequencies"]:
    """Coefficients of D_n * μ in the basis of `harmonics`, the target of spikes seen without noise."""
    require_measure("observed", measure)
    shapes("observed", position=(measure.position, "runs m d"))
    factors = [harmonics(measure.position[..., axis], order)[0] for axis in range(measure.position.shape[2])]
    if len(factors) == 1:
        return (factors[0] * measure.mass[..., None]).sum(1)
    return _sum([[factor] for factor in factors], measure.mass)


def _sum(factors: list[list[Tensor]], mass: Tensor) -> Float[Tensor, "runs k l"]:
    """Σ_j mass_j ψ(θ_j1) ψ(θ_j2)ᵀ."""
    return (factors[0][0] * mass[..., None]).mT @ factors[1][0]
