"""How long the next step of each run may be: control of the error of single steps."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.arithmetic import combine, root_mean_square

Parts = tuple[Tensor, ...]
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
# Shares of 1/(order + 1) for the error and for the error before it (a proportional-integral controller: smooth where
# stability binds).
_PROPORTIONAL, _INTEGRAL = 0.7, 0.4


class Controller(NamedTuple):
    """order: of the embedded solution plus one, the power of the step with which the error of a step falls."""

    rtol: Float[Tensor, " runs"]
    atol: Float[Tensor, " runs"]
    order: int

    def norm(
        self, parts: Sequence[Tensor], states: Sequence[Sequence[Tensor]], runs: Tensor
    ) -> Float[Tensor, " chosen"]:
        """Size of each run relative to the tolerance at the larger of the states; the largest over the tensors."""
        sizes = []
        for index, part in enumerate(parts):
            sizes_here = [root_mean_square(state[index]) for state in states]
            reference = sizes_here[0] if len(states) == 1 else torch.maximum(*sizes_here)
            sizes.append(root_mean_square(part) / (self.atol[runs] + self.rtol[runs] * reference))
        return torch.stack(sizes).amax(0)

    def first(self, field: Callable[[Tensor, Parts], Parts], parts: Parts, slopes: Parts, runs: Tensor) -> Tensor:
        """Step whose error should be about a hundredth of the tolerance, from the first two derivatives."""
        size, speed = (self.norm(each, [parts], runs) for each in (parts, slopes))
        trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed.clamp_min(1e-300))
        ahead = field(trial, combine(parts, trial, [slopes], (1.0,)))  # the start is at time 0
        change = tuple(new - old for new, old in zip(ahead, slopes, strict=True))
        bend = self.norm(change, [parts], runs) / trial
        largest = torch.maximum(speed, bend.nan_to_num(nan=torch.inf))
        return torch.minimum(100 * trial, torch.where(largest <= 1e-15, 1e-3, _power(0.01 / largest, 1 / self.order)))

    def after_success(self, size: Tensor, error: Tensor, last: Tensor) -> Tensor:
        """The next step after an accepted one; both errors relative to the tolerance."""
        factor = _SAFETY * _power(error, -_PROPORTIONAL / self.order) * _power(last, _INTEGRAL / self.order)
        return size * factor.clamp(_SHRINK, _GROW)

    def after_refusal(self, size: Tensor, error: Tensor) -> Tensor:
        """The step to try next after a refused one."""
        return size * (_SAFETY * _power(error, -1 / self.order)).clamp(_SHRINK, 1.0)


def _power(base: Tensor, exponent: float) -> Tensor:
    """base^exponent by exp and log: on some processors the last bit of torch.pow depends on how many runs there are."""
    return torch.exp(exponent * torch.log(base))
