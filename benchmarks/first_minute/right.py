"""Is a step on the card the step of the CPU, with several processes' norms too, and does it never wait?"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from benchmarks.first_minute import cases
from benchmarks.first_minute.records import Found, Records
from regimes.machine import autocast
from regimes.processes import BACKENDS, ProcessGroup
from regimes.training.batch_norm import join_batch_norms
from regimes.training.loop import Training
from regimes.training.objectives import LeastAction, Objective, Plain

FAR = 1e-8  # of the step's length, in float64: rounding leaves some 1e-12, a wrong term some 1e-2
STEPS = 20  # without a wait


def agree(records: Records, device: str) -> None:
    """One step in float64 on the CPU and on the device: weights, and λ where there is one."""
    objectives = cases.objectives()
    few = ("plain", "divided, batch")
    for name, net in cases.nets(device).items():
        for title, objective in objectives.items():
            if name == "resnet9" or title in few:
                records.attempt(f"{name}, {title}", alone, net, objective, device)
    for title in (*few, "multiplied, batch_after", "divided, running"):
        records.attempt(f"ensemble of 2, {title}", ensemble, objectives[title], device)


def _size(device: str) -> int:
    return 16 if device == "cuda" else 4


def alone(net: cases.Net, objective: Callable[[], Objective], device: str) -> Found:
    """One network's step on the device beside that on the CPU."""

    def one(place: str) -> tuple[Tensor, Tensor, Objective]:
        made = cases.training(net, objective(), place, torch.float64)
        before = cases.flat(made.model)
        next(cases.steps(made, cases.batches(_size(device), 2, place, torch.float64)))
        return before, cases.flat(made.model), made.objective

    before, exact, first = one("cpu")
    _, found, second = one(device)
    return _distance(before, exact, found, first, second)


def ensemble(objective: Callable[[], Objective], device: str) -> Found:
    """The same of two members trained together."""
    net = cases.nets(device)["resnet9"]

    def one(place: str) -> tuple[Tensor, Tensor, Objective]:
        made = objective()
        model, run = cases.together(net, made, place, torch.float64, 2, _size(device), 2)
        before = cases.flat(model)
        next(run)
        return before, cases.flat(model), made

    before, exact, first = one("cpu")
    _, found, second = one(device)
    return _distance(before, exact, found, first, second)


def _distance(before: Tensor, exact: Tensor, found: Tensor, first: Objective, second: Objective) -> Found:
    away = float((found - exact).norm() / (exact - before).norm())
    result: Found = {"of_the_step": away}
    if isinstance(first, LeastAction) and isinstance(second, LeastAction):
        one, other = (made.multiplier.double().cpu() for made in (first, second))
        result["of_the_multiplier"] = float(((one - other) / one).abs().max())
    return {"ok": all(number <= FAR for number in result.values()), **result}


def joined_norms(records: Records, device: str) -> None:
    """A step with joined batch norms in a group of one process is the step without."""

    records.attempt(f"resnet9 in a group of one, {BACKENDS[device]}", in_a_group, device)


def in_a_group(device: str) -> Found:
    """A step in a group of one process, its batch norms joined, beside the step of a process without a group."""
    dist.init_process_group(BACKENDS[device], store=dist.HashStore(), rank=0, world_size=1)
    try:
        return _joined_step(device)
    finally:
        dist.destroy_process_group()


def _joined_step(device: str) -> Found:
    net, ranks, after = cases.nets(device)["resnet9"], ProcessGroup(), []
    for joined in (False, True):
        model = cases.network(net, device, torch.float64)
        before = cases.flat(model)
        optimizer = torch.optim.SGD(model.parameters(), **cases.RULE)
        if joined:
            join_batch_norms(model, ranks.gather)
            made = Training(model, Plain(join=ranks.mean), optimizer, ranks=ranks)
        else:
            made = Training(model, Plain(), optimizer)
        next(cases.steps(made, cases.batches(_size(device), 2, device, torch.float64)))
        after.append(cases.flat(model))
    away = float((after[0] - after[1]).norm() / (after[0] - before).norm())
    return {"ok": away <= FAR, "of_the_step": away}


def no_waits(records: Records, device: str) -> None:
    """20 steps of each combination, across the end of an epoch, in which a wait for the card is an error."""
    size, chosen = _size(device), cases.objectives()
    for name, net in cases.nets(device).items():
        for title, objective in chosen.items():
            for bf16 in (False, True):
                if name == "resnet9" or title in ("plain", "divided, batch"):
                    case = f"{name}, {title}{', bfloat16' * bf16}"
                    records.attempt(case, without_waits, device, net, objective, size, bf16)
    for title in ("plain", "divided, batch", "multiplied, batch_after", "divided, running"):
        records.attempt(f"ensemble of 2, {title}", ensemble_without_waits, device, chosen[title], size)


def without_waits(device: str, net: cases.Net, objective: Callable[[], Objective], size: int, bf16: bool) -> Found:
    """Steps of one network."""
    made, data = cases.training(net, objective(), device, torch.float32), cases.batches(size, 8, device, torch.float32)
    return steps_without_waits(device, cases.steps(made, data, autocast(device, bf16)))


def ensemble_without_waits(device: str, objective: Callable[[], Objective], size: int) -> Found:
    """Steps of two members together."""
    net = cases.nets(device)["resnet9"]
    return steps_without_waits(device, cases.together(net, objective(), device, torch.float32, 2, size, 8)[1])


def steps_without_waits(device: str, run: Any) -> Found:
    """STEPS steps after the first two, in which a wait raises on a card."""
    for _ in range(2):
        next(run)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(STEPS):
            last = next(run)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return {"ok": bool(last.value.isfinite().all()), "steps": STEPS}
