"""Teachers, first measures and penalised risks of the problems."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from regimes.conventions import generator
from regimes.experiments.mean_field.diversity.config import Config
from regimes.meanfield.overlaps import ReluOverlap, Summed, erf_gaussian, relu_gaussian
from regimes.meanfield.particles import Particles
from regimes.meanfield.population import PopulationRisk
from regimes.streams import Measures

TEACHER = 5  # neurons m0, three of output weight 1 and two of −1
CAP = 0.26  # half angle of the cap: 15 degrees
LENGTH = 3.0  # of the teacher's neurons for erf, and of the mean square root of the start's


class Problem(NamedTuple):
    """The lift of one problem: overlaps, dimension, weight decay λ (0: none), length of the teacher's neurons.

    slower: how many times longer its flow is followed.
    """

    overlap: Summed
    d: int
    penalty: float
    length: float
    slower: float = 1.0

    @property
    def planar(self) -> bool:
        return self.d == 2

    @property
    def homogeneous(self) -> bool:
        return isinstance(self.overlap, ReluOverlap)


def problem(name: str, config: Config) -> Problem:
    """ReLU is 2-homogeneous in (a, b) and penalised; erf is 1-homogeneous in a alone."""
    return {
        "relu 2-d": Problem(relu_gaussian, 2, config.penalty, 1.0),
        "relu 10-d": Problem(relu_gaussian, 10, config.penalty, 1.0),
        "erf 2-d": Problem(erf_gaussian, 2, 0.0, LENGTH, 3.0),
    }[name]


def teacher(kind: Problem, seed: int) -> Particles:
    """Five neurons of one length: in the plane about equally spaced (over the half circle for erf, which is odd)."""
    stream = generator(seed, Measures.DATA, kind.d)
    options: dict[str, Any] = {"generator": stream, "dtype": torch.float64}
    if kind.planar:
        places = torch.arange(TEACHER) + 0.3 * (torch.rand(TEACHER, **options) - 0.5)
        whole = 2 * math.pi if kind.homogeneous else math.pi
        angles = 2 * math.pi * torch.rand((), **options) + whole * places / TEACHER
        directions = torch.stack([angles.cos(), angles.sin()], 1)
    else:
        directions = normalize(torch.randn(TEACHER, kind.d, **options), dim=1)
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)[torch.randperm(TEACHER, generator=stream)]
    return Particles(signs[None, :, None], kind.length * directions[None])


def start(kind: Problem, name: str, seed: int, neurons: int) -> Particles:
    """The first measure: of ReLU on the unit sphere of all (a, b), of erf on {0} × R^d with N(0, (9/d) I).

    half: only b with b_d ≥ 0. cap: only b within 15 degrees of one direction. one sign: a = |b|. few points: copies of
    m0 − 1 neurons. few neurons: as many as the teacher has.
    """
    m = TEACHER if name == "few neurons" else neurons
    stream = generator(seed, Measures.ONE, kind.d)
    drawn = torch.randn(m, kind.d + 1, generator=stream, dtype=torch.float64)
    if name == "few points":
        drawn = drawn[torch.arange(m) % (TEACHER - 1)]
    if kind.homogeneous:
        output, input = normalize(drawn, dim=1).split([1, kind.d], 1)
    else:
        output, input = torch.zeros(m, 1, dtype=torch.float64), kind.length * drawn[:, 1:] / kind.d**0.5
    lengths = input.norm(dim=1, keepdim=True)
    if name == "half":
        input = torch.cat([input[:, :-1], input[:, -1:].abs()], 1)
    if name == "cap":
        aside = torch.nn.functional.pad(input / lengths, (1, 0))[:, : kind.d]
        aside[:, 0] = 0
        share = torch.rand(m, 1, generator=stream, dtype=torch.float64)
        angle = CAP * share
        pole = torch.eye(kind.d, dtype=torch.float64)[0]
        input = lengths * (angle.cos() * pole + angle.sin() * normalize(aside, dim=1))
    if name == "one sign":
        input = input / lengths / 2**0.5
        output = torch.full_like(output, 0.5**0.5)
    return Particles(output[None], input[None])


class Penalised:
    """F = R + λ/(2m) Σ_j (|a_j|² + ‖b_j‖²), for flows.

    positive: every a_j is read as ‖b_j‖. Where that holds at the start the exact flow keeps it, as a_j² − ‖b_j‖² stays
    0; in floating point a neuron that the penalty has shrunk to nothing would come back with the other sign.
    """

    def __init__(self, risk: PopulationRisk, penalty: float, *, positive: bool = False) -> None:
        self.plain, self.penalty, self.positive = risk, penalty, positive
        self.alpha: float | Tensor = 1.0

    def read(self, particles: Particles) -> Particles:
        """The neurons that F is of."""
        return Particles(particles.input.norm(dim=2, keepdim=True), particles.input) if self.positive else particles

    def risk_and_gradient(
        self, particles: Particles, out: Particles | None = None
    ) -> tuple[Float[Tensor, " runs"], Particles]:
        """F, and its gradient in every weight."""
        particles = self.read(particles)
        risk, gradient = self.plain.risk_and_gradient(particles, out)
        decay = self.penalty / particles.width
        for change, weights in zip(gradient, particles, strict=True):
            change.add_(weights, alpha=decay)
        return risk + self.penalty * half_squares(particles), gradient

    def select(self, runs: Tensor, *, of: int) -> "Penalised":
        """F of some of the runs."""
        return Penalised(self.plain.select(runs, of=of), self.penalty, positive=self.positive)


def half_squares(particles: Particles) -> Float[Tensor, " runs"]:
    """∫ |u|²/2 dμ = 1/(2m) Σ_j (|a_j|² + ‖b_j‖²)."""
    return sum(part.square().sum((1, 2)) for part in particles) / (2 * particles.width)  # pyright: ignore[reportReturnType]
