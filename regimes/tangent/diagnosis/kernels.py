"""The tangent kernel before and after training: its drift, its direction, and how it is turned to the targets."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.tangent import estimates
from regimes.tangent.diagnosis.pair import Pair
from regimes.tangent.diagnosis.readings import NotMeasured, Reading, of_points
from regimes.tangent.laziness import cka, kernel_drift
from regimes.tangent.operator import TangentOperator
from regimes.tangent.probing import Probed, probe

Kernel = Float[Tensor, "n n"]
EXACT = 1000  # points up to which kernels are formed
PROBES = 64


class Kernels(NamedTuple):
    """Θ_0 and Θ_T on the points, summed over the outputs; passes: what each took."""

    start: Kernel
    end: Kernel
    passes: int


def kernels(pair: Pair, points: int, memory: int) -> Kernels:
    """Both kernels, exact, on the first `points` of the points; with batch norms at fixed statistics (eval mode)."""
    x = pair.x[:points]
    both = [TangentOperator(module, x, memory=memory, caller="diagnose") for module in (pair.start, pair.end)]
    start, end = (operator.gram(outputs="trace").double().cpu() for operator in both)
    return Kernels(start, end, 1 + both[0].outputs)


def drift(found: Kernels, generator: torch.Generator) -> Reading:
    """‖Θ_T − Θ_0‖ / ‖Θ_0‖, Frobenius."""

    def of(some: Tensor) -> Tensor:
        return kernel_drift(found.end[some][:, some], found.start[some][:, some])

    return of_points(of, len(found.start), generator, 2 * found.passes, low=0.0)


def similarity(found: Kernels, generator: torch.Generator) -> Reading:
    """Centred alignment of Θ_0 and Θ_T: 1 where the kernel has only been scaled."""

    def of(some: Tensor) -> Tensor:
        return cka(found.end[some][:, some], found.start[some][:, some])

    return of_points(of, len(found.start), generator, 2 * found.passes, low=0.0, high=1.0)


def target_alignment(kernel: Kernel, y: Float[Tensor, "m k"], passes: int, generator: torch.Generator) -> Reading:
    """Centred alignment of a kernel with YYᵀ of the targets; one-hot where these are labels."""
    target = y[: len(kernel)].double().cpu()
    if bool((target == target[:1]).all()):
        raise NotMeasured("the targets are the same at all points")
    outer = target @ target.mT
    return of_points(
        lambda some: cka(kernel[some][:, some], outer[some][:, some]),
        len(kernel), generator, passes, low=-1.0, high=1.0,
    )  # fmt: skip


def probed(
    pair: Pair, points: int, y: Float[Tensor, "m k"], generator: torch.Generator, memory: int
) -> tuple[Probed, Probed]:
    """What both kernels (of all outputs) make of common random directions: for any number of points."""
    x = pair.x[:points]
    both = [TangentOperator(module, x, memory=memory, caller="diagnose") for module in (pair.start, pair.end)]
    target = y[: len(x)].to(both[0].tangent.dtype)
    start, end = probe(both, target, generator=generator, probes=PROBES, centred=True)
    return start, end


def estimated(name: str, both: tuple[Probed, Probed]) -> Reading:
    """Drift, similarity or alignment by random probes, with the interval over these."""
    start, end = both
    found = {
        "kernel_drift": lambda: estimates.drift(start, end),
        "kernel_cka": lambda: estimates.similarity(start, end),
        "alignment_start": lambda: estimates.alignment(start),
        "alignment_end": lambda: estimates.alignment(end),
    }[name]()
    return Reading(found.value, found.low, found.high, passes=2 * 2 * PROBES)
