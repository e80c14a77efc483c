"""The course of many nets of the plane under gradient descent with backtracking, and what is seen on the way."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regimes.control.backtracking import Descent, Rule
from regimes.conventions import generator
from regimes.data.plane import PLANE
from regimes.experiments.control.plane_nets import PlaneNets, unpack
from regimes.lab.numbers import by_seed, paired
from regimes.machine import keep_memory
from regimes.streams import Plane
from regimes.training.unfinished import Unfinished

Row = dict[str, Any]
KINDS = ("net", "method")  # the columns by which statements tell their nets apart


def samples(points: Sequence[Mapping[str, Any]], count: int, stream: Plane) -> tuple[Tensor, Tensor]:
    """x (runs, 2, n) and labels (runs, n) of the data set and seed of each point, in float64."""
    drawn = [PLANE[each["dataset"]](count, generator=generator(each["seed"], stream)) for each in points]
    return torch.stack([x.T.contiguous() for x, _ in drawn]), torch.stack([labels.double() for _, labels in drawn])


def looks(iterations: int, count: int) -> list[int]:
    """0, `count` iterations in about equal ratios, the last of them the end."""
    found = torch.logspace(0, torch.tensor(float(iterations)).log10().item(), count, dtype=torch.float64)
    return sorted({0, iterations, *(min(iterations, round(each)) for each in found.tolist())})


def course(
    nets: PlaneNets,
    start: Float[Tensor, "runs p"],
    rule: Rule,
    iterations: int,
    *,
    fresh: tuple[Float[Tensor, "runs 2 m"], Float[Tensor, "runs m"]],
    project: Callable[[Tensor, Int[Tensor, " some"]], Tensor] | None = None,
    count: int = 30,
    folder: Path | None = None,
    whose: Mapping[str, Any] | None = None,
) -> tuple[list[list[Row]], Float[Tensor, "runs p"]]:
    """Descend for so many iterations a run; the rows seen of each run, and the parameters at the end.

    A row: iteration, trials, loss and accuracy on the run's samples and on fresh ones. Losses are means over samples of
    ½ (output − label)²; accuracy is the share with the output on the label's side of ½. A run in which `folder` has
    the state of an earlier call goes on from there.
    """
    keep_memory()
    descent = Descent(nets, start, rule, project)
    planned = looks(iterations, count)
    seen: list[list[Row]] = [[] for _ in start]
    marks = torch.tensor(planned, dtype=torch.int64)
    kept = Unfinished(folder, whose or {}, [descent])
    found = kept.take_up()
    if found:
        seen = found
    else:
        _look(nets, descent, torch.arange(len(start)), fresh, seen)
    with kept.watched(lambda: seen) as stepped:
        while len(running := (descent.iterations < iterations).nonzero().squeeze(1)):
            taken = descent.trial(running)
            due = taken[torch.isin(descent.iterations[taken], marks)]
            if len(due):
                _look(nets, descent, due, fresh, seen)
            stepped()
    return seen, descent.params


@torch.no_grad()
def _look(
    nets: PlaneNets,
    descent: Descent,
    runs: Int[Tensor, " some"],
    fresh: tuple[Tensor, Tensor],
    seen: list[list[Row]],
) -> None:
    net = unpack(descent.params[runs])
    numbers: list[Tensor] = []
    for x, labels in ((nets.x[runs], nets.labels[runs]), (fresh[0][runs], fresh[1][runs])):
        outputs = nets.forward(net, runs, x).outputs
        numbers += [(outputs - labels).square().mean(1) / 2, right(outputs, labels).double().mean(1)]
    names = ("loss", "accuracy", "fresh_loss", "fresh_accuracy")
    for place, run in enumerate(runs.tolist()):
        row = {"iteration": int(descent.iterations[run]), "trials": int(descent.trials[run])}
        seen[run].append(row | {name: float(each[place]) for name, each in zip(names, numbers, strict=True)})


def right(outputs: Float[Tensor, "*runs n"], labels: Float[Tensor, "*runs n"]) -> Bool[Tensor, "*runs n"]:
    """Whether an output is on the side of its label."""
    return (outputs >= 0.5) == (labels > 0.5)


def ends(rows: Any, dataset: str, kind: str) -> Any:
    """The last row of each seed of one kind of net."""
    (column,) = [one for one in KINDS if one in rows]
    return rows[(rows.dataset == dataset) & (rows[column] == kind) & rows["last"].astype(bool)]


def compared(rows: Any, dataset: str, one: str, other: str, column: str, combine: Callable[[Any, Any], Any]) -> Any:
    """combine(one, other) of a column of two kinds of nets after training, for each seed that has both."""
    first, second = (by_seed(ends(rows, dataset, kind), column) for kind in (one, other))
    return paired(first, second, combine)
