"""The net of the polynomial regression by its moments: gradient flow, training and test loss without a single neuron.

h(x) = (1/N) Σ_j φ(w_j·z), z = x/√D, φ(h) = h + εh²/2, output weights fixed. It is a function of the mean
u = (1/N) Σ_j w_j and the second moment M = (1/N) Σ_j w_j w_jᵀ alone, and so is its gradient flow on L/α², where
L = mean (f − y)², in the flow time of the neurons: with f = α(h − h(w_0)), r_i = f(x_i) − y_i, c = (2/n) Σ_i r_i z_i
and G = (2/n) Σ_i r_i z_i z_iᵀ,
    α w_j' = −(c + ε G w_j),    α u' = −(c + ε G u),    α M' = −(c uᵀ + u cᵀ + ε (G M + M G)).
Here v = α(u − u_0) and V = α(M − M_0) move, which stay O(1) at every α; f(x) = v·z + (ε/2) zᵀVz. For α → ∞, u and M
on the right are those of the start: the tangent model.
Test loss, exact for x ~ N(0, I): f − y = v·z + xᵀAx with A = ((ε/2) V − ββᵀ)/D, hence
    E(f − y)² = ‖v‖²/D + 2‖A‖² + (tr A)².
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.control.adaptive import integrate
from regimes.tangent.regression import GradientFlow


class Moments(NamedTuple):
    """v = α(u − u_0) and V = α(M − M_0) of each run."""

    linear: Float[Tensor, "runs D"]
    quadratic: Float[Tensor, "runs D D"]


class Problem(NamedTuple):
    """Inputs z = x/√D with targets (β·z)², ‖β‖² = D; moments of the net at the start; ε."""

    z: Float[Tensor, "n D"]
    y: Float[Tensor, " n"]
    beta: Float[Tensor, " D"]
    u_0: Float[Tensor, " D"]
    m_0: Float[Tensor, "D D"]
    epsilon: float


def problem(
    neurons: Float[Tensor, "N D"], x: Float[Tensor, "n D"], beta: Float[Tensor, " D"], epsilon: float
) -> Problem:
    """From neurons, inputs and a direction of any length."""
    d = x.shape[1]
    beta, z = beta * (d**0.5 / beta.norm()), x / d**0.5
    return Problem(z, (z @ beta).square(), beta, neurons.mean(0), neurons.T @ neurons / len(neurons), epsilon)


def outputs(of: Problem, at: Moments) -> Float[Tensor, "runs n"]:
    """f on the training inputs."""
    return at.linear @ of.z.T + of.epsilon / 2 * ((of.z @ at.quadratic) * of.z).sum(-1)


def train_loss(of: Problem, at: Moments) -> Float[Tensor, " runs"]:
    """mean (f − y)² over that of f = 0."""
    return (outputs(of, at) - of.y).square().mean(1) / of.y.square().mean()


def test_loss(of: Problem, at: Moments) -> Float[Tensor, " runs"]:
    """E (f − y)² over standard normal x, over that of f = 0, which is E y² = 3."""
    d = len(of.beta)
    rest = (of.epsilon / 2 * at.quadratic - torch.outer(of.beta, of.beta)) / d
    traces = rest.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (at.linear.square().sum(-1) / d + 2 * rest.square().sum((-2, -1)) + traces.square()) / 3


class _Flow:
    """Velocity of the moments at some scales, and whether the training loss has come down to the final one."""

    def __init__(self, of: Problem, alpha: Float[Tensor, " runs"], final: float) -> None:
        self.of, self.alpha, self.final = of, alpha, final * of.y.square().mean()

    def velocity(self, at: Moments) -> Moments:
        of, alpha = self.of, self.alpha[:, None]
        residuals = outputs(of, at) - of.y
        self.latest = residuals.square().mean(1)
        pull = residuals * (2 / len(of.y))
        c, g = pull @ of.z, (of.z.T * pull[:, None]) @ of.z
        u, m = of.u_0 + at.linear / alpha, of.m_0 + at.quadratic / alpha[..., None]
        outer = c[:, :, None] * u[:, None] + of.epsilon * (g @ m)
        return Moments(-(c + of.epsilon * (g @ u[..., None])[..., 0]), -(outer + outer.mT))

    def ended(self, at: Moments) -> Tensor:
        """The last velocity of a step is the one at its end, so the loss there is already known."""
        return self.latest <= self.final


class Course(NamedTuple):
    """Times reached and relative losses of each run at each moment; a run that has ended stays where it is."""

    time: Float[Tensor, "moments runs"]
    train: Float[Tensor, "moments runs"]
    test: Float[Tensor, "moments runs"]


def course(
    of: Problem, alpha: Float[Tensor, " runs"], times: Float[Tensor, " moments"], *, final: float, tolerance: float
) -> Course:
    """The flows of all scales from one start, each until its training loss is `final` times that of f = 0."""
    start = Moments(of.z.new_zeros(len(alpha), of.z.shape[1]), of.z.new_zeros(len(alpha), *of.m_0.shape))
    whole = _Flow(of, alpha, final)

    def select(runs: Int[Tensor, " chosen"]) -> tuple:
        part = _Flow(of, alpha[runs], final)
        return part.velocity, part.ended

    options = {"rtol": tolerance, "atol": tolerance, "until": whole.ended, "select": select}
    solutions: Iterator = integrate(whole.velocity, start, times, **options)
    found = [(one.time.clone(), train_loss(of, one.state), test_loss(of, one.state)) for one in solutions]
    return Course(*map(torch.stack, zip(*found, strict=True)))


def tangent_test_loss(of: Problem, train: float) -> float:
    """The test loss of the tangent model when its training loss is `train`, both over those of f = 0; in closed form.

    Its moments move along φ(x_i) = (z_i (1 + ε u_0·z_i), S + Sᵀ), S = z_i u_0ᵀ + ε M_0 z_i z_iᵀ, and f is linear in
    them, so this is a kernel regression with K(x, x_i) = the f that belongs to φ(x_i), at x.
    """
    squares = of.z[:, :, None] * of.z[:, None]
    mixed = of.z[:, :, None] * of.u_0 + of.epsilon * (of.m_0 @ squares)
    along = Moments(of.z * (1 + of.epsilon * (of.z @ of.u_0))[:, None], mixed + mixed.mT)
    flow = GradientFlow(outputs(of, along).T, of.y[:, None])
    time = float(flow.time_to(train * float(of.y.square().mean()) / 2))
    coefficients = torch.cat([along.linear, along.quadratic.flatten(1)], dim=1).T
    moved = flow.test(time, coefficients)[:, 0]
    d = of.z.shape[1]
    return float(test_loss(of, Moments(moved[None, :d], moved[d:].reshape(1, d, d))))
