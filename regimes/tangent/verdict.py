"""Lazy or not: measured numbers against thresholds, with the deciding one in words."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from regimes.checks import kind, positive

LazinessVerdict = Literal["lazy", "not lazy", "undecided"]
ERROR_FACTOR = 10.0  # an effect smaller than this many integration errors decides nothing


class Thresholds(NamedTuple):
    """Largest values of a lazy run. Every number in use must stay below its own.

    tangent_distance 0.1: the tangent model foretells the trained function to one digit, which is what "lazy" means; so
    this number alone can say "not lazy". The others can only keep back a verdict: weight decay, say, moves a kernel
    without learning. kernel_drift 0.2: the drift is twice the relative weight motion for a 2-homogeneous net, so this
    is a motion of 10 %. activation_flips 0.1: with a tenth of the gates changed, the features of a ReLU net are no
    longer those of the start. Weight motion decides nothing by itself: a model that is linear in its weights may move
    far and is its own tangent model.
    """

    tangent_distance: float = 0.1
    kernel_drift: float = 0.2
    activation_flips: float = 0.1


class Measured(NamedTuple):
    """A measured value with its interval (over seeds, say) and integration error; one run has low = value = high."""

    value: float
    low: float
    high: float
    error: float = 0.0


class Judged(NamedTuple):
    """The verdict, the number it rests on, the threshold of that number, and the sentence that says so."""

    verdict: LazinessVerdict
    deciding: str
    number: Measured
    threshold: float
    words: str


def _side(number: Measured, threshold: float) -> LazinessVerdict:
    """Where the interval, widened by ten integration errors, lies."""
    margin = ERROR_FACTOR * number.error
    if number.high + margin < threshold:
        return "lazy"
    return "not lazy" if number.low - margin > threshold else "undecided"


def _told(number: Measured) -> str:
    return f"{number.value:.3g}" + (f" [{number.low:.3g}, {number.high:.3g}]" if number.low < number.high else "")


def _sentence(verdict: LazinessVerdict, name: str, number: Measured, threshold: float, defining: Measured) -> str:
    words, interval = name.replace("_", " "), _told(number)
    if verdict == "lazy":
        return f"lazy: {words} {interval} is below {threshold:g}, and so is every other number below its threshold"
    if verdict == "not lazy":
        return f"not lazy: {words} {interval} is above {threshold:g}"
    if _side(number, threshold) == "not lazy":
        return (
            f"undecided: {words} {interval} is above {threshold:g}, which alone is no proof (weight decay moves a "
            f"kernel, too), and the tangent distance is {_told(defining)}"
        )
    blurred = number.error > 0 and _side(number._replace(error=0.0), threshold) != "undecided"
    reason = f"lies within ten integration errors ({number.error:.1e}) of" if blurred else "straddles"
    return f"undecided: {words} {interval} {reason} the threshold {threshold:g}"


def _measured(name: str, value: Measured | float) -> Measured:
    if isinstance(value, Measured):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"judge_laziness needs {name} as a number or as Measured; got {value!r}.") from None
    return Measured(number, number, number)


def judge_laziness(numbers: Mapping[str, Measured | float], thresholds: Thresholds | None = None) -> Judged:
    """Verdict on a training run from any of the numbers of Thresholds; tangent_distance is needed.

    A plain number is that of one run, without interval and error.

    "not lazy" if the tangent distance lies above its threshold, "lazy" if all numbers lie below theirs, "undecided"
    otherwise; an interval counts with ten times its integration error on both sides. The deciding number is the tangent
    distance for "not lazy", else the largest in units of its threshold among those that give the verdict. ValueError:
    an unknown or missing number, an interval that does not hold its value, nan.
    """
    kind("judge_laziness", "numbers", numbers, Mapping, "a mapping from names to numbers")
    if thresholds is None:
        thresholds = Thresholds()
    kind("judge_laziness", "thresholds", thresholds, Thresholds, "Thresholds of regimes.tangent.verdict")
    limits = thresholds._asdict()
    for name, limit in limits.items():
        positive("judge_laziness", f"the threshold of {name}", limit, single=True)
    if unknown := set(numbers) - set(limits):
        raise ValueError(
            f"judge_laziness knows the numbers {', '.join(limits)}; got also {', '.join(sorted(map(str, unknown)))}."
        )
    if "tangent_distance" not in numbers:
        raise ValueError("judge_laziness needs tangent_distance, the number that defines laziness; it was not given.")
    given = {name: _measured(name, value) for name, value in numbers.items()}
    for name, number in given.items():
        if not (number.low <= number.value <= number.high and number.error >= 0):
            raise ValueError(f"judge_laziness needs low <= value <= high and error >= 0; {name} has {tuple(number)}.")
    sides: dict[str, LazinessVerdict] = {name: _side(number, limits[name]) for name, number in given.items()}
    agreed = sides["tangent_distance"] == "not lazy" or set(sides.values()) == {"lazy"}
    verdict: LazinessVerdict = sides["tangent_distance"] if agreed else "undecided"
    giving = [name for name, side in sides.items() if verdict == "lazy" or side != "lazy"]
    if verdict == "not lazy":
        giving = ["tangent_distance"]
    deciding = max(giving, key=lambda name: given[name].value / limits[name])
    number, threshold = given[deciding], limits[deciding]
    return Judged(
        verdict, deciding, number, threshold, _sentence(verdict, deciding, number, threshold, given["tangent_distance"])
    )
