"""Net and tangent model under one loss, integrated in the logarithm of time.

With s = log(1 + t) the flow is dv/ds = (1 + t) dv/dt, v = α(w − w_0). Late in training under the logistic loss margins
are about s, so the forces on the samples, e^{s − margin}, are O(1): times like e^1000 cost a few thousand steps.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional

from regimes.activations import TANH
from regimes.control.adaptive import Solution, integrate
from regimes.meanfield.displacement import displaced, tangent_features
from regimes.meanfield.particles import Particles


class Course(NamedTuple):
    """v = α(w − w_0) of the net in its two parts, c of the tangent model v̄ = φ_0 c, and s = log(1 + t)."""

    output: Float[Tensor, "runs m 1"]
    input: Float[Tensor, "runs m d"]
    coefficients: Float[Tensor, "runs n 1"]
    log_time: Float[Tensor, "runs 1"]


class Pair(NamedTuple):
    """The nets of all runs, their samples, and which of them have the logistic loss (else the square one)."""

    start: Particles
    alpha: Float[Tensor, "runs 1 1"]
    x: Float[Tensor, "runs n d"]
    y: Float[Tensor, "runs n 1"]
    logistic: Bool[Tensor, "runs 1 1"]
    first: Float[Tensor, "runs n 1"]
    kernel: Float[Tensor, "runs n n"]

    @classmethod
    def of(cls, start: Particles, alpha: Tensor, x: Tensor, y: Tensor, logistic: Tensor) -> "Pair":
        """With h(w_0) and the tangent kernel Θ = φ_0ᵀφ_0/m on the samples."""
        features = tangent_features(start, x, TANH)
        kernel = features.mT @ features / start.width
        return cls(start, alpha, x, y, logistic, outputs(start, hidden(start, x)), kernel)

    def select(self, runs: Int[Tensor, " chosen"]) -> "Pair":
        """That of some runs."""
        return Pair(self.start.select(runs), *(part[runs] for part in self[1:]))

    def velocity(self, at: Course) -> Course:
        """d/ds of both models."""
        now = displaced(self.start, Particles(at.output, at.input), self.alpha)
        values = hidden(now, self.x)
        force = self.force(self.change(now, values), at.log_time)
        pulled = now.output * (1 - values.square()) * force.mT
        return Course(
            values @ force,
            pulled @ self.x,
            self.force(self.kernel @ at.coefficients, at.log_time),
            torch.ones_like(at.log_time),
        )

    def change(self, now: Particles, values: Float[Tensor, "runs m n"]) -> Float[Tensor, "runs n 1"]:
        """α (h − h(w_0)) on the samples, from σ(b_j·x_i) there."""
        return self.alpha * (outputs(now, values) - self.first)

    def force(self, f: Float[Tensor, "runs n 1"], log_time: Float[Tensor, "runs 1"]) -> Float[Tensor, "runs n 1"]:
        """−e^s ∂R/∂f: e^s y/(1 + e^{yf})/n, or e^s (y − f)/n."""
        s, n = log_time[..., None], f.shape[1]
        softplus = functional.softplus(self.y * f, threshold=40.0)
        # Each run takes one of the two; the other is kept finite.
        square = torch.where(self.logistic, 0.0, s).exp() * (self.y - f)
        return torch.where(self.logistic, self.y * (s - softplus).exp(), square) / n

    def ended(self, below: float) -> Callable[[Course], Bool[Tensor, " runs"]] | None:
        """Which runs with the square loss have residuals below that, in both models: nothing moves any more."""
        if bool(self.logistic.all()):
            return None

        def event(at: Course) -> Tensor:
            now = displaced(self.start, Particles(at.output, at.input), self.alpha)
            models = self.change(now, hidden(now, self.x)), self.kernel @ at.coefficients
            residuals = torch.stack([f - self.y for f in models])
            return (residuals.square().mean((2, 3)).sqrt().amax(0) < below) & ~self.logistic[:, 0, 0]

        return event


def hidden(particles: Particles, x: Float[Tensor, "runs n d"]) -> Float[Tensor, "runs m n"]:
    """σ(b_j·x_i), σ = tanh."""
    return torch.tanh(particles.input @ x.mT)


def outputs(particles: Particles, values: Float[Tensor, "runs m n"]) -> Float[Tensor, "runs n 1"]:
    """h = (1/m) Σ_j a_j σ(b_j·x), from its hidden values."""
    return values.mT @ particles.output / particles.width


def courses(pair: Pair, log_times: Sequence[float], tolerance: float, converged: float) -> Iterator[Solution[Course]]:
    """Both models of all runs at each of the log times.

    Runs with the square loss end at residuals of size `converged`, which they can reach only if their own tolerance is
    finer: it is at most a hundredth of that.
    """
    zero = Course(
        torch.zeros_like(pair.start.output),
        torch.zeros_like(pair.start.input),
        torch.zeros_like(pair.y),
        torch.zeros_like(pair.y[:, 0]),
    )

    def select(chosen: Tensor) -> tuple[Callable[[Course], Course], Callable[[Course], Tensor] | None]:
        part = pair.select(chosen)
        return part.velocity, part.ended(converged)

    each = torch.where(pair.logistic[:, 0, 0], tolerance, min(tolerance, converged / 100)).double()
    return integrate(
        pair.velocity,
        zero,
        log_times,
        rtol=each,
        atol=each,
        until=pair.ended(converged),
        select=select,
        max_steps=1_000_000,
    )


def dual(kernel: Float[Tensor, "n n"], y: Float[Tensor, "n 1"]) -> np.ndarray:
    """Weights λ ≥ 0 of the samples in the max-margin solution v̂ = φ_0 (y ∘ λ) of the tangent model; λ > 0: support.

    They maximise 2 Σ λ_i − λᵀ(yyᵀ ∘ Θ)λ: with yyᵀ ∘ Θ = LLᵀ that is a least-squares problem in λ ≥ 0, Lᵀλ ≈ L⁻¹1.
    """
    factor = np.linalg.cholesky((y * kernel * y.mT).numpy())
    return nnls(factor.T, np.linalg.solve(factor, np.ones(len(factor))))[0]


def margin(kernel: Float[Tensor, "n n"], y: Float[Tensor, "n 1"]) -> float:
    """Largest margin γ of the tangent model: the largest min_i y_i f̄(x_i) over v̄ with √(1/m Σ_j ‖v̄_j‖²) = 1.

    1/γ² = min ‖v̄‖² with all y_i f̄(x_i) ≥ 1 = Σ λ_i of the dual.
    """
    return float(dual(kernel, y).sum() ** -0.5)
