"""The numbers of diagnose along a training loop of the caller's own."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from regimes.checks import count, kind
from regimes.errors import first_line
from regimes.modules import copied, unwrapped
from regimes.modules.targets import Risk
from regimes.tangent.diagnosis.diagnose import Diagnosis, diagnose

COSTLY = frozenset({"kappa", "tangent_disagreement", "layers"})
ROW = ("weight_motion", "linearisation_gap", "gap_after_decay", "kernel_drift", "kernel_cka", "alignment_end",
       "activation_flips", "richness_end", "risk_end")  # fmt: skip


class Tracker:
    """Follows a model away from the weights that it has now: make it before the training, call it in the loop.

        tracker = Tracker(model, x, y)
        for step in range(steps):
            ...
            tracker(step)

    rows: one mapping a call: step, verdict so far, weight_motion, linearisation_gap, ..., None where not measured, and
    `words`. last: the latest Diagnosis. x, y, risk: samples and loss of the training, as `diagnose` takes them.
    every: calls between two measurements, the first call is measured. omit: as in diagnose; by default what is costly.
    say: called with each row, to log it. The model is copied, measured in eval mode, and not touched; batch norms are
    measured as in training. A model that cannot be measured any more, as after a divergence, gives a row whose words
    say so, and ends no training. ValueError at the start for what diagnose refuses.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "n *sample"],
        y: Shaped[Tensor, "n *targets"],
        *,
        risk: Risk | None = None,
        every: int = 1,
        points: int = 100,
        kernel_points: int = 50,
        omit: Collection[str] = COSTLY,
        say: Callable[[dict[str, Any]], Any] = lambda row: None,
    ) -> None:
        kind("Tracker", "model", model, nn.Module, "a torch module")
        self.model, self.every, self.say = model, count("Tracker", "every", every), say
        self.x, self.y = x, y
        self.options: dict[str, Any] = {"risk": risk, "points": points, "kernel_points": kernel_points, "omit": omit}
        self.start = self._now()
        self.rows: list[dict[str, Any]] = []
        self.calls = 0
        self.last: Diagnosis = diagnose(self.start, self.start, x, y, **self.options)

    def __call__(self, step: int | None = None) -> Diagnosis:
        """Measure, if it is the turn; step: what the row is called, None for the number of the call."""
        due, number = self.calls % self.every == 0, self.calls if step is None else step
        self.calls += 1
        if due:
            self._measure(number)
        return self.last

    def _measure(self, step: int) -> None:
        row: dict[str, Any] = {"step": step, "verdict": "cannot tell", **dict.fromkeys(ROW)}
        try:
            with torch.inference_mode(False):
                self.last = diagnose(self.start, self._now(), self.x, self.y, **self.options)
            row |= {"verdict": self.last.verdict, "words": self.last.judged.words}
            row |= {name: self.last.readings[name].value for name in ROW}
        except (ValueError, RuntimeError) as error:  # the training goes on, whatever its model cannot do
            row["words"] = f"cannot tell: {first_line(error)}"
        self.rows.append(row)
        self.say(row)

    def _now(self) -> nn.Module:
        return copied(unwrapped(self.model)).eval()
