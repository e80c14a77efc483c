"""Flows from the starts of the arms: the risk along them, and how steep δE/δρ still is at their end."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.mean_field.deep_diversity.config import FLAT, Config
from regimes.experiments.mean_field.deep_diversity.starts import added, embedded, flattened, problem, start
from regimes.meanfield.depth import DepthMeasure, DepthRisk
from regimes.meanfield.depth_descent import best_particle
from regimes.meanfield.depth_flow import depth_flow
from regimes.streams import DeepFlow

MOMENTS = (1 / 256, 1 / 64, 1 / 16, 1 / 4, 1.0)  # at which flows are looked at, in shares of the horizon
DRAWN = 1  # seeds whose particles are kept for the figure


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A row of kind `end` a point; of the first seed also its particles (kind `particle`) and cells (kind `cell`)."""
    arm, seeds = points[0]["arm"], [point["seed"] for point in points]
    first, _, later = arm.partition(", then ")
    given = problem(config, seeds)
    risk, rho = (given.flat if first == FLAT else given.risk), start(config, first, seeds)
    times, courses, shown = [0.0], [risk.risk(rho)], [rho]

    def flow(risk: DepthRisk, rho: DepthMeasure, after: float) -> DepthMeasure:
        moments, stop, tolerance = (
            [config.horizon * share for share in MOMENTS],
            config.left * given.zero,
            config.tolerance,
        )
        found = depth_flow(risk, rho, moments, risk_below=stop, rtol=tolerance, atol=tolerance / 100)
        for time, moment in zip(moments, found, strict=True):
            rho = moment.measure
            times.append(after + time)
            courses.append(risk.risk(rho))
            shown.append(rho)
        return rho

    rho = flow(risk, rho, 0.0)
    if later:
        joined = added(config, embedded(rho) if first == FLAT else rho, seeds)
        if later == FLAT:
            joined = flattened(joined)
        else:
            risk = given.risk
        rho = flow(risk, joined, config.horizon)
    shown = [one if one.output.shape[3] == config.inputs else embedded(one) for one in shown]
    everywhere, inside = (steepness(config, given.risk, shown[-1], seeds, flat=flat) for flat in (False, True))
    ends = {
        "zero": given.zero,
        "bound": given.bound,
        "risk": courses[-1],
        "steep": everywhere.mean(1),
        "steep_inside": inside.mean(1),
    }
    ends |= {f"risk_at_{time:.6g}": value for time, value in zip(times, courses, strict=True)}
    rows: list[list[dict[str, Any]]] = []
    for run, seed in enumerate(seeds):
        end = {"kind": "end"} | {name: float(values[run]) for name, values in ends.items()}
        rows.append([end] + (_picture(times, shown, everywhere[run], inside[run], given, run) if seed < DRAWN else []))
    return rows


def steepness(
    config: Config, risk: DepthRisk, rho: DepthMeasure, seeds: list[int], *, flat: bool
) -> Float[Tensor, "runs L"]:
    """−min of δE/δρ(θ, t) over |u| <= 1 and candidates (v, c), with v_1 = 0 if `flat`: how fast mass there would help.

    The particles' own (v, c) are candidates too. At a stationary measure δE/δρ = 0 on the support, and this, averaged
    over depth, is the Frank-Wolfe gap towards particles with |u| <= 1.
    """
    shape, streams = (config.candidates, config.inputs + 1), [generator(seed, DeepFlow.SEARCH) for seed in seeds]
    candidates = 2 * torch.stack([torch.randn(*shape, generator=each, dtype=torch.float64) for each in streams])
    if flat:
        candidates[..., 0] = 0
    best = best_particle(risk, rho, candidates, torch.ones(len(seeds), dtype=torch.float64))
    return -risk.first_variation(rho, best)[..., 0]


def _picture(
    times: list[float], shown: list[DepthMeasure], everywhere: Tensor, inside: Tensor, given: Any, run: int
) -> list[dict[str, Any]]:
    """The particles of one run at all times, and the steepness of its cells at the end."""
    rows: list[dict[str, Any]] = []
    for cell, (steep, flat) in enumerate(zip(everywhere.tolist(), inside.tolist(), strict=True)):
        rows.append({"kind": "cell", "cell": cell, "steep": round(steep, 6), "steep_inside": round(flat, 6)})
    for time, rho in zip(times, shown, strict=True):
        pushed = (rho.output[run] @ given.risk.readout[run]).tolist()
        for cell in range(rho.depth):
            for number, mass in enumerate(rho.mass[run, cell].tolist()):
                if mass > 0:
                    seen = {"v1": round(float(rho.input[run, cell, number, 0]), 5), "mass": round(mass, 6)}
                    where = {"time": time, "cell": cell, "particle": number, "u": round(pushed[cell][number], 5)}
                    rows.append({"kind": "particle"} | where | seen)
    return rows
