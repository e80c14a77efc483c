"""Descent of a mean-field ResNet's risk over measures: at each depth, mass moves to the one best particle.

At every depth δE/δρ(θ, t) = ε u·a(v, c), a = mean_n σ(v·X_n + c) p_n, is linear in u: among |u| ≤ R the best direction
for given (v, c) is −R a/|a|. So ν(·, t) = one particle at the (v, c) of largest |a|. The Frank-Wolfe gap
    gap = ⟨δE/δρ, ρ − ν⟩, of depth and parameters,
is minus the slope of E along the mixture (1 − λ)ρ + λν. Where the (v, c) of ρ's own particles are among the candidates,
and R is at least their largest |u|, the gap is not negative; it is 0 only if a = 0 at every candidate and every depth.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, count, finite, shapes
from regimes.meanfield.depth import DepthMeasure, DepthRisk, mixture, require_masses

HALVINGS = 30


class Step(NamedTuple):
    """The measure before a step, its risk, and the gap that it has there."""

    measure: DepthMeasure
    risk: Float[Tensor, " runs"]
    gap: Float[Tensor, " runs"]


def best_particle(
    risk: DepthRisk,
    measure: DepthMeasure,
    candidates: Float[Tensor, "runs K inner"],
    radius: Float[Tensor, " runs"],
) -> DepthMeasure:
    """ν: one particle in each cell, of mass 1, by the candidates (v, c), inner = d + 1, and the measure's own."""
    sizes: dict[str, Any] = {
        "candidates": (candidates, "runs K inner"),
        "readout": (risk.readout, "runs d"),
        "radius": (radius, "runs"),
    }
    if shapes("best_particle", **sizes)["inner"] != risk.x.shape[2] + 1:
        raise ValueError(
            f"best_particle needs candidates (v, c) of {risk.x.shape[2] + 1} numbers; got {candidates.shape[2]}. "
            "Join v (d) and c (1)."
        )
    alike("best_particle", x=risk.x, candidates=candidates, radius=radius)
    finite("best_particle", candidates=candidates, radius=radius)
    states = risk.states(measure)
    adjoints = risk.adjoint(measure, states)
    chosen = []
    for cell in range(measure.depth):
        own = torch.cat([measure.input[:, cell], measure.bias[:, cell, :, None]], 2)
        inner = torch.cat([candidates, own], 1)
        before = torch.einsum("rnd,rkd->rnk", states[:, cell], inner[..., :-1]) + inner[:, None, :, -1]
        along = torch.einsum("rnk,rnd->rkd", risk.activation.value(before), adjoints[:, cell + 1])
        best = along.norm(dim=2).argmax(1)
        rows = torch.arange(len(best), device=best.device)
        direction = along[rows, best]
        length = direction.norm(dim=1, keepdim=True)
        output = -radius[:, None] * torch.where(length > 0, direction / length, 0.0)
        chosen.append((output, inner[rows, best]))
    output, inner = (torch.stack(part, 1)[:, :, None] for part in zip(*chosen, strict=True))
    return DepthMeasure(output, inner[..., :-1], inner[..., -1], torch.ones_like(inner[..., -1]))


def frank_wolfe(
    risk: DepthRisk, measure: DepthMeasure, candidates: Float[Tensor, "runs K inner"], steps: int
) -> Iterator[Step]:
    """So many steps of descent ρ ← (1 − λ)ρ + λν, with the λ = 1, ½, ¼, ... of least risk; the start, then each end.

    The radius R is the largest |u| of the measure at the start. A run keeps its measure where no λ lowers the risk.
    Each step adds a particle to every cell. ValueError: masses below 0, or cells whose mass is not 1.
    """
    require_masses("frank_wolfe", measure, probability=True)
    count("frank_wolfe", "steps", steps)
    radius = measure.output.norm(dim=3).amax((1, 2))
    value = risk.risk(measure)
    for done in range(steps + 1):
        other = best_particle(risk, measure, candidates, radius)
        own = DepthMeasure(*(part.clone() for part in measure))  # what is yielded is the user's to write into
        yield Step(own, value.clone(), -risk.slope(measure, other))
        if done == steps:
            return
        best = torch.zeros_like(value)
        for halving in range(HALVINGS):
            share = torch.full_like(value, 0.5**halving)
            tried = risk.risk(mixture(measure, other, share))
            better = tried < value
            best, value = torch.where(better, share, best), torch.where(better, tried, value)
        measure = mixture(measure, other, best)
