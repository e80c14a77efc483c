"""Peak resident memory of the first training step and of the first three, in MiB, one process a case; a program.

Prints one line of JSON: for each case the resident memory before, the peak after one step and after three. In the case
"held" the states of a step are kept through the next one, which the comparison must see.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import torch

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.data.member_batches import MemberBatches
from regimes.machine import peak_memory
from regimes.models.build import build
from regimes.training.ensemble import Ensemble, EnsembleTraining
from regimes.training.loop import Step, Training, descend
from regimes.training.objectives import LeastAction, Plain

CASES = ("plain", "least action", "measured again", "ensemble", "held")
BATCH, WIDTH, STEPS = 2048, 512, 3  # states of 4 MiB


def net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build("dense", (WIDTH,), 10, blocks=12, width=WIDTH, hidden=32)


def samples(size: int) -> Labelled:
    count = STEPS * size
    return Labelled(torch.randn(count, WIDTH, generator=generator(0)), torch.arange(count) % 10)


def steps(case: str) -> Iterator[Step]:
    """Endless steps of one case."""
    rule: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "fused": True}
    if case == "ensemble":
        ensemble = Ensemble([net(0), net(1)])
        optimizer = torch.optim.SGD(ensemble.parameters(), **rule)
        drawn = MemberBatches([Batches(samples(BATCH // 2), BATCH // 2, seed=seed) for seed in range(2)])
        return descend(EnsembleTraining(ensemble, LeastAction(), optimizer), drawn, epochs=1)
    model = net()
    objective = (
        Plain() if case == "plain" else LeastAction(level="batch_after" if case == "measured again" else "batch")
    )
    if case == "held":
        kept: list[Any] = []
        model.register_forward_hook(lambda module, inputs, output: kept.__setitem__(slice(None), [*kept[-1:], output]))
    training = Training(model, objective, torch.optim.SGD(model.parameters(), **rule))
    return descend(training, Batches(samples(BATCH), BATCH), epochs=1)


def measured(case: str) -> list[float]:
    """Resident memory before the steps, then the peaks after the first and after the last."""
    made = steps(case)
    found = [peak_memory("cpu")]
    for number, _ in enumerate(made, 1):
        if number in (1, STEPS):
            found.append(peak_memory("cpu"))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)

    for case in CASES:
        sys.stdout.flush()
        if os.fork() == 0:  # a peak of its own
            try:
                print(json.dumps([case, measured(case)]), flush=True)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.wait()
