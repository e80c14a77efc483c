"""The batches of one optimiser step in a loop of one's own: how many have come, and their mean risk."""

import torch
from jaxtyping import Float
from torch import Tensor

FORGOTTEN = (
    "LeastAction is called again before after_step(): call it once after each optimiser step, or skip() where the step "
    "is left out. Measure on other samples by loss(output, targets), which counts nothing"
)


class Window:
    """A step of `size` batches: opened by the first call of the objective, closed by after_step."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.empty()

    def empty(self) -> None:
        """No batch has come."""
        self.seen, self.samples = 0, 0
        self._risks: list[Tensor] = []

    @property
    def full(self) -> bool:
        """Whether all its batches have come."""
        return self.seen == self.size

    def refuse_another(self) -> None:
        """ValueError if all batches of the step have come: after_step was forgotten."""
        if self.full:
            more = f" (accumulate={self.size}: after every {self.size} calls)" if self.size > 1 else ""
            raise ValueError(f"{FORGOTTEN}{more}.")

    def take(self, risk: Float[Tensor, "*members"], samples: int) -> None:
        """One more batch; ValueError if it has another size than the first: its mean would count samples unevenly."""
        if self.seen and samples * self.seen != self.samples:
            raise ValueError(
                f"LeastAction with accumulate={self.size} needs the batches of a step in one size, so that all samples "
                f"count alike; got {self.samples // self.seen} and then {samples}. Take drop_last=True."
            )
        self.seen, self.samples = self.seen + 1, self.samples + samples
        self._risks.append(risk)

    def risk(self) -> Float[Tensor, "*members"]:
        """The mean over all samples of the step."""
        return self._risks[0] if self.size == 1 else torch.stack(self._risks).mean(0)

    def close(self) -> None:
        """The step is done; ValueError if it is not: after_step came too early, or twice."""
        if not self.full:
            raise ValueError(
                f"LeastAction needs after_step() after each optimiser step, once {self.size} "
                f"{'batch has' if self.size == 1 else 'batches have'} come (accumulate={self.size}); "
                f"since the last one {self.seen} came. Step where `full` is true."
            )
        self.empty()
