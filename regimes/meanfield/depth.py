"""Mean-field ResNets: a measure over parameters at each depth moves the states; risk, adjoint and first variation.

The net of ρ: X' = ε ∫ f(X, θ) ρ(dθ, t) on [0, 1] from X(0) = x, with f(X, θ) = u σ(v·X + c), θ = (u, v, c), and the
output w·X(1). ρ(·, t) is constant over each of L cells of depth and there a sum of M weighted particles, so the Euler
step of a cell is a residual block: X_{l+1} = X_l + (ε/L) Σ_j μ_lj f(X_l, θ_lj).

Risk E(ρ) = ½ mean_n (w·X_L − y)². Adjoint: P_L = (w·X_L − y) w and, block by block,
    P_l = P_{l+1} + (ε/L) Σ_j μ_lj ∇_X f(X_l, θ_lj)ᵀ P_{l+1},
which is back-propagation without the factor 1/n of the mean. First variation of the measure at depth t in cell l:
    δE/δρ(θ, t) = ε mean_n f(X_l, θ)·P_{l+1}, hence ∂E/∂μ_lj = (1/L) δE/δρ(θ_lj, t), exactly, for every L,
and ∂E/∂θ_lj = (μ_lj/L) ∇_θ δE/δρ(θ_lj, t).
All tensors have a leading runs axis. Source: [Lu2020].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import TANH, Activation, require_activation
from regimes.checks import alike, finite, kind, positive, real, shapes


class DepthMeasure(NamedTuple):
    """ρ: M particles θ = (u, v, c) in each of L cells of depth, with their masses μ."""

    output: Float[Tensor, "runs L M d"]
    input: Float[Tensor, "runs L M d"]
    bias: Float[Tensor, "runs L M"]
    mass: Float[Tensor, "runs L M"]  # of any sign and sum for values; flows and descents ask for more

    @property
    def depth(self) -> int:
        """Number of cells, which is that of residual blocks."""
        return self.mass.shape[1]


def mixture(one: DepthMeasure, other: DepthMeasure, share: float | Float[Tensor, " runs"]) -> DepthMeasure:
    """(1 − share)·one + share·other, cell by cell: the particles of both, with scaled masses."""
    _require("mixture", one)
    _require("mixture", other)
    if one.output.shape[:2] + one.output.shape[3:] != other.output.shape[:2] + other.output.shape[3:]:
        raise ValueError(
            "mixture needs measures of as many runs, cells and dimensions; "
            f"got {tuple(one.output.shape)} and {tuple(other.output.shape)}. Only M may differ."
        )
    weight = torch.as_tensor(share, dtype=one.mass.dtype, device=one.mass.device).reshape(-1, 1, 1)
    if not bool(((weight >= 0) & (weight <= 1)).all()) or len(weight) not in (1, len(one.mass)):
        raise ValueError(f"mixture needs a share from 0 to 1, or one for each run; got {share}. Pass 0.5, for example.")
    scaled = one._replace(mass=(1 - weight) * one.mass), other._replace(mass=weight * other.mass)
    return DepthMeasure(*(torch.cat(part, 2) for part in zip(*scaled, strict=True)))


class DepthRisk:
    """E(ρ) for data x (runs, n, d) and y (runs, n), and a fixed readout w (runs, d); ε = `strength`."""

    def __init__(
        self,
        x: Float[Tensor, "runs n d"],
        y: Float[Tensor, "runs n"],
        readout: Float[Tensor, "runs d"],
        activation: Activation = TANH,
        *,
        strength: float = 1.0,
    ) -> None:
        shapes("DepthRisk", x=(x, "runs n d"), y=(y, "runs n"), readout=(readout, "runs d"))
        real("DepthRisk", x=x, y=y, readout=readout)
        alike("DepthRisk", x=x, y=y, readout=readout)
        finite("DepthRisk", x=x, y=y, readout=readout)
        require_activation(activation, "DepthRisk")
        positive("DepthRisk", "strength", strength, single=True)
        self.x, self.y, self.readout, self.activation, self.strength = x, y, readout, activation, strength

    def states(self, measure: DepthMeasure) -> Float[Tensor, "runs cuts n d"]:
        """X_0, ..., X_L, so that cuts = L + 1."""
        self._fits("DepthRisk.states", measure)
        states = [self.x]
        for cell in range(measure.depth):
            states.append(states[-1] + self.strength / measure.depth * self.field(measure, cell, states[-1]))
        return torch.stack(states, 1)

    def field(self, measure: DepthMeasure, cell: int, state: Float[Tensor, "runs n d"]) -> Float[Tensor, "runs n d"]:
        """Σ_j μ_lj f(X, θ_lj), without ε."""
        values = self.activation.value(_before(measure, cell, state))
        return torch.einsum("rnm,rm,rmd->rnd", values, measure.mass[:, cell], measure.output[:, cell])

    def pulled(
        self, measure: DepthMeasure, cell: int, state: Float[Tensor, "runs n d"], adjoint: Float[Tensor, "runs n d"]
    ) -> Float[Tensor, "runs n d"]:
        """Σ_j μ_lj ∇_X f(X, θ_lj)ᵀ P, without ε."""
        slopes = self.activation.derivative(_before(measure, cell, state))
        along = torch.einsum("rnd,rmd->rnm", adjoint, measure.output[:, cell])
        return torch.einsum("rnm,rm,rmd->rnd", slopes * along, measure.mass[:, cell], measure.input[:, cell])

    def residuals(self, end: Float[Tensor, "runs n d"]) -> Float[Tensor, "runs n"]:
        """w·X(1) − y."""
        return torch.einsum("rnd,rd->rn", end, self.readout) - self.y

    def risk(self, measure: DepthMeasure) -> Float[Tensor, " runs"]:
        """E(ρ): factor ½, mean over samples."""
        return self.residuals(self.states(measure)[:, -1]).square().mean(1) / 2

    def adjoint(self, measure: DepthMeasure, states: Float[Tensor, "runs cuts n d"]) -> Float[Tensor, "runs cuts n d"]:
        """P_0, ..., P_L of these states: back-propagation, without the factor 1/n."""
        adjoints = [self.residuals(states[:, -1])[..., None] * self.readout[:, None]]
        for cell in reversed(range(measure.depth)):
            back = self.pulled(measure, cell, states[:, cell], adjoints[-1])
            adjoints.append(adjoints[-1] + self.strength / measure.depth * back)
        return torch.stack(adjoints[::-1], 1)

    def first_variation(self, measure: DepthMeasure, at: DepthMeasure | None = None) -> Float[Tensor, "runs L other"]:
        """δE/δρ of `measure` at the particles of `at`, or at its own; the masses of `at` do not matter."""
        states = self.states(measure)
        adjoints = self.adjoint(measure, states)
        points = measure if at is None else at
        self._fits("DepthRisk.first_variation", points)
        if points.depth != measure.depth:
            raise ValueError(
                "DepthRisk.first_variation needs particles in the cells of the measure; "
                f"got {points.depth} cells and {measure.depth}. Pass as many."
            )
        found = []
        for cell in range(measure.depth):
            values = self.activation.value(_before(points, cell, states[:, cell]))
            mean = torch.einsum("rnm,rnd->rmd", values, adjoints[:, cell + 1]) / self.x.shape[1]
            found.append(self.strength * (mean * points.output[:, cell]).sum(2))
        return torch.stack(found, 1)

    def risk_and_gradient(self, measure: DepthMeasure) -> tuple[Float[Tensor, " runs"], DepthMeasure]:
        """E(ρ), and ∇_u, ∇_v, ∇_c of δE/δρ at the particles with δE/δρ itself in the place of the mass.

        a = mean_n σ(h) P, h = v·X_l + c, P = P_{l+1}: ∇_u = ε a, δE/δρ = ε u·a; with q = σ'(h) (u·P):
        ∇_v = ε mean_n q X_l, ∇_c = ε mean_n q. Not yet ∂E/∂θ_lj, which has the factor μ_lj/L.
        """
        states = self.states(measure)
        residuals = self.residuals(states[:, -1])
        adjoint, share = residuals[..., None] * self.readout[:, None], self.strength / self.x.shape[1]
        found = []
        for cell in reversed(range(measure.depth)):
            state, output, inner = states[:, cell], measure.output[:, cell], measure.input[:, cell]
            before = _before(measure, cell, state)
            pulled = self.activation.derivative(before) * (adjoint @ output.mT)
            of_output = share * (self.activation.value(before).mT @ adjoint)
            found.append((of_output, share * (pulled.mT @ state), share * pulled.sum(1), (of_output * output).sum(2)))
            step = self.strength / measure.depth * measure.mass[:, cell, :, None]
            adjoint = adjoint + pulled @ (step * inner)
        gradient = DepthMeasure(*(torch.stack(part[::-1], 1) for part in zip(*found, strict=True)))
        return residuals.square().mean(1) / 2, gradient

    def select(self, runs: Tensor) -> "DepthRisk":
        """The risk of some of the runs."""
        return DepthRisk(self.x[runs], self.y[runs], self.readout[runs], self.activation, strength=self.strength)

    def slope(self, measure: DepthMeasure, other: DepthMeasure) -> Float[Tensor, " runs"]:
        """d/dλ E((1 − λ)·measure + λ·other) at λ = 0: ⟨δE/δρ, other − measure⟩, an integral over θ and t."""
        both = ((self.first_variation(measure, at), at.mass) for at in (other, measure))
        there, here = ((variation * mass).sum((1, 2)) / measure.depth for variation, mass in both)
        return there - here

    def _fits(self, caller: str, measure: DepthMeasure) -> None:
        _require(caller, measure)
        runs, d = self.readout.shape
        if (len(measure.mass), measure.output.shape[3]) != (runs, d):
            raise ValueError(
                f"{caller} needs a measure of {runs} runs in dimension {d}, as the data; "
                f"got {len(measure.mass)} and {measure.output.shape[3]}. Pass measures that agree with x."
            )
        alike(caller, x=self.x, measure=measure.output)


def _before(measure: DepthMeasure, cell: int, state: Tensor) -> Float[Tensor, "runs n M"]:
    """v·X + c."""
    return torch.einsum("rnd,rmd->rnm", state, measure.input[:, cell]) + measure.bias[:, cell, None]


def _require(caller: str, measure: DepthMeasure) -> None:
    kind(caller, "the measure", measure, DepthMeasure, "a DepthMeasure")
    cure = "Weights are (runs, L, M, d), biases and masses (runs, L, M)"
    letters = {"output": "runs L M d", "input": "runs L M d", "bias": "runs L M", "mass": "runs L M"}
    shapes(caller, cure=cure, **{name: (getattr(measure, name), letters[name]) for name in letters})
    real(caller, **measure._asdict())
    alike(caller, **measure._asdict())
    finite(caller, **measure._asdict())


def require_masses(caller: str, measure: DepthMeasure, *, probability: bool = False) -> None:
    """Refuse masses below 0, cells without mass and, for a `probability`, cells whose masses do not sum to 1."""
    _require(caller, measure)
    if bool((measure.mass < 0).any()):
        raise ValueError(
            f"{caller} needs masses of at least 0, as particles of negative mass would climb; "
            f"{int((measure.mass < 0).sum())} of {measure.mass.numel()} are below. Turn the sign of their u instead."
        )
    totals = measure.mass.sum(2)
    wrong = (totals - 1).abs() > torch.finfo(totals.dtype).eps ** 0.5 if probability else totals == 0
    if bool(wrong.any()):
        run, cell = (int(place) for place in wrong.nonzero()[0])
        wanted = "cells of mass 1" if probability else "some mass in each cell"
        raise ValueError(
            f"{caller} needs {wanted}; cell {cell} of run {run} has {float(totals[run, cell]):.6g}. "
            "Divide the masses by their sum over the cell."
        )
