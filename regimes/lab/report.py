"""The reports of a run: result.json for machines, table.md for people; tables and strict JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from regimes.lab.intervals import Estimate as Estimate
from regimes.lab.intervals import Interval as Interval
from regimes.lab.statements import NO_VERDICT
from regimes.lab.statements import Baseline as Baseline
from regimes.lab.statements import Finding as Finding
from regimes.lab.statements import Judgement as Judgement
from regimes.lab.statements import Origin as Origin
from regimes.lab.statements import Prediction as Prediction
from regimes.lab.statements import Statement as Statement
from regimes.lab.statements import Verdict as Verdict

CORRECTION = (
    "Measured: value and 95 % interval. A prediction is supported if this interval lies inside it, and refuted if the "
    "interval at level {level:.4g} % is disjoint from it: corrected for the {judged} predictions measured (Bonferroni)."
)


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
    caption: str = "",
    size: Mapping[str, Any],
) -> dict[str, Any]:
    """Write result.json (for machines) and table.md (for people) of a verified statement; returns the former.

    `caption` says what the numbers of the table are. `size` goes into result.json as it is; with fewer "points" than
    "points_planned" there is no verdict.
    """
    judgement = judgement.of_points(size.get("points", 0), size.get("points_planned", 0))
    result = {
        "name": folder.name,
        "claim": statement.claim,
        "source": statement.source,
        "verdict": judgement.verdict,
        "findings": [finding._asdict() for finding in judgement.findings],
        "merits": dict(judgement.merits),
        "notes": list(judgement.notes),
        "smoke_run": judgement.smoke,
        **size,
        "config": folder.config,
        **folder.record(),
    }
    folder.write("result.json", to_json(result))
    folder.write("table.md", _page(folder, statement, judgement, table, caption, size))
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
    """One row a finding: quantity, predicted and where that is from, measured value and 95 % interval, verdict."""
    rows = []
    for finding in judgement.findings:
        row = {
            "quantity": finding.quantity,
            "predicted": str(finding.predicted),
            "from": finding.origin,
            "measured": measured_text(finding),
        }
        if any(other.error for other in judgement.findings):
            row["integration error"] = f"{finding.error:.1g}" if finding.error else ""
        rows.append(row | {"verdict": finding.verdict + (f" ({finding.reason})" if finding.reason else "")})
    return rows


def measured_text(finding: Finding) -> str:
    """The measured value with its 95 % interval, the number of repetitions, and what mean of them it is."""
    if finding.verdict == "not measured":
        return ""
    shown = str(Estimate(finding.value, finding.measured, repetitions=finding.repetitions))
    if finding.repetitions is None:
        return shown
    return f"{shown}, {f'{finding.average} of ' if finding.average else ''}{finding.repetitions} repetitions"


def number(value: Any) -> str:
    """Text of one cell: floats with four digits, everything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(
    folder: Folder,
    statement: Statement,
    judgement: Judgement,
    table: Sequence[Mapping[str, Any]],
    caption: str,
    size: Mapping[str, Any],
) -> str:
    claims = judgement.verdict != NO_VERDICT
    parts = [f"# {folder.name}" + ("" if judgement.smoke else f": {judgement.verdict}") + "\n"]
    parts += [f"{statement.claim}\n", f"Source: {statement.source}\n"]
    parts += [f"{note}\n" for note in judgement.notes]
    parts.append(markdown_table(finding_rows(judgement)))
    if (judged := sum(finding.verdict != "not measured" for finding in judgement.findings)) > 1 and claims:
        parts.append(f"{CORRECTION.format(judged=judged, level=100 - 5 / judged)}\n")
    if judgement.merits:
        parts.append(markdown_table([{"number": key, "value": x} for key, x in judgement.merits.items()]))
    if table:
        parts += [*([f"{caption}\n"] if caption else []), markdown_table(table)]
    record = folder.record()
    parts.append(f"Reproduce: `{size.get('reproduce') or record.get('command')}`\n")
    parts.append(origin(record))
    return "\n".join(parts)


def origin(record: Mapping[str, Any]) -> str:
    """At which commits the rows were measured, and whether with changes."""
    commits = record.get("commits") or [record.get("commit")]
    if commits == [None]:
        return "Measured by code without a commit.\n"
    text = f"Measured at commit{'s' if len(commits) > 1 else ''} {', '.join(map(str, commits))}"
    return text + (", with uncommitted changes of the code" if record.get("uncommitted_changes") else "") + ".\n"


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
