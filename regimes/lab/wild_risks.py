"""When a measured risk says that a run has diverged, and when only running statistics are to blame."""

from math import isfinite, log

WILD = 1000.0  # times the risk of a guess, or of the first step if that is larger
STALE = "the running statistics of batch norm are stale, not the weights wild"


def wild(risk: float, classes: int | None, start: float, part: str = "test") -> str | None:
    """Why a measured cross-entropy says that a run has diverged; None if it does not.

    Not finite, or over WILD times log(classes), that of a guess, and the risk of the first step, at the initial weights
    (`start`). Without classes, as in a regression: not finite. part: the samples that it was measured on.
    """
    if not isfinite(risk):
        return f"the risk on the {part} samples is {risk}"
    if classes is None or classes < 2 or risk <= WILD * max(log(classes), start):
        return None
    what = f"of a guess, {log(classes):.3g}" if log(classes) >= start else f"of the first step, {start:.3g}"
    return f"the risk on the {part} samples is {risk:.3g}, over {WILD:,.0f} times that {what}"


def stale(by_batch: float, classes: int | None, start: float) -> str:
    """What it says of a wild run that with each batch's own statistics the risk on the training samples is `by_batch`.

    Running statistics are means over the last steps: after few, or large ones, they belong to other weights.
    """
    text = f"; with each batch's own statistics the risk on the training samples is {by_batch:.3g}: {STALE}"
    return text if wild(by_batch, classes, start) is None else ""


def longer(reason: str) -> str:
    """The first advice to a run whose running statistics alone are wild."""
    return "train longer, or " if STALE in reason else ""
