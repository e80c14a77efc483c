"""Lazy or not: measured figures against thresholds, with the deciding one in words."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from regimes.checks import positive

LazinessVerdict = Literal["lazy", "not lazy", "undecided"]
ERROR_FACTOR = 10.0  # an effect smaller than this many integration errors decides nothing


class Thresholds(NamedTuple):
    """Largest values of a lazy run. Every figure in use must stay below its own; one above it is enough for "not lazy".

    tangent_distance 0.1: the tangent model foretells the trained function to one digit, which is what "lazy" means.
    kernel_drift 0.2: the drift is twice the relative weight motion for a 2-homogeneous net, so this is a motion of 10
    %. activation_flips 0.1: with a tenth of the gates changed, the features of a ReLU net are no longer those of the
    start. Weight motion decides nothing by itself: a model that is linear in its weights may move far and is its own
    tangent model.
    """

    tangent_distance: float = 0.1
    kernel_drift: float = 0.2
    activation_flips: float = 0.1


class Figure(NamedTuple):
    """A measured value with its interval (over seeds, say) and integration error; one run has low = value = high."""

    value: float
    low: float
    high: float
    error: float = 0.0


class Judged(NamedTuple):
    """The verdict, the figure it rests on, the threshold of that figure, and the sentence that says so."""

    verdict: LazinessVerdict
    deciding: str
    figure: Figure
    threshold: float
    words: str


def _side(figure: Figure, threshold: float) -> LazinessVerdict:
    """Where the interval, widened by ten integration errors, lies."""
    margin = ERROR_FACTOR * figure.error
    if figure.high + margin < threshold:
        return "lazy"
    return "not lazy" if figure.low - margin > threshold else "undecided"


def _sentence(verdict: LazinessVerdict, name: str, figure: Figure, threshold: float) -> str:
    words = name.replace("_", " ")
    interval = f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"
    if verdict == "lazy":
        return f"lazy: {words} {interval} is below {threshold:g}, and so is every other figure below its threshold"
    if verdict == "not lazy":
        return f"not lazy: {words} {interval} is above {threshold:g}"
    blurred = figure.error > 0 and _side(figure._replace(error=0.0), threshold) != "undecided"
    reason = f"lies within ten integration errors ({figure.error:.1e}) of" if blurred else "straddles"
    return f"undecided: {words} {interval} {reason} the threshold {threshold:g}"


def judge_laziness(figures: Mapping[str, Figure], thresholds: Thresholds | None = None) -> Judged:
    """Verdict on a training run from any of the figures of Thresholds; tangent_distance is needed.

    "not lazy" if one figure lies above its threshold, "lazy" if all lie below, "undecided" otherwise; an interval
    counts with ten times its integration error on both sides. The deciding figure is, among those that give
    the verdict, the one largest in units of its threshold. ValueError: an unknown or missing
    figure, an interval that does not hold its value, nan.
    """
    limits = (thresholds or Thresholds())._asdict()
    for name, limit in limits.items():
        positive("judge_laziness", f"the threshold of {name}", limit)
    if unknown := set(figures) - set(limits):
        raise ValueError(
            f"judge_laziness knows the figures {', '.join(limits)}; got also {', '.join(sorted(unknown))}."
        )
    if "tangent_distance" not in figures:
        raise ValueError("judge_laziness needs tangent_distance, the figure that defines laziness; it was not given.")
    for name, figure in figures.items():
        if not (figure.low <= figure.value <= figure.high and figure.error >= 0):
            raise ValueError(f"judge_laziness needs low <= value <= high and error >= 0; {name} has {tuple(figure)}.")
    sides = {name: _side(figure, limits[name]) for name, figure in figures.items()}
    order: tuple[LazinessVerdict, ...] = ("not lazy", "undecided", "lazy")
    verdict: LazinessVerdict = next(each for each in order if each in sides.values())
    giving = [name for name, side in sides.items() if side == verdict]
    deciding = max(giving, key=lambda name: figures[name].value / limits[name])
    figure, threshold = figures[deciding], limits[deciding]
    return Judged(verdict, deciding, figure, threshold, _sentence(verdict, deciding, figure, threshold))
