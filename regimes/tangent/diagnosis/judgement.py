"""From readings to a verdict: lazy, not lazy, or cannot tell, with the number that decided and its threshold."""

from collections.abc import Mapping
from math import isnan
from typing import Literal, NamedTuple

from regimes.checks import kind, positive
from regimes.tangent.diagnosis.readings import FEWEST, Reading

RunVerdict = Literal["lazy", "not lazy", "cannot tell"]


class Limits(NamedTuple):
    """Thresholds, all set before any net of `diagnose_error_rate` was measured.

    linearisation_gap 0.1: lazy means that the network stays with its tangent model ([ChizatOyallonBach2019]); here the
    first order foretells the change of the outputs to one digit. The same limit as for tangent_distance in
    regimes.tangent.verdict. risk_fall 0.1: the share of the initial risk that has to be gone before a training is
    called lazy; any training is straight at first. Chosen.
    Kernel drift, flips, alignment, richness and the tangent model that was trained decide nothing: weight decay moves a
    kernel without any learning, and nets of all regimes can agree where the task is easy.
    """

    linearisation_gap: float = 0.1
    risk_fall: float = 0.1


class RunJudged(NamedTuple):
    """The verdict; the name of the number that decided, its reading and threshold ("" and None: none did); in words."""

    verdict: RunVerdict
    deciding: str
    reading: Reading | None
    threshold: float | None
    words: str


NAMES = {
    "linearisation_gap": "the linearisation gap",
    "gap_after_decay": "the linearisation gap with weight decay set apart",
}


def require_limits(caller: str, limits: Limits) -> None:
    """Refuse what are no limits: no verdict comes of a comparison with NaN."""
    kind(caller, "limits", limits, Limits, "Limits of regimes.tangent.diagnosis.judgement")
    for name, limit in limits._asdict().items():
        positive(caller, f"the limit {name}", limit, single=True)


def judge_run(
    readings: Mapping[str, Reading], points: int, improved: str, limits: Limits, layers: Mapping[str, float] = {}
) -> RunJudged:
    """The gap decides; where it is not below its limit, the smaller of the two.

    improved: why the risk is no sign of a training, "" where it is one. layers: the gap that each makes by itself.
    A verdict needs numbers with their intervals: where they are missing or NaN, it is "cannot tell".
    """
    require_limits("judge_run", limits)
    gaps = {name: readings[name] for name in NAMES if name in readings and _known(readings[name])}
    if points < FEWEST:
        return _unknown(f"{points} points are too few; give {FEWEST} at least")
    if improved:
        return _unknown(improved)
    if not gaps:
        reason = readings["linearisation_gap"].reason
        return _unknown(f"the linearisation gap was not measured: {reason or 'it has no interval'}")
    limit = limits.linearisation_gap
    straight = [each for each in gaps if _value(gaps[each].high) < limit]  # the plain gap first
    name = straight[0] if straight else min(gaps, key=lambda each: _value(gaps[each].value))
    reading = gaps[name]
    low, high = _value(reading.low), _value(reading.high)
    told = f"{NAMES[name]} {reading}"
    if not (high < limit or low > limit):
        words = f"{told} straddles the threshold {limit:g}; more points, or a look in between, may tell"
        return RunJudged("cannot tell", name, reading, limit, f"cannot tell: {words}")
    if low > limit:
        off = _value(reading.value)
        of = f"{off:.0%} of its size" if off < 2 else f"{off:.2g} times its size"
        share = f"the tangent model misses the change of the outputs by {of}"
        words = f"not lazy: {told} is above {limit:g}: {share}{_culprit(layers, limit, _value(reading.value))}"
        return RunJudged("not lazy", name, reading, limit, words)
    start, end = readings["risk_start"].value, readings["risk_end"].value
    if start is None or end is None or isnan(start) or isnan(end):
        return _unknown("the risk before or after the training was not measured")
    fallen = (start - end) / max(abs(start), 1e-300)
    if not fallen >= limits.risk_fall:
        words = (
            f"{told} is below {limit:g}, but the risk has fallen by {fallen:.1%} only, and every training begins "
            f"straight; train until {limits.risk_fall:.0%} of it are gone"
        )
        return RunJudged("cannot tell", "risk_fall", readings["risk_end"], limits.risk_fall, f"cannot tell: {words}")
    return RunJudged("lazy", name, reading, limit, f"lazy: {told} is below {limit:g}")


def _culprit(layers: Mapping[str, float], limit: float, gap: float) -> str:
    """The layer that makes half of it or more by itself, where no other one passes the limit."""
    bent = [name for name, own in layers.items() if own > limit]
    if len(bent) != 1 or len(layers) < 2 or layers[bent[0]] < gap / 2:
        return ""
    return f"; it comes of one layer, {bent[0]}, whose motion alone makes a gap of {layers[bent[0]]:.3g}"


def _unknown(reason: str) -> RunJudged:
    return RunJudged("cannot tell", "", None, None, f"cannot tell: {reason}")


def _known(reading: Reading) -> bool:
    """Whether it has a value and an interval, and no NaN among them."""
    return not any(number is None or isnan(number) for number in (reading.value, reading.low, reading.high))


def _value(number: float | None) -> float:
    assert number is not None
    return number
