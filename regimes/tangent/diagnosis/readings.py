"""One measured number with its interval over subsamples of the points, its cost, or the reason why it is missing."""

import time
from collections.abc import Callable
from math import isnan, nan
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.errors import first_line, out_of_memory

HALVES = 200  # half subsamples behind an interval
KERNEL_HALVES = 60  # the same where each is a piece of a kernel
LEVEL = 0.95
FEWEST = 8  # points below which a half says nothing
LEFT_OUT = 0.1  # share of the halves without a value beyond which there is no interval


class Reading(NamedTuple):
    """value, with its 95 % interval [low, high] over subsamples of the points; value None: `reason` says why.

    low, high: None where no points enter, and where too many halves have no value (see of_points). seconds and passes:
    what it cost, a pass being one forward, backward or forward-derivative evaluation of all its points.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    seconds: float = 0.0
    passes: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"not measured: {self.reason}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval}"


class Cost:
    """Passes that several readings share: they count with the first of these that asks, as their time does."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def once(self) -> int:
        left, self.left = self.left, 0
        return left


class NotMeasured(Exception):
    """Why a number cannot be had for this model on these points."""


def read(measure: Callable[[], Reading]) -> Reading:
    """The reading with its time; what stands in its way becomes its reason."""
    begun = time.perf_counter()
    try:
        found = measure()
    except NotMeasured as error:
        found = Reading(None, reason=str(error))
    except (ValueError, RuntimeError, MemoryError) as error:
        text = first_line(error, 1000)
        reason = text if len(text) <= 200 else text.partition(". ")[0]  # a whole sentence: what is wrong
        full = out_of_memory(error)
        found = Reading(None, reason="it does not fit into memory; take fewer points" if full else reason)
    if found.value is not None and not abs(found.value) < float("inf"):
        found = Reading(None, passes=found.passes, reason="it came out as NaN or infinite")
    return found._replace(seconds=time.perf_counter() - begun)


def root_ratio(
    above: Float[Tensor, " n"], below: Float[Tensor, " n"], generator: torch.Generator, passes: int
) -> Reading:
    """√(Σ above / Σ below) of one number each a point."""
    both = torch.stack([above, below]).double().cpu()
    halves = torch.stack([both[:, half].sum(1) for half in _halves(len(above), HALVES, generator)] or [both.sum(1)])
    value = (both[0].sum() / both[1].sum()).sqrt()
    return spread(float(value), (halves[:, 0] / halves[:, 1]).sqrt().tolist(), len(above), passes, 0.0)


def of_points(
    measure: Callable[[Tensor], Tensor | float], n: int, generator: torch.Generator, passes: int, *, low: float,
    high: float = float("inf"), halves: int = KERNEL_HALVES,
) -> Reading:  # fmt: skip
    """measure(numbers of points) of all n points, with the spread over halves of them; kept within [low, high].

    A half in which nothing can be measured, as one that holds a single class, is left out; where there are more than a
    few of them, the value has no interval. What stands in the way on all points is an error.
    """
    value = float(measure(torch.arange(n)))
    some = [_if_any(measure, half) for half in _halves(n, halves, generator)]
    return spread(value, some, n, passes, low, high)


def _if_any(measure: Callable[[Tensor], Tensor | float], some: Tensor) -> float:
    try:
        return float(measure(some))
    except (ValueError, NotMeasured):
        return nan


def spread(value: float, halves: list[float], n: int, passes: int, low: float, high: float = float("inf")) -> Reading:
    """The value, and the 2.5 and 97.5 % quantiles of the halves around their mean, moved to it.

    Half subsamples without replacement scatter about the value of all n points as that scatters about its limit. No
    interval below FEWEST points, nor where more than LEFT_OUT of the halves are NaN; fewer are left out.
    """
    known = [half for half in halves if not isnan(half)]
    if n < FEWEST or not known or len(known) < (1 - LEFT_OUT) * len(halves):
        return Reading(value, passes=passes)
    some = torch.tensor(known, dtype=torch.float64)
    away = torch.quantile(some - some.mean(), torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
    return Reading(value, max(low, value + float(away[0])), min(high, value + float(away[1])), passes=passes)


def _halves(n: int, count: int, generator: torch.Generator) -> list[Tensor]:
    if n < FEWEST:
        return []
    return [torch.randperm(n, generator=generator, device=generator.device)[: n // 2].cpu() for _ in range(count)]
