"""Flows from several first measures on the same teachers, the certificates of their ends, and paths for the figure."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from regimes.experiments.mean_field.diversity.certificate import Judged, judge
from regimes.experiments.mean_field.diversity.config import Config
from regimes.experiments.mean_field.diversity.problems import TEACHER, Penalised, Problem, problem, start, teacher
from regimes.experiments.mean_field.missing import TaughtRisk, as_measure, circle
from regimes.meanfield.flow import gradient_flow
from regimes.meanfield.overlaps import relu_gaussian
from regimes.meanfield.particles import Particles
from regimes.meanfield.population import PopulationRisk

AROUND = 360  # points of the circle at which F' is kept for the figure
SHOWN = ("everywhere", "few points", "one sign")  # whose paths are kept
# Where F' > 0 in all directions, b of a neuron with |a| > ‖b‖ comes to 0 and stays: the flow slides there, and error
# control alone would take steps of the size of the tolerance.
SMALLEST = 0.05
ERF_ENDS = 5e-4  # share of the risk at the start below which the flow for erf ends


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The end of each run in a row of kind `end`; for the first seeds also paths, teacher and F' on the circle.

    value, lower, lower_positive: F and its lower bounds over all measures and, of nets without negative output
    weights, over those of positive mass. first: F of f = 0. settled: relative change of F since the time before the
    last. lowest, sign, near: least F', the output sign there, and the angle in degrees to the nearest teacher neuron
    of that sign. fall: what one neuron there takes off F; foretold: by convexity. copies: of few points only, the
    largest distance of neurons that began as one, over the largest neuron.
    """
    kind, name = problem(points[0]["problem"], config), points[0]["start"]
    seeds = [point["seed"] for point in points]
    teachers = _stack([teacher(kind, seed) for seed in seeds])
    first = _stack([start(kind, name, seed, config.neurons) for seed in seeds])
    plain = PopulationRisk(teachers, kind.overlap)
    risk = Penalised(plain, kind.penalty, positive=name == "one sign")
    nothing = plain.risk(Particles(torch.zeros_like(first.output), first.input))
    drawn = [run for run, seed in enumerate(seeds) if seed < config.drawn and kind.homogeneous and kind.planar]
    drawn = drawn if name in SHOWN else []
    times = [kind.slower * time for time in config.times]
    looks = set(times)
    if drawn:
        looks |= {float(time) for time in np.geomspace(0.1, times[-1], config.paths)[:-1]}
    moments = gradient_flow(
        risk,
        first,
        sorted(looks),
        rtol=config.tolerance,
        atol=config.tolerance / 100,
        risk_below=None if kind.penalty else ERF_ENDS * nothing,
        smallest=SMALLEST if kind.homogeneous else 0.0,
    )
    value, settled, path = nothing, nothing, [first]
    for time, moment in zip(sorted(looks), moments, strict=True):
        path.append(risk.read(moment.particles))
        if time in times:
            before, value = value, risk.risk_and_gradient(moment.particles)[0]
            settled = (before - value).abs() / value
    end = path[-1]
    found = judge(kind, end, teachers, seeds)
    rows = [
        [
            _end_row(found, run, teachers, kind, end, name)
            | {"first": float(nothing[run]), "settled": float(settled[run]), "penalty": kind.penalty}
        ]
        for run in range(len(points))
    ]
    for run in drawn:
        rows[run] += _path_rows([each.select([run]) for each in path], teachers.select([run]))
    return rows


def _stack(nets: list[Particles]) -> Particles:
    return Particles(*(torch.cat(parts) for parts in zip(*nets, strict=True)))


def _end_row(found: Judged, run: int, teachers: Particles, kind: Problem, end: Particles, name: str) -> dict[str, Any]:
    best = found.certificate
    sign, point = best.sign[run], best.worst[run, 0]
    cosines = normalize(teachers.input[run], dim=1) @ normalize(point, dim=0)
    usable = teachers.output[run, :, 0] == sign
    if not kind.homogeneous:  # erf is odd: −θ with the other sign is the same neuron
        cosines, usable = cosines.abs(), torch.ones_like(usable)
    near = math.degrees(math.acos(min(1.0, float(cosines[usable].max()))))
    return {
        "kind": "end",
        "value": float(best.value[run]),
        "lower": float(best.lower[run]),
        "lower_positive": float(found.one_sign[run]),
        "lowest": float(best.lowest[run]),
        "sign": float(sign),
        "near": near,
        "fall": float(found.fall[run]),
        "foretold": float(found.foretold[run]),
        "copies": _copies(end.select([run])) if name == "few points" else math.nan,
    }


def _copies(end: Particles) -> float:
    neurons = torch.cat([end.output[0], end.input[0]], 1)
    first = neurons[torch.arange(len(neurons)) % (TEACHER - 1)]
    return float((neurons - first).norm(dim=1).max() / neurons.norm(dim=1).max())


def _path_rows(path: list[Particles], taught: Particles) -> list[dict[str, Any]]:
    """Paths of |a_j| b_j, the teacher's neurons, and h on the circle at the end; x, y are places, or angle and h."""
    rows = [
        _place("teacher", 0, j, b, float(a))
        for j, (a, b) in enumerate(zip(taught.output[0], taught.input[0], strict=True))
    ]
    end = path[-1]
    signs = end.output[0, :, 0].sign()
    for time, net in enumerate(path):
        places = net.output[0].abs() * net.input[0]
        rows += [
            _place("path", time, j, place, float(sign))
            for j, (place, sign) in enumerate(zip(places, signs, strict=True))
        ]
    risk = TaughtRisk(as_measure(taught, 1.0, homogeneous=True), relu_gaussian)
    h = risk.variation(as_measure(end, 1 / end.width, homogeneous=True), circle(AROUND)[None])[0]
    rows += [
        {"kind": "circle", "time": 0, "neuron": j, "x": 360.0 * j / AROUND, "y": float(value), "mark": 0.0}
        for j, value in enumerate(h)
    ]
    return rows


def _place(kind: str, time: int, neuron: int, place: Tensor, sign: float) -> dict[str, Any]:
    x, y = (round(value, 5) for value in place.tolist())
    return {"kind": kind, "time": time, "neuron": neuron, "x": x, "y": y, "mark": sign}
