"""Statements with predictions, the verdict of a measurement on them, and the reports of a run."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

Verdict = Literal["supported", "refuted", "inconclusive"]
Origin = Literal["published", "derived", "after a pilot", "chosen"]
ERROR_FACTOR = 10.0


class Interval(NamedTuple):
    """Closed interval [low, high]; an end may be infinite, NaN means that nothing is known."""

    low: float
    high: float

    @classmethod
    def around(cls, centre: float, half_width: float) -> "Interval":
        """[centre − half_width, centre + half_width]."""
        return cls(centre - half_width, centre + half_width)

    @classmethod
    def at_most(cls, high: float) -> "Interval":
        """(−∞, high]."""
        return cls(-math.inf, high)

    @classmethod
    def at_least(cls, low: float) -> "Interval":
        """[low, ∞)."""
        return cls(low, math.inf)

    def inside(self, other: "Interval") -> bool:
        """Whether every point of this interval lies in the other one."""
        return other.low <= self.low and self.high <= other.high

    def disjoint(self, other: "Interval") -> bool:
        """Whether the two have no point in common."""
        return self.high < other.low or other.high < self.low

    def widened(self, by: float) -> "Interval":
        """Both ends moved outwards."""
        return Interval(self.low - by, self.high + by)

    def __str__(self) -> str:
        """Text with four digits, one-sided where an end is infinite."""
        if math.isnan(self.low) and math.isnan(self.high):
            return "not known"
        if math.isinf(self.low) and math.isinf(self.high) and self.low < self.high:
            return "anything"
        if self.low == -math.inf:
            return f"≤ {self.high:.4g}"
        if self.high == math.inf:
            return f"≥ {self.low:.4g}"
        return f"{self.low:.4g}" if self.low == self.high else f"[{self.low:.4g}, {self.high:.4g}]"


class Prediction(NamedTuple):
    """A measured quantity, in words, the interval in which the statement puts it, and where that comes from.

    `published`: the source's own number or direction; `derived`: from a theorem, a scaling or an argument that the
    statement gives; `after a pilot`: set or moved when trial runs had been looked at, whatever it rests on besides;
    `chosen`: a threshold set by hand before any run. The tolerance around a published or derived value is ours.
    """

    quantity: str
    interval: Interval
    origin: Origin


class Finding(NamedTuple):
    """One prediction against its measurement; `error` is the integration error of the measured value."""

    quantity: str
    predicted: Interval
    measured: Interval
    error: float
    verdict: Verdict
    blurred: bool  # the verdict would be a firm one if the integration error were zero


class Judgement(NamedTuple):
    """The verdict on a statement, the findings behind it, and further figures of merit."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    merits: Mapping[str, float] = {}


class Statement(NamedTuple):
    """A claim of the theory, where it is published, and what it predicts for the measured quantities."""

    claim: str
    source: str
    predictions: tuple[Prediction, ...]

    def judge(
        self,
        measured: Mapping[str, Interval],
        error: Mapping[str, float] | None = None,
        merits: Mapping[str, float] | None = None,
    ) -> Judgement:
        """Verdict: a measured interval inside its prediction supports, a disjoint one refutes, else inconclusive.

        Each measured interval is widened first by 10 × its integration error: no verdict rests on a smaller effect.
        The statement is refuted if any prediction is, supported if all are.
        """
        error = error or {}
        known = [prediction.quantity for prediction in self.predictions]
        for name in (*measured, *error):
            if name not in known:
                raise ValueError(f"no prediction speaks of {name!r}; the statement has: {', '.join(known)}")
        for name in known:
            if name not in measured:
                raise ValueError(f"the prediction on {name!r} needs a measured interval; got: {', '.join(measured)}")
        findings = tuple(
            _finding(prediction, measured[prediction.quantity], error.get(prediction.quantity, 0.0))
            for prediction in self.predictions
        )
        verdicts = {finding.verdict for finding in findings}
        overall: Verdict = (
            "refuted" if "refuted" in verdicts else "supported" if verdicts == {"supported"} else "inconclusive"
        )
        return Judgement(overall, findings, dict(merits or {}))


def _finding(prediction: Prediction, measured: Interval, error: float) -> Finding:
    if measured.low > measured.high or error < 0:
        raise ValueError(
            f"{prediction.quantity!r} needs low ≤ high and an error ≥ 0; got {tuple(measured)} and error {error}"
        )
    verdict = _verdict(measured.widened(ERROR_FACTOR * error), prediction.interval)
    return Finding(
        prediction.quantity,
        prediction.interval,
        measured,
        error,
        verdict,
        blurred=verdict != _verdict(measured, prediction.interval),
    )


def _verdict(measured: Interval, predicted: Interval) -> Verdict:
    if measured.inside(predicted):
        return "supported"
    return "refuted" if measured.disjoint(predicted) else "inconclusive"


@runtime_checkable
class Folder(Protocol):
    """Where a report goes: a run folder."""

    name: str
    config: dict[str, Any]

    def write(self, file: str, content: str | bytes) -> Any:
        """Write one file of the folder as a whole."""
        ...

    def record(self) -> dict[str, Any]:
        """Provenance of the run: commit, versions, device, command, time."""
        ...


def write_result(
    folder: Folder,
    statement: Statement,
    judgement: Judgement,
    *,
    table: Sequence[Mapping[str, Any]] = (),
    size: Mapping[str, Any],
) -> dict[str, Any]:
    """Write result.json (for machines) and table.md (for people) of a verified statement; returns the former.

    `size` goes into result.json as it is; with fewer "points" than "points_planned" table.md says "unfinished".
    """
    result = {
        "name": folder.name,
        "claim": statement.claim,
        "source": statement.source,
        "verdict": judgement.verdict,
        "findings": [finding._asdict() for finding in judgement.findings],
        "merits": dict(judgement.merits),
        **size,
        "config": folder.config,
        **folder.record(),
    }
    folder.write("result.json", to_json(result))
    folder.write("table.md", _page(folder, statement, judgement, table, size))
    return result


def to_json(value: Any) -> str:
    """Strict JSON text, indented; infinite and undefined numbers become the texts "inf", "-inf", "nan"."""
    return json.dumps(_strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A markdown table, one line a mapping; the columns are the keys in the order in which they appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_escape(number(row.get(key, ""))) for key in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def finding_rows(judgement: Judgement) -> list[dict[str, str]]:
    """One row a finding: quantity, predicted, measured, integration error, verdict."""
    return [
        {
            "quantity": finding.quantity,
            "predicted": str(finding.predicted),
            "measured": str(finding.measured),
            "integration error": f"{finding.error:.1g}" if finding.error else "",
            "verdict": finding.verdict + (" (below 10 × the integration error)" if finding.blurred else ""),
        }
        for finding in judgement.findings
    ]


def number(value: Any) -> str:
    """Text of one cell: floats with four digits, everything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(
    folder: Folder,
    statement: Statement,
    judgement: Judgement,
    table: Sequence[Mapping[str, Any]],
    size: Mapping[str, Any],
) -> str:
    parts = [f"# {folder.name}: {judgement.verdict}\n", f"{statement.claim}\n", f"Source: {statement.source}\n"]
    if (points := size.get("points", 0)) < (planned := size.get("points_planned", 0)):
        parts.append(f"Unfinished: {points} of {planned} points are measured.\n")
    parts.append(markdown_table(finding_rows(judgement)))
    if judgement.merits:
        parts.append(markdown_table([{"figure of merit": key, "value": x} for key, x in judgement.merits.items()]))
    if table:
        parts.append(markdown_table(table))
    record = folder.record()
    parts.append(f"Reproduce: `{record.get('command')}` at commit {record.get('commit')}.\n")
    return "\n".join(parts)


def _strict(value: Any) -> Any:
    if isinstance(value, Interval):
        return [_strict(value.low), _strict(value.high)]
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
