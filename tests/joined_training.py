"""The same short trainings by one process or by several, in float64; run as a program, one of several processes."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch import distributed as dist

from regimes import processes as joined
from regimes import reduction
from regimes.processes import SINGLE, SingleProcess, processes
from regimes.training import assemble
from regimes.training.batch_norm import JoinedBatchNorm
from regimes.training.config import TrainConfig
from regimes.training.loop import descend
from regimes.training.metrics import evaluate
from regimes.training.objectives import FORMS, LEVELS

STEPS = 20
# 47 samples in batches of 10 and a last one of 7: neither 2 nor 3 processes share them equally.
CIRCLES = {
    "dataset": "circles",
    "arch_options": {"blocks": 2, "width": 6, "batch_norm": True},
    "train_size": 47,
    "validation": 31,
    "test_size": 5,
}
DIGITS = {
    "dataset": "digits",
    "arch_options": {"filters": 4, "blocks": 2},
    "train_size": 47,
    "validation": 31,
    "test_size": 5,
    "batch": 10,
    "augment": True,
    "lr": 0.05,
}
LAP = {"lap": True, "every": 2, "growth": 0.5}
SGD = {"optimiser": "sgd", "lr": 0.05}
CASES: dict[str, dict[str, Any]] = {
    **{
        f"{level}, {form}": {**CIRCLES, **SGD, **LAP, "level": level, "form": form, "multiplier": 0.5}
        for level, form in zip(LEVELS, [*FORMS, "divided"], strict=True)
    },
    "risk alone": {**CIRCLES, **SGD},
    "adam": {**CIRCLES, **LAP},
    "mean-field": {**CIRCLES, **SGD, **LAP, "mean_field": True, "tau_start": "random", "tau_clip": 0.1},
    "p = 3": {**CIRCLES, **SGD, **LAP, "p": 3.0, "convention": "sum_over_features"},
    "images": {**DIGITS, **LAP, "level": "batch_after", "form": "divided"},
}


COUNTED = ("risk alone", "batch, divided", "batch_after, multiplied", "images")


def in_float64(config: TrainConfig, ranks: SingleProcess = SINGLE) -> assemble.Setup:
    """The assembly of a run, weights and samples in float64."""
    made = assemble.assemble(config, ranks)
    made.training.model.double()
    for batches in (made.batches, made.measured, made.fitted, made.test):
        normalise = batches.normalise
        batches.normalise = lambda x, normalise=normalise: (x if normalise is None else normalise(x)).double()
    return made


def trained(settings: dict[str, Any], ranks: SingleProcess = SINGLE) -> dict[str, Any]:
    """State after 20 steps, the figures of every step, and what validation measures."""
    config = TrainConfig(**settings)
    torch.manual_seed(0)
    made = in_float64(config, ranks)
    steps = []
    for step in descend(made.training, made.batches, epochs=100):
        figures = [step.value, step.risk, step.transport, step.penalty, step.correct, torch.tensor(step.samples)]
        steps.append(torch.stack([figure.double() for figure in figures if figure is not None]))
        if len(steps) == STEPS:
            break
    found = [evaluate(made.training.model, batches, p=config.p, ranks=ranks) for batches in (made.measured, made.test)]
    state = made.training.state_dict()
    weights: dict[str, Tensor] = state["model"]
    return {
        "weights": dict(weights),
        "multiplier": state["objective"].get("multiplier", torch.zeros(())),
        "steps": torch.stack(steps),
        "measured": [
            torch.tensor([entry.risk, entry.accuracy, entry.samples, *entry.blocks], dtype=torch.float64)
            for entry in found
        ],
    }


def calls(settings: dict[str, Any], ranks: SingleProcess) -> dict[str, list[int]]:
    """How often the processes talk in each of a few steps of a training, and its number of batch norms."""
    made, counts = in_float64(TrainConfig(**settings), ranks), [0]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*given: Any, **more: Any) -> Any:
            counts[0] += 1
            return call(*given, **more)

        return counting

    with ExitStack() as patches:
        for name in ("all_gather", "all_reduce", "broadcast", "broadcast_object_list", "reduce", "barrier"):
            patches.enter_context(mock.patch.object(dist, name, counted(getattr(dist, name))))
        ranks.say(ranks.first, False)
        found = []
        for _, _ in zip(range(4), descend(made.training, made.batches, epochs=1), strict=False):
            found.append(counts[0])
            counts[0] = 0
    assert ranks.heard() == (True, False)
    norms = [module for module in made.training.model.modules() if isinstance(module, JoinedBatchNorm)]
    return {"steps": found, "norms": [len(norms)]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes("cpu") as ranks:
        with mock.patch.object(reduction, "PART", 64):  # several parts, most sent before the backward pass ends
            found = {name: trained(case, ranks) for name, case in CASES.items()}
        with mock.patch.object(assemble, "join_batch_norms"):
            found["norms apart"] = trained(CASES["risk alone"], ranks)
        with mock.patch.object(joined.ProcessGroup, "mean", lambda self, samples, *means: means):
            found["losses apart"] = trained(CASES["batch, divided"], ranks)
        found["calls"] = {name: calls(CASES[name], ranks) for name in COUNTED}
        torch.save(found, Path(sys.argv[1]) / f"{ranks.rank}.pt")
