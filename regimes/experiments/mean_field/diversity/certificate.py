"""Is the limit of a flow a global minimum over measures? What its first variation proves, run by run.

For ReLU every measure that is no worse has |ν| ≤ F/λ; for erf, without a penalty, the comparison is with measures of no
more mass than the teacher, and F ≥ 0 anyway. See `regimes.meanfield.certificate`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.mean_field.diversity.problems import Problem
from regimes.experiments.mean_field.missing import TaughtRisk, around, as_measure, circle
from regimes.meanfield.certificate import Certificate, certify
from regimes.meanfield.measures import Measure
from regimes.meanfield.particles import Particles
from regimes.meanfield.searches import Search, candidates, multistart
from regimes.streams import Measures

GRID = 4096  # points of the circle
AROUND, RADII = 128, 32  # points of a circle, and circles, of the search for erf
RANDOM = 48  # random starts of the search in ten dimensions


class Judged(NamedTuple):
    """The certificate over all measures, what one neuron at its worst point takes off F, and what convexity foretells.

    The bounds are proved in the plane, for ReLU by the curvature of F' and for erf by F ≥ 0; in ten dimensions a search
    gives them. one_sign: the lower bound over measures of positive mass alone, if the student is one.
    """

    certificate: Certificate
    fall: Float[Tensor, " runs"]
    foretold: Float[Tensor, " runs"]
    one_sign: Float[Tensor, " runs"]


def judge(kind: Problem, student: Particles, teacher: Particles, seeds: list[int]) -> Judged:
    """Certificates of each run; the teachers run by run."""
    measure = as_measure(student, 1 / student.width, homogeneous=kind.homogeneous)
    taught = as_measure(teacher, 1.0, homogeneous=kind.homogeneous)
    functional = TaughtRisk(taught, kind.overlap, kind.penalty)
    bound = None if kind.penalty else taught.total_variation()
    search = _search(kind, teacher, seeds)
    found = certify(functional, measure, search, mass_bound=bound, signed=True)
    positive = torch.full_like(found.value, torch.nan)
    if bool((measure.mass >= 0).all()):
        positive = certify(functional, measure, search, mass_bound=bound).lower
    # F(μ + r δ) = F + r F' + r²/2 E σ(θ·x)², least at r = −F'/E σ².
    size = kind.overlap(found.worst, found.worst)[0][:, 0, 0]
    mass = -found.lowest.clamp_max(0) / size
    joined = measure.join(Measure(found.worst, (found.sign * mass)[:, None]))
    return Judged(found, found.value - functional.value(joined), mass.square() * size / 2, positive)


def _search(kind: Problem, teacher: Particles, seeds: list[int]) -> Search:
    if kind.planar and kind.homogeneous:
        return around(GRID)
    if kind.planar:
        radii = torch.logspace(-1.5, 2, RADII, dtype=torch.float64)
        return candidates((radii[:, None, None] * circle(AROUND)).flatten(0, 1)[None])
    drawn = [
        torch.randn(RANDOM, kind.d, generator=generator(seed, Measures.SEARCH), dtype=torch.float64) for seed in seeds
    ]
    return multistart(torch.cat([teacher.input, torch.stack(drawn)], 1), sphere=True)
