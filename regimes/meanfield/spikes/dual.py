"""How far a measure of spikes is from the minimum, proved by a dual point."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import kind
from regimes.meanfield.measures import Measure
from regimes.meanfield.searches import Field, Found
from regimes.meanfield.spikes.peaks import Peaks, bound
from regimes.meanfield.spikes.risk import SpikeRisk


class SpikeCertificate(NamedTuple):
    """The minimum of F lies in [lower, value].

    largest: proved bound of max |η|, or of max η where masses are positive; at a minimiser it is 1.
    worst: where η is largest, which is where F' is most negative; peaks: the highest local maxima of |η|.
    """

    value: Float[Tensor, " runs"]
    lower: Float[Tensor, " runs"]
    gap: Float[Tensor, " runs"]
    largest: Float[Tensor, " runs"]
    worst: Float[Tensor, "runs d"]
    peaks: Peaks


def highest_peak(field: Field) -> Found:
    """The search for `regimes.meanfield.certificate.certify`: the lowest F' of a SpikeRisk, with its proved bound.

    For signed measures both signs share the bound 1 − max |η|. `certify_spikes` has the better lower bound of F.
    """
    risk = field.functional
    kind("highest_peak", "the functional", risk, SpikeRisk, "a SpikeRisk")
    assert isinstance(risk, SpikeRisk)
    risk = risk.repeated(field.measure.runs)
    largest, found = bound(risk, risk.residual(field.measure))
    place = torch.where(found.sign * field.sign > 0, found.height, -torch.inf).argmax(1)
    at = found.position.gather(1, place[:, None, None].expand(-1, 1, risk.dim))
    value = risk.variation(field.measure, at, sign=field.sign)[:, 0]
    return Found(at, value, 1 - largest)


def certify_spikes(risk: SpikeRisk, measure: Measure) -> SpikeCertificate:
    """The duality gap of F at a measure.

    Dual problem: max over p of ⟨y, p⟩ − λ‖p‖²/2 with |⟨D_n(· − θ), p⟩| ≤ 1 for all θ (positive μ: without | |).
    p = t(y − D_n * μ)/λ, with the best t that `bound` proves to be allowed: t ≤ 1/max |η|. By weak duality every such
    value is a lower bound of F. At a minimiser the gap is 0; near it, it is about |μ|(max |η| − 1).
    Source: [DuvalPeyre2015]; the rescaled dual point is that of the Lasso, [Fercoq2015].
    """
    risk = risk.repeated(measure.runs)
    residual = risk.residual(measure)
    value = residual.square().sum((1, 2)) / (2 * risk.penalty) + measure.mass.abs().sum(1)
    largest, found = bound(risk, residual)
    along = (risk.target * residual).sum((1, 2)) / risk.penalty
    square = residual.square().sum((1, 2)) / risk.penalty
    best = torch.where(square > 0, along / square, 0)
    allowed = torch.where(largest > 0, 1 / largest, torch.inf)
    scale = torch.minimum(best.clamp_min(0), allowed)
    lower = scale * along - scale.square() * square / 2
    return SpikeCertificate(value, lower, value - lower, largest, found.position[:, 0], found)
