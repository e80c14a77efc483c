"""Spikes looked for in several ways, each with its certificate, and how far they are from the true ones."""

import math
from typing import Any

import torch
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.mean_field.sparse_deconvolution.config import BIRTHS, CONE, SIGNED, SLIDING, Config
from regimes.meanfield.measures import Measure
from regimes.meanfield.spikes.descent import forward_backward
from regimes.meanfield.spikes.dual import certify_spikes
from regimes.meanfield.spikes.problems import evenly_spaced, merged, random_spikes
from regimes.meanfield.spikes.risk import SpikeRisk, observed
from regimes.meanfield.spikes.sliding import first_order_shift, sliding_frank_wolfe
from regimes.streams import Measures
from regimes.transport.discrete import exact_transport

LEAST = 1e-3  # a spike with less mass is none
SHOWN = 8  # spikes of one measure that are kept for the figure, of the first trial


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a trial: F, its proved lower bound, the certificate's height, and what the spikes found are.

    largest: proved bound of max |η| (max η of positive masses); attained: its value at the highest peak. found: number
    of spikes; distance: the largest one that exact transport moves a spike by, see `distance`. shift: the largest
    displacement of the true spikes by the penalty, to first order in λ.
    """
    dim, spikes, way, m = (points[0][axis] for axis in ("dim", "spikes", "way", "m"))
    truth, risk = problems(config, dim, spikes, [point["seed"] for point in points])
    measures, work, born = _solved(config, risk, way, m)
    rows = []
    for run, point in enumerate(points):
        one, exact = risk.select(torch.tensor([run])), truth.select([run])
        certificate = certify_spikes(one, measures[run])
        found = merged(
            measures[run].position[0], measures[run].mass[0], within=0.5 / (2 * config.order + 1), least=LEAST
        )
        row = {
            "value": float(certificate.value),
            "lower": float(certificate.lower),
            "largest": float(certificate.largest),
            "attained": float(certificate.peaks.height[0, 0]),
            "found": float(found.size),
            "distance": distance(exact, found),
            "shift": first_order_shift(one, exact.position[0], exact.mass[0]),
            "work": float(work[run]),
            "born": float(born[run]),
        }
        if point["seed"] == config.first_seed and dim == 1:
            row |= {"penalty": one.penalty, "order": float(one.order)}
            row |= _kept("true", exact) | _kept("found", measures[run])
        rows.append(row)
    return rows


def problems(config: Config, dim: int, spikes: str, seeds: list[int]) -> tuple[Measure, SpikeRisk]:
    """The true spikes of some trials and the risk of what is seen of them."""
    signed = spikes == SIGNED
    drawn = [generator(seed, Measures.DATA, dim, int(signed)) for seed in seeds]
    truth = random_spikes(config.m0, dim, separation=config.separation, signed=signed, generators=drawn)
    penalty = config.share * (2 * config.order + 1) ** dim
    return truth, SpikeRisk(observed(truth, config.order), penalty=penalty, signed=signed)


def _solved(config: Config, risk: SpikeRisk, way: str, m: int) -> tuple[list[Measure], list[float], list[float]]:
    """The measure of every trial, its steps or iterations, and its births."""
    if way == SLIDING:
        ends = [list(sliding_frank_wolfe(risk.select(torch.tensor([run])))) for run in range(risk.runs)]
        return [end[-1][0].measure() for end in ends], [len(end) - 1.0 for end in ends], [0.0] * risk.runs
    position = evenly_spaced(m, risk.dim).expand(risk.runs, -1, -1)
    start = Measure(position, torch.zeros(risk.runs, m, dtype=position.dtype))
    births = way == BIRTHS
    *_, end = forward_backward(
        risk,
        start,
        iterations=config.iterations,
        every=config.every,
        gap=config.gap,
        settled=config.settled,
        cone=way == CONE or births,
        births=births,
    )
    return [end.measure.select([run]) for run in range(risk.runs)], end.iterations.tolist(), end.births.tolist()


def distance(truth: Measure, found: Measure) -> float:
    """The largest distance on the torus between spikes that exact optimal transport pairs, all of equal weight.

    Cost: the square of the chord distance, Σ_i (sin π(x_i − y_i)/π)² ≈ |x − y|², plus 4 where the signs differ. With
    unequal numbers a spike is shared between several, and the distance is large. Where there is no spike or one is
    paired with one of the other sign, it is half the diagonal, the largest distance there is.
    """
    diagonal = 0.5 * math.sqrt(truth.position.shape[2])
    if found.size == 0:
        return diagonal
    plan = exact_transport(_embedded(truth).numpy(), _embedded(found).numpy()).plan
    pairs = torch.as_tensor(plan.row[plan.data > 1e-12]).long(), torch.as_tensor(plan.col[plan.data > 1e-12]).long()
    apart = truth.position[0, pairs[0]] - found.position[0, pairs[1]]
    if bool((truth.mass[0, pairs[0]] * found.mass[0, pairs[1]] < 0).any()):
        return diagonal
    return float((apart - apart.round()).norm(dim=1).max())


def _embedded(measure: Measure) -> Tensor:
    turns = 2 * math.pi * measure.position[0]
    return torch.cat((torch.cos(turns), torch.sin(turns), 2 * math.pi * measure.mass[0, :, None].sign()), 1) / (
        2 * math.pi
    )


def _kept(name: str, measure: Measure) -> dict[str, float]:
    """Positions and masses on the circle, those with the most mass first."""
    mass, position = measure.mass[0], measure.position[0, :, 0]
    order = mass.abs().argsort(descending=True)[:SHOWN]
    order = order[mass[order] != 0]
    places = {f"{name}_x{place}": float(position[index]) for place, index in enumerate(order)}
    return places | {f"{name}_w{place}": float(mass[index]) for place, index in enumerate(order)}
