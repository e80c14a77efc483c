"""What is measured of a trained net on the circles: path of the test cloud, its costs, its distance from optimal.

The gap of T to the optimal pairing of the same two clouds has three units. Relative: over the cost of T. That unit
forgives: where T spreads the points over a size S ≫ 1, the cost is of order S² and the gap at most of order S, whatever
T does. So also: gap / (gap + 2 cov), with cov = 1/n Σ⟨x − x̄, T(x) − mean⟩, the share of the covariance attainable by a
pairing that T's pairing loses. It does not change when T is followed by a shift or a dilation; an optimal T has 0, a
random pairing 1. The gap itself is in the table.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.conventions import generator
from regimes.experiments.least_action.circles.protocol import OFFSET, Trained, accuracy
from regimes.lab import numbers
from regimes.models.residual import Trace
from regimes.transport.discrete import exact_transport
from regimes.transport.energy import measure
from regimes.transport.gap import ot_gap

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 4  # clouds of the figure, from the first state to the last
COLUMNS = {
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "epochs": "epochs",
    "transport": "transport cost Σ‖v‖²",
    "action": "action",
    "map_cost": "cost of T",
    "length": "length",
    "straightness": "straightness",
    "gap": "OT gap",
    "relative_gap": "relative gap",
    "lost_covariance": "covariance lost",
    "asymmetry": "Brenier asymmetry",
    "step_over_w1": "Σ mean‖v‖ / Σ W₁",
    "inner": "mean ⟨v, ∇loss⟩",
}


def rows_of(trained: Trained, *, clouds: bool) -> list[dict[str, Any]]:
    """A row of kind `run`, one of kind `block` for each block, and with `clouds` one a test point and shown state."""
    model, data = trained.model, trained.data
    x = data.normalise(data.test.x).requires_grad_()
    trace = model(x, trace=True)
    slopes = _loss_slopes(trace, data.test.labels)
    path, steps = [state.detach() for state in trace.paths[0]], [step.detach() for step in trace.steps[0]]
    blocks = [
        _block(number, path[number], path[number + 1], step, slope)
        for number, (step, slope) in enumerate(zip(steps, slopes, strict=True))
    ]
    energy = measure([path])
    gap = ot_gap(path[0], model.segment(0).transport, with_power=False, generator=generator(0))
    run = {
        "kind": "run",
        "train_accuracy": accuracy(model, data, data.train),
        "test_accuracy": accuracy(model, data, data.test),
        "epochs": trained.epochs,
        "stopped": trained.stopped,
        "multiplier": trained.multiplier,
        "transport": energy.transport,
        "action": energy.action,
        "map_cost": energy.map_cost,
        "length": energy.length,
        "straightness": energy.straightness,
        "least": least_cost(path[0], data.test.labels, len(steps)),
        "gap": gap.gap,
        "relative_gap": gap.relative_gap,
        "lost_covariance": lost_covariance(path[0], path[-1], gap.gap),
        "asymmetry": gap.map and gap.map.asymmetry,
        "asymmetry_se": gap.map and gap.map.asymmetry_se,
        "min_eigenvalue": gap.map and gap.map.min_eigenvalue,
        "step_over_w1": sum(row["displacement"] for row in blocks) / sum(row["w1"] for row in blocks),
        "inner": sum(row["inner"] for row in blocks) / len(blocks),
    }
    return [run, *blocks, *(_clouds(path, data.test.labels) if clouds else [])]


def _loss_slopes(trace: Trace, labels: Tensor) -> list[Tensor]:
    """Gradient of each point's own cross-entropy with respect to the state at which each block starts."""
    risk = cross_entropy(trace.output, labels, reduction="sum")
    return list(torch.autograd.grad(risk, trace.paths[0][:-1]))


def _block(number: int, start: Tensor, end: Tensor, step: Tensor, slope: Tensor) -> dict[str, Any]:
    solved = exact_transport(start, end, p=1.0, paired=True)
    return {
        "kind": "block",
        "block": number + 1,
        "displacement": step.norm(dim=1).mean(),
        "w1": solved.primal if solved.certified else math.nan,
        "inner": (step * slope).sum(1).mean(),
    }


def cheapest_map(x: Float[Tensor, "n 2"], labels: Tensor) -> Float[Tensor, "n 2"]:
    """The map of least cost that classifies these points rightly: wrong ones go straight to the separating line."""
    height = (x.sum(1) + OFFSET) / math.sqrt(2)  # over the line, positive on the side of class 0
    wrong = torch.where(labels == 1, height > 0, height < 0)
    return x - (wrong * height / math.sqrt(2))[:, None]


def least_cost(x: Float[Tensor, "n 2"], labels: Tensor, blocks: int) -> float:
    """The least Σ_k ‖v_k‖² of any net that classifies these points rightly: that map's cost over the blocks L."""
    return float((cheapest_map(x, labels) - x).square().sum(1).mean() / blocks)


def lost_covariance(x: Float[Tensor, "n 2"], t_of_x: Float[Tensor, "n 2"], gap: float | None) -> float:
    """1 − cov / (largest cov of any pairing), with cov = 1/n Σ⟨x − x̄, T(x) − mean⟩; gap = 2·(largest − cov)."""
    if gap is None:
        return math.nan
    covariance = float(((x - x.mean(0)) * (t_of_x - t_of_x.mean(0))).sum(1).mean())
    return gap / (gap + 2 * covariance)


def _clouds(path: list[Tensor], labels: Tensor) -> list[dict[str, Any]]:
    shown = sorted({round(k * (len(path) - 1) / (SHOWN - 1)) for k in range(SHOWN)})
    return [
        {"kind": "cloud", "block": number, "x": float(f"{x:.5g}"), "y": float(f"{y:.5g}"), "label": label}
        for number in shown
        for (x, y), label in zip(path[number].tolist(), labels.tolist(), strict=True)
    ]


def table(rows: "DataFrame") -> "DataFrame":
    """Medians over seeds with their 95 % intervals, one line an arm: the costs of the wild arm have no useful mean."""
    import pandas

    runs: Any = rows[rows.kind == "run"]
    lines = []
    for arm, some in runs.groupby("arm", sort=False):
        line: dict[str, Any] = {"medians of the arm": arm}
        for name, words in COLUMNS.items():
            if name in some and some[name].notna().any():
                line |= numbers.cells(words, numbers.median(some[name].astype(float)))
        lines.append(line)
    return pandas.DataFrame(lines)
