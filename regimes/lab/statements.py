"""Statements with predictions, and the verdict of a measurement on them."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from regimes.lab.intervals import LEVEL, Estimate, Interval

Verdict = Literal["supported", "refuted", "inconclusive", "not reproduced", "not measured", "no verdict"]
NO_VERDICT: Literal["no verdict"] = "no verdict"  # of a smoke run, or one that lacks points of its grid
SMOKE = f"Smoke run: {NO_VERDICT}."
Origin = Literal["published", "derived", "after a pilot", "chosen"]
ERROR_FACTOR = 10.0
FEW = 2  # repetitions that are few; one decides nothing
ALIKE = 6  # repetitions: of fewer, least and largest hold the median with less than 95 %, so no spread says little
ONCE = "One repetition has no interval and decides nothing."
TWICE = "Two repetitions are few: Student's factor is then 12.7, and only large effects show."


class Prediction(NamedTuple):
    """A measured quantity, in words, the interval in which the statement puts it, and where that comes from.

    `published`: the source's own number or direction; `derived`: from a theorem, a scaling or an argument that the
    statement gives; `after a pilot`: set or moved when trial runs had been looked at, whatever it rests on besides;
    `chosen`: a threshold set by hand before any run. The tolerance around a published or derived value is ours.
    """

    quantity: str
    interval: Interval
    origin: Origin


class Baseline(NamedTuple):
    """A published number that a run has to meet before the predictions that it `gates` are judged.

    Met: the measured value lies in `published` widened by `tolerance`. Missed: it does not, and neither does any of its
    interval; the gated predictions are then "not reproduced". Between the two they are "inconclusive".
    """

    quantity: str
    published: Interval
    tolerance: float
    gates: tuple[str, ...]

    def met(self, measured: Estimate) -> bool | None:
        """True: met, False: missed, None: not decided."""
        near = self.published.widened(self.tolerance)
        if near.low <= measured.value <= near.high:
            return True
        return False if measured.interval.disjoint(near) else None


class Finding(NamedTuple):
    """One prediction against its measurement; `error` is the integration error of the measured value.

    `measured` is the 95 % interval around `value`, `corrected` the one that holds for all predictions of the statement
    together. Both are NaN where nothing was measured. `reason` says in words why the verdict is neither "supported" nor
    "refuted", or with what it has to be read; `average` what the value is of its repetitions, if no usual mean.
    """

    quantity: str
    predicted: Interval
    origin: Origin
    value: float
    measured: Interval
    corrected: Interval
    repetitions: int | None
    error: float
    verdict: Verdict
    reason: str = ""
    average: str = ""


class Judgement(NamedTuple):
    """The verdict on a statement, the findings behind it, further numbers, and sentences for the reader."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    merits: Mapping[str, float] = {}
    notes: tuple[str, ...] = ()

    def of_one_seed(self) -> "Judgement":
        """The same measurements where the whole run has one seed: nothing is decided, whatever its intervals are."""
        findings = [
            finding._replace(verdict="inconclusive", reason="one repetition decides nothing")
            if finding.verdict in ("supported", "refuted")
            else finding
            for finding in self.findings
        ]
        return self._replace(verdict=overall(findings), findings=tuple(findings)).with_notes(ONCE)

    def with_notes(self, *notes: str) -> "Judgement":
        """The same with further sentences; each stands once."""
        return self._replace(notes=tuple(dict.fromkeys((*self.notes, *notes))))

    def of_smoke_run(self) -> "Judgement":
        """The same measurements without verdicts: a smoke run shows that the code runs, and claims nothing."""
        return self._without_verdict(SMOKE)

    def of_points(self, measured: int, planned: int) -> "Judgement":
        """The same where all planned points are measured; without them the run claims nothing yet."""
        if measured >= planned:
            return self
        return self._without_verdict(f"Unfinished: {measured} of {planned} points are measured, {NO_VERDICT}.")

    @property
    def smoke(self) -> bool:
        """Whether it is that of a smoke run."""
        return SMOKE in self.notes

    def _without_verdict(self, note: str) -> "Judgement":
        findings = tuple(
            finding if finding.verdict == "not measured" else finding._replace(verdict=NO_VERDICT, reason="")
            for finding in self.findings
        )
        notes = tuple(dict.fromkeys((note, *self.notes)))
        return self._replace(verdict=NO_VERDICT, findings=findings, notes=notes)


class Statement(NamedTuple):
    """A claim of the theory, where it is published, and what it predicts for the measured quantities."""

    claim: str
    source: str
    predictions: tuple[Prediction, ...]
    baselines: tuple[Baseline, ...] = ()
    title: str = ""  # the subject in a few words, for lists

    def judge(
        self,
        measured: Mapping[str, Estimate | Interval],
        error: Mapping[str, float] | None = None,
        merits: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Judgement:
        """Verdicts on the predictions, and on the statement.

        A prediction is supported if the 95 % interval lies inside it, and refuted if the interval at level 1 − 0.05/k
        is disjoint from it, k the number of predictions that were measured; else it is inconclusive. A bare Interval
        has no sampling error. Each interval is widened first by 10 × its integration error. What was repeated once
        decides nothing, nor do two that gave the same number; what `measured` does not have is not measured.
        The statement is not reproduced if a published baseline is missed; refuted if any prediction is; supported if
        all are; not measured if none is. A true statement is then refuted with a probability of at most 5 %, however
        many predictions it has and however they depend on each other (Bonferroni; Holm's method would refute the same
        statements, as its first step is this one). "Supported if all are" needs no correction: it is wrong only if the
        one prediction that is false is supported (intersection-union test, Berger 1982).
        """
        error = error or {}
        known = [prediction.quantity for prediction in self.predictions]
        gates = [baseline.quantity for baseline in self.baselines]
        for name in (*measured, *error):
            if name not in known and name not in gates:
                raise ValueError(f"no prediction speaks of {name!r}; the statement has: {', '.join(known)}")
        seen = {
            name: one if isinstance(one, Estimate) else Estimate.exact(Interval(*one)) for name, one in measured.items()
        }
        level = 1 - (1 - LEVEL) / max(1, sum(name in seen for name in known))
        findings = [
            _finding(said, seen[said.quantity], error.get(said.quantity, 0.0), level)
            if said.quantity in seen
            else _missing(said)
            for said in self.predictions
        ]
        for baseline in self.baselines:
            if baseline.quantity in seen:
                findings = [_gated(finding, baseline, seen[baseline.quantity]) for finding in findings]
        return Judgement(overall(findings), tuple(findings), dict(merits or {}), (*notes, *_sentences(findings)))


def overall(findings: list[Finding]) -> Verdict:
    """The verdict on a statement from those on its predictions."""
    verdicts = {finding.verdict for finding in findings}
    if "not reproduced" in verdicts:
        return "not reproduced"
    if "refuted" in verdicts:
        return "refuted"
    first = findings[0].verdict
    return first if verdicts == {first} else "inconclusive"


def because(verdict: str, findings: Sequence[str]) -> str:
    """The sentence that says why a statement has its verdict, from those on its predictions."""
    count, same, absent = len(findings), findings.count(verdict), findings.count("not measured")
    if verdict == "inconclusive" and not same:
        return f"Not measured: {absent} of {count} predictions. The others are supported."
    return {
        "supported": f"Supported: all {count} predictions.",
        "refuted": f"Refuted: {same} of {count} predictions.",
        "inconclusive": f"Inconclusive: {same} of {count} predictions. None is refuted.",
        "not reproduced": f"A published baseline was missed. {same} of {count} predictions rest on it.",
        "not measured": f"The run has no rows of any of the {count} predictions.",
    }.get(verdict, "")


def _finding(prediction: Prediction, measured: Estimate, error: float, level: float) -> Finding:
    low, high = measured.interval
    if low > high or error < 0:
        raise ValueError(f"{prediction.quantity!r} needs low ≤ high and an error ≥ 0; got {(low, high)} and {error}")
    corrected = measured.at(level)
    plain = _verdict(measured.interval, corrected, prediction.interval)
    by = ERROR_FACTOR * error
    verdict, reason = _verdict(measured.interval.widened(by), corrected.widened(by), prediction.interval), ""
    if verdict != plain:
        reason = "below 10 × the integration error"
    elif verdict == "supported" and not corrected.widened(by).inside(prediction.interval):
        reason = "inside on its own, not when corrected for the number of predictions"
    elif verdict == "inconclusive" and measured.interval.disjoint(prediction.interval):
        reason = "outside on its own, not when corrected for the number of predictions"
    elif verdict == "inconclusive":
        known = not math.isnan(low + high)
        reason = "the interval lies partly in the predicted one" if known else "the number is not known"
    if (count := measured.repetitions) is not None and count <= FEW:
        reason = "one repetition decides nothing" if count <= 1 else "two repetitions are few"
        verdict = "inconclusive" if count <= 1 else verdict
    if count is not None and 1 < count < ALIKE and low == high:
        reason = f"all {count} repetitions gave the same number, which shows no spread"
        verdict = "inconclusive" if count <= FEW else verdict
    return Finding(
        prediction.quantity,
        prediction.interval,
        prediction.origin,
        measured.value,
        measured.interval,
        corrected,
        measured.repetitions,
        error,
        verdict,
        reason,
        measured.average,
    )


def _missing(prediction: Prediction) -> Finding:
    nothing = Interval(math.nan, math.nan)
    text = "the run has no rows of it"
    quantity, predicted, origin = prediction
    return Finding(quantity, predicted, origin, math.nan, nothing, nothing, None, 0.0, "not measured", text)


def _gated(finding: Finding, baseline: Baseline, measured: Estimate) -> Finding:
    if finding.quantity not in baseline.gates or finding.verdict == "not measured" or baseline.met(measured):
        return finding
    verdict: Verdict = "not reproduced" if baseline.met(measured) is False else "inconclusive"
    reason = (
        f"{baseline.quantity} is {measured}, published {baseline.published}, tolerance ± {baseline.tolerance:.3g}: "
        + ("missed" if verdict == "not reproduced" else "neither met nor missed")
    )
    return finding._replace(verdict=verdict, reason=reason)


def _verdict(measured: Interval, corrected: Interval, predicted: Interval) -> Verdict:
    if measured.inside(predicted):
        return "supported"
    return "refuted" if corrected.disjoint(predicted) else "inconclusive"


def _sentences(findings: list[Finding]) -> tuple[str, ...]:
    """What a reader has to know beside the verdict."""
    found = []
    missing = sum(finding.verdict == "not measured" for finding in findings)
    if missing:
        found.append(f"{missing} of {len(findings)} predictions are not measured: the run has no rows of them.")
    counts = {finding.repetitions for finding in findings if finding.repetitions is not None}
    if 1 in counts:
        found.append(ONCE)
    if 2 in counts:
        found.append(TWICE)
    return tuple(found)
