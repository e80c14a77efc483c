"""Images a second: of each precision, layout and choice of algorithms, compiled, and of eight members together."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.first_minute import cases
from benchmarks.first_minute.records import Found, Records
from benchmarks.timing import spread, turn
from regimes.machine import autocast, card_settings
from regimes.training.objectives import LeastAction, Objective, Plain

PRECISIONS = ("fp32", "tf32", "bf16")
OBJECTIVES: dict[str, Callable[[], Objective]] = {"lap": LeastAction, "plain": Plain}
SECONDS, TURNS = 0.6, 3  # of a turn
MEMBERS = 8


def rate(run: Iterator[Any], images: int, device: str, *, warm_up: int) -> Found:
    """Images a second: the median of a few turns, and the slowest and fastest of them."""
    step = lambda: next(run)  # noqa: E731
    warm = turn(step, device, warm_up).wall * warm_up
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count = max(1, round((SECONDS if device == "cuda" else 0.01) / turn(step, device).wall))
    turns = range(TURNS if device == "cuda" else 1)
    found = sorted(images / turn(step, device, count).wall for _ in turns)
    peak = {"peak_mib": round(torch.cuda.max_memory_allocated() / 2**20)} if device == "cuda" else {}
    middle = spread(found).median
    return {"images_per_second": middle, "least": found[0], "most": found[-1], "warm_up": round(warm, 1), **peak}


def throughput(records: Records, device: str) -> None:
    """ResNet9 and ResNeXt50: precision × channels last × cudnn's choice by trying × plain or least action."""
    grid = itertools.product(cases.nets(device, full=True), PRECISIONS, (True, False), (True, False), OBJECTIVES)
    for name, precision, last, tried, title in grid:
        how = f"channels {'last' if last else 'first'}, cudnn benchmark {'on' if tried else 'off'}"
        case = f"{name}, {precision}, {how}, {title}"
        records.attempt(case, _eager, device, name, precision, last, tried, title, seconds=4)


def _eager(device: str, name: str, precision: str, last: bool, tried: bool, title: str) -> Found:
    size = 128 if device == "cuda" else 4
    net = cases.nets(device, full=True)[name]
    with card_settings(device, precision, tried):
        made = cases.training(net, OBJECTIVES[title](), device, torch.float32, last=last)
        data = cases.batches(size, 32 if device == "cuda" else 4, device, torch.float32)
        whole = max(1, len(data) - 1) * size + len(data.data.labels) % size
        run = cases.steps(made, data, autocast(device, precision == "bf16"))
        return rate(run, whole // len(data), device, warm_up=5 if device == "cuda" else 1)


def compiled(records: Records, device: str) -> None:
    """The same compiled, and as CUDA graphs, channels last, the most useful first."""
    ways, known = ("reduce-overhead", None), cases.nets(device, full=True)
    precisions = ("bf16", "tf32")
    if device == "cpu":  # compiling takes a minute there
        ways, known, precisions = (None,), ["resnet9"], ("bf16",)
    for name, precision, mode, title in itertools.product(known, precisions, ways, OBJECTIVES):
        case = f"{name}, {precision}, {'compiled' if mode is None else 'CUDA graphs'}, {title}"
        records.attempt(case, _compiled, device, name, precision, mode, title, seconds=30)


def _compiled(device: str, name: str, precision: str, mode: str | None, title: str) -> Found:
    size = 128 if device == "cuda" else 4
    torch.compiler.reset()
    with card_settings(device, precision):
        made = cases.training(cases.nets(device, full=True)[name], OBJECTIVES[title](), device, torch.float32)
        made.model.compile(mode=mode)
        data = cases.batches(size, 33, device, torch.float32)
        data.data = type(data.data)(data.data.x[: 32 * size], data.data.labels[: 32 * size])  # of one size
        return rate(cases.steps(made, data, autocast(device, precision == "bf16")), size, device, warm_up=8)


def members(records: Records, device: str) -> None:
    """Eight members together beside one network alone: images a second of all members."""
    size, count = (32, 16) if device == "cuda" else (4, 3)
    size_of = {"small": cases.nets(device)["resnet9"], "whole": cases.nets(device, full=True)["resnet9"]}
    for (kind, net), precision, title in itertools.product(size_of.items(), ("tf32", "bf16"), OBJECTIVES):

        def alone(net: cases.Net = net, precision: str = precision, title: str = title) -> Found:
            with card_settings(device, precision):
                made = cases.training(net, OBJECTIVES[title](), device, torch.float32)
                data = cases.batches(size, count, device, torch.float32)
                run = cases.steps(made, data, autocast(device, precision == "bf16"))
                return rate(run, size, device, warm_up=5)

        def joined(net: cases.Net = net, precision: str = precision, title: str = title) -> Found:
            with card_settings(device, precision):
                own = (device, torch.float32, MEMBERS, size, count, autocast(device, precision == "bf16"))
                _, run = cases.together(net, OBJECTIVES[title](), *own)
                return rate(run, MEMBERS * size, device, warm_up=5)

        case = f"{kind} resnet9, batch {size}, {precision}, {title}"
        one = records.attempt(f"{case}, alone", alone, seconds=4)
        many = records.attempt(f"{case}, {MEMBERS} together", joined, seconds=4)
        if one and many and "failed" not in one and "failed" not in many:
            gain = many["images_per_second"] / one["images_per_second"]
            records.write(f"{case}, {MEMBERS} together over one alone", ratio=gain)
