"""What a trained map is worth: its costs, its certified gaps within classes and as a whole, its symmetry."""

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.least_action.least_action_is_ot.problems import Problem
from regimes.lab.averages import averages
from regimes.streams import KnownMap
from regimes.transport.brenier import brenier_test
from regimes.transport.energy import measure
from regimes.transport.pairing import exact_gap

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 60  # points whose paths are kept
COLUMNS = {
    "train_risk": "risk",
    "accuracy": "accuracy",
    "transport": "transport Σ‖v‖²",
    "action": "action",
    "map_cost": "cost of the map",
    "straightness": "straightness",
    "gap": "gap in classes",
    "gap_whole": "gap, whole cloud",
    "gap_null": "gap, dealt out",
    "asymmetry": "asymmetry of T",
    "displacement_asymmetry": "of T − id",
    "distance": "distance to T_w",
    "excess_objective": "objective / least value − 1",
}


def class_gap(x: Float[Tensor, "n d"], t: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> tuple[float, bool]:
    """Relative gap Σ_c n_c gap_c / Σ_c n_c cost_c, each class paired by itself, and whether all are certified."""
    gap = cost = 0.0
    certified = True
    for c in labels.unique():
        some = labels == c
        found = exact_gap(x[some], t[some])
        share = float(some.double().mean())
        gap, cost = gap + share * found.gap_low, cost + share * found.cost_network
        certified = certified and found.certified
    return (gap / cost if cost > 0 else 0.0), certified


def deal(
    x: Float[Tensor, "n d"], t: Float[Tensor, "n d"], labels: Int[Tensor, " n"], stream: torch.Generator
) -> Float[Tensor, "n d"]:
    """Each point moved by the displacement of another point of its class."""
    order = torch.arange(len(x))
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        order[members] = members[torch.randperm(len(members), generator=stream)]
    return x + (t - x)[order]


@torch.no_grad()
def quality(posed: Problem, weight: float, probed: int, seed: int) -> dict[str, Any]:
    """All measures of the trained net on fresh points, and its objective on the training cloud; nan where unknown."""
    model, (x, labels) = posed.model, posed.fresh
    trace = model(x, trace=True)
    path = [state.flatten(1) for state in trace.paths[0]]
    start, end = path[0], path[-1]
    energy = measure([path])
    gap, certified = class_gap(start, end, labels)
    whole = exact_gap(start, end)
    null, null_certified = class_gap(start, deal(start, end, labels, generator(seed, KnownMap.DEAL)), labels)
    transport = model.segment(0).transport
    symmetry = brenier_test(transport, x[:probed], generator=generator(seed, KnownMap.PROBES), eigen_points=16)
    displaced = brenier_test(
        lambda z: transport(z) - z, x[:probed], generator=generator(seed, KnownMap.PROBES), eigen_points=1
    )
    classified = posed.truth is None
    row: dict[str, Any] = {
        "risk": float(posed.value(trace.output, labels)) if classified else math.nan,
        "accuracy": float((trace.output.argmax(1) == labels).double().mean()) if classified else math.nan,
        "transport": float(energy.transport),
        "action": float(energy.action),
        "map_cost": float(energy.map_cost),
        "relative_map_cost": float(energy.map_cost) / posed.variance,
        "excess_action": float(energy.action / energy.map_cost) - 1,
        "straightness": float(energy.straightness),
        "gap": gap,
        "gap_whole": whole.relative_low,
        "gap_null": null,
        "certified": certified and whole.certified and null_certified,
        "asymmetry": symmetry.asymmetry,
        "asymmetry_se": symmetry.asymmetry_se,
        "min_eigenvalue": symmetry.min_eigenvalue,
        "displacement_asymmetry": displaced.asymmetry,
        "displacement_asymmetry_se": displaced.asymmetry_se,
    }
    return row | _on_training_cloud(posed, weight) | _against_truth(posed, weight)


def _on_training_cloud(posed: Problem, weight: float) -> dict[str, float]:
    """Risk and objective there; the excess over the least value, relative to it, where that is known and not 0."""
    trace = posed.model(posed.train.x, trace=True)
    risk = float(posed.value(trace.output, posed.train.labels))
    value = risk + weight * float(measure(trace.paths).action) / posed.variance
    excess = math.nan
    if posed.cost is not None and weight > 0:
        least = weight / (1 + weight) * posed.cost / posed.variance
        excess = value / least - 1
    return {"train_risk": risk, "train_objective": value, "excess_objective": excess}


def _against_truth(posed: Problem, weight: float) -> dict[str, float]:
    """‖T − T_w‖/‖T_w − id‖ in L² of the fresh points, and the whole-cloud gap of T_w on them."""
    if posed.truth is None:
        return {"distance": math.nan, "gap_whole_true": math.nan}
    x, labels = posed.fresh
    true = x + (posed.truth(x, labels) - x) / (1 + weight)
    found = exact_gap(x, true)
    return {
        "distance": float((posed.model(x) - true).norm() / (true - x).norm()),
        "gap_whole_true": found.relative_low,
    }


@torch.no_grad()
def path_rows(posed: Problem) -> list[dict[str, Any]]:
    """States of the first fresh points in the plane, for the figure."""
    states = posed.model(posed.fresh.x[:SHOWN], trace=True).paths[0]
    return [
        {"kind": "path", "scheme": "fixed", "path": i, "block": k, "x": round(x, 4), "y": round(y, 4)}
        for k, state in enumerate(states)
        for i, (x, y) in enumerate(state.tolist())
    ]


def table(rows: "DataFrame") -> "DataFrame":
    """Arithmetic means over the seeds, a line a problem, scheme and weight."""
    ends: Any = rows[rows.kind == "end"]
    return averages(ends, ["problem", "scheme", "weight"], list(COLUMNS)).rename(columns=COLUMNS)
