"""The tangent kernel before and after training: its drift, its direction, and how it is turned to the targets."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.tangent import estimates
from regimes.tangent.diagnosis.pair import Pair
from regimes.tangent.diagnosis.readings import Cost, NotMeasured, Reading, of_points
from regimes.tangent.laziness import cka, kernel_drift
from regimes.tangent.operator import TangentOperator
from regimes.tangent.probing import Probed, probe

Kernel = Float[Tensor, "n n"]
EXACT = 1000  # points up to which kernels are formed
PROBES = 64


class Kernels(NamedTuple):
    """Θ_0 and Θ_T on the points, summed over the outputs; cost: what both took."""

    start: Kernel
    end: Kernel
    cost: Cost


def kernels(pair: Pair, points: int, memory: int) -> Kernels:
    """Both kernels, exact, on the first `points` of the points; with batch norms at fixed statistics (eval mode)."""
    x = pair.x[:points]
    both = [TangentOperator(module, x, memory=memory, caller="diagnose") for module in (pair.start, pair.end)]
    start, end = (operator.gram(outputs="trace").double().cpu() for operator in both)
    return Kernels(start, end, Cost(2 * (1 + both[0].outputs)))


def drift(found: Kernels, generator: torch.Generator) -> Reading:
    """‖Θ_T − Θ_0‖ / ‖Θ_0‖, Frobenius."""

    def of(some: Tensor) -> Tensor:
        return kernel_drift(found.end[some][:, some], found.start[some][:, some])

    return of_points(of, len(found.start), generator, found.cost.once(), low=0.0)


def similarity(found: Kernels, generator: torch.Generator) -> Reading:
    """Centred alignment of Θ_0 and Θ_T: 1 where the kernel has only been scaled."""

    def of(some: Tensor) -> Tensor:
        return cka(found.end[some][:, some], found.start[some][:, some])

    return of_points(of, len(found.start), generator, found.cost.once(), low=0.0, high=1.0)


def target_alignment(kernel: Kernel, y: Float[Tensor, "m k"], cost: Cost, generator: torch.Generator) -> Reading:
    """Centred alignment of a kernel with YYᵀ of the targets; one-hot where these are labels."""
    target = y[: len(kernel)].double().cpu()
    if bool((target == target[:1]).all()):
        raise NotMeasured("the targets are the same at all points")
    outer = target @ target.mT
    return of_points(
        lambda some: cka(kernel[some][:, some], outer[some][:, some]),
        len(kernel), generator, cost.once(), low=-1.0, high=1.0,
    )  # fmt: skip


class Estimates(NamedTuple):
    """What both kernels make of common random directions; cost: of both."""

    start: Probed
    end: Probed
    cost: Cost


def probed(pair: Pair, points: int, y: Float[Tensor, "m k"], generator: torch.Generator, memory: int) -> Estimates:
    """What both kernels (of all outputs) make of common random directions: for any number of points."""
    x = pair.x[:points]
    both = [TangentOperator(module, x, memory=memory, caller="diagnose") for module in (pair.start, pair.end)]
    fits = y.shape[1] == both[0].outputs
    target = y[: len(x)].to(both[0].tangent.dtype) if fits else None
    start, end = probe(both, target, generator=generator, probes=PROBES, centred=True)
    return Estimates(start, end, Cost(start.passes + end.passes))


def estimated(name: str, both: Estimates) -> Reading:
    """Drift, similarity or alignment by random probes, with the interval over these."""
    start, end, cost = both
    if name.startswith("alignment") and start.target is None:
        raise NotMeasured("the targets have not the shape of the outputs, in which the kernel is probed")
    found = {
        "kernel_drift": lambda: estimates.drift(start, end),
        "kernel_cka": lambda: estimates.similarity(start, end),
        "alignment_start": lambda: estimates.alignment(start),
        "alignment_end": lambda: estimates.alignment(end),
    }[name]()
    return Reading(found.value, found.low, found.high, passes=cost.once())
