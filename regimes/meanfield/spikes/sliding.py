"""Sliding Frank-Wolfe: spikes are added one by one where the certificate is violated, and slide into place."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import count, not_negative
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.dirichlet import harmonics
from regimes.meanfield.spikes.dual import SpikeCertificate, certify_spikes
from regimes.meanfield.spikes.lasso import best_masses
from regimes.meanfield.spikes.risk import SpikeRisk


class Spikes(NamedTuple):
    """The spikes of one problem after a step."""

    position: Float[Tensor, "m d"]
    mass: Float[Tensor, " m"]

    def measure(self) -> Measure:
        return Measure(self.position[None], self.mass[None])


def sliding_frank_wolfe(
    risk: SpikeRisk, *, gap: float = 1e-10, steps: int = 50
) -> Iterator[tuple[Spikes, SpikeCertificate]]:
    """Of one problem (risk.runs = 1): the spikes after each step with their certificate, until the gap is reached.

    A step: a spike is added where |η| (η of positive measures) is largest; the Lasso on the masses is solved exactly;
    masses and positions descend together by Newton's method, spikes without mass leave. It ends with the first gap at
    or below `gap`, that is with max |η| ≤ 1 + gap/|μ| or so; with the first step that does not lower F, where only
    rounding is left; or after `steps`.
    ValueError: several problems, or observations that are not in float64.
    Source: [DenoyelleDuvalPeyreSoubies2020] algorithm 2.
    """
    count("sliding_frank_wolfe", "steps", steps, at_least=1)
    not_negative("sliding_frank_wolfe", "gap", gap, single=True)
    if risk.runs != 1:
        raise ValueError(
            f"sliding_frank_wolfe needs one problem; got {risk.runs}. Take risk.select(torch.tensor([0]))."
        )
    if risk.target.dtype != torch.float64:
        raise ValueError(
            f"sliding_frank_wolfe needs observations in float64, in which masses are exact; got {risk.target.dtype}. "
            "Convert them with .double()."
        )
    spikes = Spikes(risk.target.new_zeros(0, risk.dim), risk.target.new_zeros(0))
    certificate = certify_spikes(risk, spikes.measure())
    for _ in range(steps):
        yield Spikes(spikes.position.clone(), spikes.mass.clone()), certificate  # to be written into by the user
        if float(certificate.gap) <= gap:
            return
        position = torch.cat((spikes.position, certificate.worst))
        mass = torch.cat((spikes.mass, spikes.mass.new_zeros(1)))
        features = _features(risk, position)[:, 0]
        gram, linear = features @ features.mT / risk.penalty, features @ risk.target.flatten() / risk.penalty
        mass = best_masses(gram, linear, mass, signed=risk.signed)
        spikes = slide(risk, Spikes(position[mass != 0], mass[mass != 0]))
        before, certificate = certificate, certify_spikes(risk, spikes.measure())
        if float(certificate.value) >= float(before.value) * (1 - 1e-15):
            break
    yield spikes, certificate


def slide(risk: SpikeRisk, spikes: Spikes, *, steps: int = 100) -> Spikes:
    """The local minimum of F in masses and positions that Newton's method comes to from there; signs stay.

    Damped as Levenberg and Marquardt do, in units in which positions are as stiff as masses, so F never rises. A mass
    that comes to 0 leaves.
    """
    unit = 2 * math.pi * math.sqrt(risk.order * (risk.order + 1) / 3)
    damping, value, done = 1e-3, _value(risk, spikes), 0
    after = value
    for _ in range(steps):
        m = len(spikes.mass)
        if m == 0:
            return spikes
        gradient, hessian = newton_system(risk, spikes, unit)
        scale = torch.cat((torch.ones(m), spikes.mass.abs().repeat_interleave(risk.dim).square())).to(hessian)
        stiff = (2 * risk.order + 1) ** risk.dim / risk.penalty
        moved = None
        while damping < 1e12:
            matrix = hessian + damping * stiff * torch.diag(scale)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not int(failed):
                step = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                moved = _moved(spikes, step, unit)
                after = _value(risk, moved)
                if after <= value:
                    break
            moved, damping = None, max(10 * damping, 1e-12)
        if moved is None:
            return spikes
        done = done + 1 if value - after <= 1e-15 * abs(value) else 0
        spikes, value, damping = moved, after, damping / 10 if damping > 1e-14 else 0.0
        if done == 3:
            return spikes
    return spikes


def _moved(spikes: Spikes, step: Tensor, unit: float) -> Spikes:
    """After the step, or the part of it up to where the first mass comes to 0, without that one."""
    m = len(spikes.mass)
    change = step[:m]
    shares = torch.where(spikes.mass * (spikes.mass + change) <= 0, -spikes.mass / change, torch.inf)
    share = float(shares.min().clamp_max(1))
    position = spikes.position + share * step[m:].reshape(m, -1) / unit
    stays = shares > share if share < 1 else torch.ones_like(shares, dtype=torch.bool)
    return Spikes(position[stays], (spikes.mass + share * change)[stays])


def _value(risk: SpikeRisk, spikes: Spikes) -> float:
    measure = spikes.measure()
    return float(risk.residual(measure).square().sum() / (2 * risk.penalty) + measure.mass.abs().sum())


def newton_system(risk: SpikeRisk, spikes: Spikes, unit: float) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of F in (masses, unit·positions), in closed form.

    With J = (φ_j, mass_j ∇φ_j): ∂F = (s − η, −mass ∇η), ∂²F = JᵀJ/λ − (0, ∇η; ∇ηᵀ, mass ∇²η).
    """
    position, mass = spikes
    m, dim = position.shape
    here = risk.correlation(risk.residual(spikes.measure()), position[None], 2)
    assert here.gradient is not None
    assert here.hessian is not None
    eta, slope, bend = here.value[0], here.gradient[0], here.hessian[0]
    features = _features(risk, position, 1)
    columns = torch.cat((features[:, 0], (mass[:, None, None] / unit * features[:, 1:]).flatten(0, 1)))
    hessian = columns @ columns.mT / risk.penalty
    places = torch.arange(m)
    for axis in range(dim):
        at = m + places * dim + axis
        hessian[places, at] -= slope[:, axis] / unit
        hessian[at, places] -= slope[:, axis] / unit
        for other in range(dim):
            hessian[at, m + places * dim + other] -= mass * bend[:, axis, other] / unit**2
    gradient = torch.cat((mass.sign() - eta, (-mass[:, None] * slope / unit).flatten()))
    return gradient, hessian


def _features(risk: SpikeRisk, position: Float[Tensor, "m d"], derivatives: int = 0) -> Float[Tensor, "m one_and_d k"]:
    """φ(θ_j) and, if asked for, its d derivatives, as vectors of coefficients."""
    factors = [harmonics(position[:, axis], risk.order, derivatives) for axis in range(risk.dim)]
    if risk.dim == 1:
        return torch.stack(factors[0], 1)
    orders = [(0, 0), (1, 0), (0, 1)] if derivatives else [(0, 0)]
    products = [factors[0][one][:, :, None] * factors[1][two][:, None] for one, two in orders]
    return torch.stack([product.flatten(1) for product in products], 1)


def first_order_shift(risk: SpikeRisk, position: Float[Tensor, "m d"], mass: Float[Tensor, " m"]) -> float:
    """How far the penalty moves the spikes that were seen, to first order in λ: the largest |δθ_j|.

    At spikes with residual 0 the gradient of F is (s, 0) and its Hessian H is JᵀJ/λ, so that (δw, δθ) = −H⁻¹(s, 0): it
    is proportional to λ. Source: [DuvalPeyre2015].
    """
    gradient, hessian = newton_system(risk, Spikes(position, mass), 1.0)
    gradient[len(mass) :] = 0
    shift = torch.linalg.solve(hessian, -gradient)[len(mass) :]
    return float(shift.reshape(position.shape).norm(dim=1).max())
