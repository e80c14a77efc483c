"""What a run costs: flops of a sample, their share of what the device can do, memory, time to an accuracy."""

import copy
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regimes.conventions import generator
from regimes.models.residual import as_trace

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product gives the device's rate
PRODUCTS = 7
BYTES = 1 if sys.platform == "darwin" else 1024  # unit of the resident set there and on Linux


def training_flops(model: nn.Module, samples: Sequence[int] | Tensor) -> float:
    """Flops a sample of the network's matrix products and convolutions, forward and backward; 2 a multiply-add.

    samples: the shape of one, or a batch. The transport cost, norms and the optimiser have no products and count
    nothing; so batch norms stand in eval mode, where they ask no other process.
    """
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    twin = copy.deepcopy(model).eval()
    device = next(twin.parameters()).device
    x = samples if isinstance(samples, Tensor) else torch.zeros(2, *samples, device=device)
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        as_trace(twin(x)).output.sum().backward()
    return counter.get_total_flops() / len(x)


def _convolution_backward(
    grad: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    mask: Sequence[bool],
    out_shape: Any = None,
) -> int:
    """As many flops as forward for each of the two gradients asked for; torch's own count is too high with groups."""
    places = x if transposed else grad
    forward = 2 * torch.Size((places[0], *places[2:])).numel() * torch.Size(weight).numel()
    return forward * (int(mask[0]) + int(mask[1]))


def matrix_rate(device: str, *, bf16: bool = False) -> float:
    """Flops a second of a large square matrix product on the device, the fastest of a few.

    A CPU's clock is that of the process, all of whose threads work: what others do at the time does not count. float32
    products on a GPU are measured with TF32 where convolutions may use it.
    """
    n = SIDE[device]
    a = torch.randn(n, n, generator=generator(0)).to(device, torch.bfloat16 if bf16 else torch.float32)
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    clock = time.perf_counter if device == "cuda" else lambda: time.process_time() / torch.get_num_threads()
    seconds = []
    try:
        for _ in range(PRODUCTS):
            _wait(device)
            began = clock()
            _ = a @ a
            _wait(device)
            seconds.append(clock() - began)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * n**3 / min(seconds)


def peak_memory(device: str) -> float:
    """Most memory so far, in MiB: allocated on a GPU since the run began; on a CPU the process's resident set."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES / 2**20


def reached(rows: Sequence[Mapping[str, Any]], target: float) -> dict[str, Any] | None:
    """First epoch of validation accuracy ≥ target, and the seconds of training till its end; None if there is none."""
    for count, row in enumerate(rows, 1):
        if row["validation_accuracy"] >= target:
            return {"epoch": row["epoch"], "seconds": round(sum(line["seconds"] for line in rows[:count]), 3)}
    return None


def costs(rows: Sequence[Mapping[str, Any]], flops: float, possible: float, target: float | None) -> dict[str, Any]:
    """The figures of result.json, `flops` a sample and `possible` a second on all devices together.

    Seconds are those of training steps, over all launches, without measurements.
    """
    seconds = sum(row["seconds"] for row in rows)
    seen = sum(row["seconds"] * (row["images_per_second"] or 0) for row in rows)
    rate = seen / seconds if seconds else None
    found = {
        "seconds": round(seconds, 3),
        "images_per_second": None if rate is None else round(rate, 1),
        "flops_per_image": flops,
        "matrix_flops_per_second": float(f"{possible:.4g}"),
        "share_of_matrix_rate": None if rate is None else float(f"{rate * flops / possible:.4g}"),
        "peak_memory_mib": max(row["peak_memory_mib"] for row in rows),
    }
    if target is not None:
        found["target"] = {"validation_accuracy": target, "reached": reached(rows, target)}
    return found


def sentence(result: Mapping[str, Any]) -> str:
    """The same in words, for table.md."""
    if result["images_per_second"] is None:
        return ""
    said = (
        f"{result['seconds']:g} s of training, {result['images_per_second']:g} images/s: "
        f"{result['flops_per_image']:.3g} flops an image, {result['share_of_matrix_rate']:.0%} of the rate of a "
        f"large matrix product; at most {result['peak_memory_mib']:g} MiB."
    )
    if "target" in result:
        goal, found = result["target"]["validation_accuracy"], result["target"]["reached"]
        when = "was not reached" if found is None else f"was reached in epoch {found['epoch']}, {found['seconds']:g} s"
        said += f" Validation accuracy {goal:g} {when}."
    return said


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
