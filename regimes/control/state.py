"""Where an adaptive integration stands: all that its next step depends on."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class IntegratorState(NamedTuple):
    """Everything an integration knows about some runs: one entry a run in every tensor."""

    time: Float[Tensor, " runs"]
    step: Float[Tensor, " runs"]  # what the controller wants next
    last: Float[Tensor, " runs"]  # error of the last full step, relative to the tolerance
    steps: Int[Tensor, " runs"]
    rejected: Int[Tensor, " runs"]
    stopped: Bool[Tensor, " runs"]
    forced: Int[Tensor, " runs"]
    parts: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]  # velocity at `parts`

    def take(self, runs: Int[Tensor, " chosen"]) -> "IntegratorState":
        """That of some runs, by index; a copy."""
        time, step, last, steps, rejected, stopped, forced = (field[runs] for field in self[:7])
        parts, slopes = (tuple(part[runs] for part in field) for field in (self.parts, self.slopes))
        return IntegratorState(time, step, last, steps, rejected, stopped, forced, parts, slopes)

    def put(self, runs: Int[Tensor, " chosen"], states: "IntegratorState") -> None:
        """Write that of some runs in their places."""
        for mine, other in zip(self.tensors(), states.tensors(), strict=True):
            mine[runs] = other

    def clone(self) -> "IntegratorState":
        """A copy that later steps leave alone."""
        return IntegratorState.of([tensor.clone() for tensor in self.tensors()])

    def tensors(self) -> list[Tensor]:
        """All tensors in a row, to be kept on a disk."""
        return [*self[:7], *self.parts, *self.slopes]

    @staticmethod
    def of(tensors: list[Tensor]) -> "IntegratorState":
        """The state from such a row."""
        time, step, last, steps, rejected, stopped, forced, *parts = tensors
        half = len(parts) // 2
        return IntegratorState(
            time, step, last, steps, rejected, stopped, forced, tuple(parts[:half]), tuple(parts[half:])
        )
