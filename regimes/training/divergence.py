"""When a run counts as diverged: a loss or a weight is not finite, or its risk is far beyond that of a guess."""

from math import isfinite, log
from typing import Any

from regimes.errors import RunFailed

WILD = 1000.0  # times the risk of a guess, or of the first step if that is larger
STALE = (
    "The loss in training is finite: where the net has batch norm, its running statistics, means over the last steps, "
    "may belong to other weights. Train longer, or"
)


class Diverged(RunFailed):
    """The loss or a weight is no longer finite, or the measured risk is beyond all bounds.

    `reason` is the cause in a few words; `outcome`, what the run has left in its folder: its result and its table.
    """

    outcome: Any = None

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def wild(risk: float, classes: int | None, start: float) -> str | None:
    """Why a measured cross-entropy says that a run has diverged; None if it does not.

    Not finite, or over WILD times log(classes), that of a guess, and the risk of the first step, at the initial weights
    (`start`). Without classes, as in a regression: not finite.
    """
    if not isfinite(risk):
        return f"the risk on the test samples is {risk}"
    if classes is None or classes < 2:
        return None
    guess = log(classes)
    if risk > WILD * max(guess, start):
        what = f"of a guess, {guess:.3g}" if guess >= start else f"of the first step, {start:.3g}"
        return f"the risk on the test samples is {risk:.3g}, over {WILD:,.0f} times that {what}"
    return None
