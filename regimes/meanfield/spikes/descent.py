"""Forward-backward descent of spikes in masses and positions, with or without birth and death of spikes."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regimes.checks import count, kind, not_negative
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.dual import SpikeCertificate, certify_spikes
from regimes.meanfield.spikes.peaks import Peaks
from regimes.meanfield.spikes.risk import Correlation, SpikeRisk

NEAR = 0.2  # of the width 1/(2n+1) of the kernel
_GROW, _SHRINK = 1.1, 0.5
_SETTLED = 1e-13  # relative change of F that is rounding


class SpikeMoment(NamedTuple):
    """The spikes of all runs after some iterations, certified; runs that have reached the gap stay as they were.

    iterations: those of each run. births: spikes added so far.
    """

    iterations: Float[Tensor, " runs"]
    measure: Measure
    certificate: SpikeCertificate
    births: Float[Tensor, " runs"]


def forward_backward(
    risk: SpikeRisk,
    measure: Measure,
    *,
    iterations: int,
    every: int = 100,
    gap: float = 0.0,
    settled: float = 0.0,
    cone: bool = False,
    births: bool = False,
) -> Iterator[SpikeMoment]:
    """Descent of F in masses w_j and positions θ_j; a SpikeMoment at the start and after each `every` iterations.

    With η of the present measure, s_j = sign w_j, and one step size h a run:
        w_j ← soft(w_j + (h/m) η(θ_j), h/m)   soft(a, t) = sign(a) max(|a| − t, 0), or max(a − t, 0) for positive μ
        θ_j ← θ_j + (h/(S M)²) w_j ∇η(θ_j), or with `cone` θ_j + (h/(S² M)) s_j ∇η(θ_j).
    It is the proximal form of the particle flow of masses m w_j in the metric Σ dw² m + (S M)² dθ², where S² =
    4π² n(n+1)/3 makes a turn of a position as stiff as a change of a mass and M = ‖y‖/(2n+1)^{d/2} is the size of the
    masses; with `cone` positions have the weight S² M|w_j|, so that they move whatever their mass, as on the cone.
    h is as large as the descent of F proves it may be: halved where R at the new point is above its quadratic bound
    (the step is then not taken), else multiplied by 1.1. So F never rises.
    births: at each `every` iterations a spike of mass 0 is put to the highest peak of |η| (η) that is above 1 and
    further than NEAR/(2n+1) from the spikes of its sign, which come there by themselves. It takes the place of one
    whose mass has come to 0, which soft does in finite time, or the runs grow by one place.
    gap: runs whose certified gap is at or below it stop. settled: so do runs whose F has fallen by no more than this
    share of it in `every` iterations, without a birth: they are in a local minimum. 0: none stops for this.
    Source: [ChizatBach2018] section 4 (forward-backward), [Chizat2022] (cone).
    """
    for name, number in {"iterations": iterations, "every": every}.items():
        count("forward_backward", name, number, at_least=1)
    not_negative("forward_backward", "gap", gap, single=True)
    not_negative("forward_backward", "settled", settled, single=True)
    kind("forward_backward", "cone", cone, bool, "True or False")
    kind("forward_backward", "births", births, bool, "True or False")
    risk.value(measure)  # its checks
    risk = risk.repeated(measure.runs)
    descent = _Descent(risk, measure, cone)
    everyone = torch.arange(risk.runs)
    counted, born = torch.zeros(risk.runs), torch.zeros(risk.runs)
    certificate = certify_spikes(risk, descent.measure())
    active = everyone[certificate.gap > gap]
    # The measure and the counts that are yielded are the user's to write into.
    yield SpikeMoment(counted.clone(), descent.measure().clone(), certificate, born.clone())
    for done in range(every, iterations + every, every):
        if not len(active):
            return
        some = descent.select(active)
        violated = torch.zeros(len(active), dtype=torch.bool)
        if births:
            violated = some.spawn(Peaks(*(field[active] for field in certificate.peaks)))
            descent.widen(some.size)
            born = born.index_add(0, active, violated.to(born))
        for _ in range(min(every, iterations - done + every)):
            some.step()
        descent.put(active, some)
        counted = counted.index_fill(0, active, min(done, iterations))
        new = certify_spikes(risk.select(active), some.measure())
        fallen = certificate.value[active] - new.value
        certificate = _put(certificate, active, new)
        moving = (fallen > settled * new.value) | violated | (settled == 0)
        active = active[(new.gap > gap) & moving]
        yield SpikeMoment(counted.clone(), descent.measure().clone(), certificate, born.clone())


class _Descent:
    """State of some runs."""

    def __init__(self, risk: SpikeRisk, measure: Measure, cone: bool) -> None:
        self.risk, self.cone = risk, cone
        self.position, self.mass = measure.position.clone(), measure.mass.clone()
        self.unit = 4 * math.pi**2 * risk.order * (risk.order + 1) / 3
        peak = (2 * risk.order + 1) ** risk.dim
        self.typical = (risk.target.square().sum((1, 2)) / peak).sqrt()
        self.size_of_step = risk.penalty / peak * torch.ones_like(self.typical)
        self.start()

    def start(self) -> None:
        self.value, here = self.risk.value_and_correlation(self.measure())
        self.here: Correlation = here

    @property
    def size(self) -> int:
        return self.mass.shape[1]

    def measure(self) -> Measure:
        return Measure(self.position, self.mass)

    def select(self, runs: Tensor) -> "_Descent":
        part = _Descent(self.risk.select(runs), self.measure().select(runs), self.cone)
        part.size_of_step = self.size_of_step[runs]
        return part

    def put(self, runs: Tensor, part: "_Descent") -> None:
        self.position, self.mass, self.size_of_step = (
            self.position.clone(),
            self.mass.clone(),
            self.size_of_step.clone(),
        )
        self.position[runs], self.mass[runs], self.size_of_step[runs] = part.position, part.mass, part.size_of_step

    def widen(self, size: int) -> None:
        """More places, without mass."""
        more = size - self.size
        if more > 0:
            self.position = torch.nn.functional.pad(self.position, (0, 0, 0, more))
            self.mass = torch.nn.functional.pad(self.mass, (0, more))

    def spawn(self, found: Peaks) -> Bool[Tensor, " runs"]:
        """A spike without mass at the highest peak above 1 that has none near; which runs have got one."""
        apart = found.position[:, :, None] - self.position[:, None]
        near = (apart - apart.round()).abs().amax(3) < NEAR / (2 * self.risk.order + 1)
        alike = self.mass[:, None] * found.sign[:, :, None] > 0
        violated = (found.height > 1) & ~(near & alike).any(2)
        where, peak = violated.any(1), violated.int().argmax(1)
        if bool((where & (self.mass != 0).all(1)).any()):
            self.widen(self.size + 1)
        place, chosen = (self.mass == 0).int().argmax(1), where.nonzero()[:, 0]
        self.position[chosen, place[chosen]] = found.position[chosen, peak[chosen]]
        self.start()
        return where

    def step(self) -> None:
        """One iteration of every run."""
        mass, here, m = self.mass, self.here, self.size
        assert here.gradient is not None
        h = self.size_of_step[:, None]
        ahead = mass + h / m * here.value
        new_mass = (ahead - h / m).clamp_min(0)
        if self.risk.signed:
            new_mass = new_mass - (-ahead - h / m).clamp_min(0)
        typical = self.typical[:, None]
        weight = self.unit * typical * (mass.abs() if self.cone else typical)  # of dθ² in the metric
        speed = mass.sign() / (self.unit * typical) if self.cone else mass / weight
        moved = (h * speed)[..., None] * here.gradient
        new = Measure(self.position + moved, new_mass)
        value, there = self.risk.value_and_correlation(new)
        assert there.gradient is not None

        change = new_mass - mass
        smooth, smooth_there = self.value - mass.abs().sum(1), value - new_mass.abs().sum(1)
        linear = -(here.value * change).sum(1) - (mass[..., None] * here.gradient * moved).sum((1, 2))
        square = m * change.square().sum(1) + (weight * moved.square().sum(2)).sum(1)
        allowed = smooth + linear + square / (2 * self.size_of_step) + _SETTLED * smooth.abs()
        taken = smooth_there <= allowed
        self.value = torch.where(taken, value, self.value)
        column = taken[:, None]
        self.mass, self.position = (
            torch.where(column, new.mass, mass),
            torch.where(column[..., None], new.position, self.position),
        )
        self.here = Correlation(
            torch.where(column, there.value, here.value), torch.where(column[..., None], there.gradient, here.gradient)
        )
        self.size_of_step = torch.where(taken, _GROW, _SHRINK) * self.size_of_step


def _put(whole: SpikeCertificate, runs: Tensor, part: SpikeCertificate) -> SpikeCertificate:
    """The certificates with those of some runs replaced."""
    pairs = {name: (getattr(whole, name), getattr(part, name)) for name in whole._fields if name != "peaks"}
    fields = {name: old.index_copy(0, runs, new) for name, (old, new) in pairs.items()}
    found = Peaks(*(old.index_copy(0, runs, new) for old, new in zip(whole.peaks, part.peaks, strict=True)))
    return whole._replace(**fields, peaks=found)
