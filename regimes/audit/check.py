"""The audit of kept runs: rows judged again, predictions dated, provenance looked at."""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from regimes import experiments
from regimes.audit.history import Commit, History, Said, compared
from regimes.lab.config import load
from regimes.lab.console import track
from regimes.lab.grid import grid_points
from regimes.lab.kept import ends, fits
from regimes.lab.log import read_log
from regimes.lab.provenance import measuring
from regimes.lab.runs import CONFIG, RUN, read_run
from regimes.lab.stamps import KINDS, config_digest, statement_digest
from regimes.lab.statements import Judgement
from regimes.lab.sweep import rows_of
from regimes.lab.verification import judged

TOLERANCE = 1e-6  # relative, of an interval judged again on another machine


class Audit(NamedTuple):
    """What was found of a run: faults fail it, remarks do not. `since`: the first commit with all its predictions."""

    run: Path
    name: str
    verdict: str
    faults: tuple[str, ...]
    remarks: tuple[str, ...]
    since: Commit | None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with the run."""
        return not self.faults


def audit(runs: Sequence[Path], history: History | None = None) -> list[Audit]:
    """Audit each run folder, with progress on stderr; those that are none, such as benchmarks, are left out."""
    folders = [run for run in runs if (run / RUN).exists()]
    with history or History() as past:
        return [_audit(run, past) for run in track(folders, len(folders), "audit")]


def _audit(run: Path, past: History) -> Audit:
    record = read_run(run)
    name, launches = record["name"], measuring(record["launches"]) or record["launches"]
    if not launches or not all(_dated(launch) for launch in launches):
        return Audit(run, name, "not known", ("run.json is damaged: a launch has no time of its start",), (), None)
    faults = [
        f"measured with uncommitted changes of the code ({launch.get('started')})"
        for launch in launches
        if launch.get("uncommitted_changes")
    ]
    if any(launch.get("commit") is None for launch in launches):
        faults.append("measured by code without a commit")
    if name not in experiments.names():
        return Audit(run, name, "no predictions to check", tuple(faults), (), None)
    experiment = experiments.load(name)
    config = load(experiment.Config, run / CONFIG)
    plan = grid_points(experiment, config)
    rows, points, _ = rows_of(run, plan)
    judgement = judged(experiment, rows, config, None if points is None else (points, len(plan)))
    faults += _unlike_result(run, judgement)
    remarks = _stamps(run, experiment, config, launches, faults)
    said = tuple(
        (one.quantity, float(one.interval.low), float(one.interval.high)) for one in experiment.STATEMENT.predictions
    )
    since = _date(past, name, said, launches, judgement.verdict, faults, remarks)
    return Audit(run, name, judgement.verdict, tuple(faults), tuple(remarks), since)


def _dated(launch: dict[str, Any]) -> bool:
    """Whether a launch says when it was started, with its time zone."""
    try:
        return datetime.fromisoformat(launch["started"]).tzinfo is not None
    except (KeyError, TypeError, ValueError):
        return False


def _unlike_result(run: Path, judgement: Judgement) -> list[str]:
    """Where result.json does not say what the rows say now."""
    file = run / "result.json"
    if not file.exists():
        return ["there is no result.json: judge the run"]
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict) or not fits(held):
        return ["result.json is damaged: judge the run"]
    faults = []
    if held["verdict"] != judgement.verdict:
        faults.append(f"result.json says {held['verdict']}, its rows say {judgement.verdict}")
    findings = {finding["quantity"]: finding for finding in held["findings"]}
    for finding in judgement.findings:
        old = findings.get(finding.quantity)
        if old is None:
            faults.append(f"result.json has no finding on {finding.quantity!r}")
        elif old["verdict"] != finding.verdict:
            faults.append(f"{finding.quantity!r}: result.json says {old['verdict']}, its rows say {finding.verdict}")
        elif not all(map(_near, ends(old["measured"]), finding.measured)):
            faults.append(f"{finding.quantity!r}: result.json has {old['measured']}, its rows give {finding.measured}")
        elif not all(map(_near, ends(old["predicted"]), finding.predicted)) or old["origin"] != finding.origin:
            said = f"{old['predicted']}, {old['origin']}"
            faults.append(
                f"{finding.quantity!r}: result.json has {said} as the prediction, the statement has "
                f"{finding.predicted}, {finding.origin}: judge the run"
            )
    more = [quantity for quantity in findings if quantity not in {finding.quantity for finding in judgement.findings}]
    return [*faults, *(f"result.json has a finding on {quantity!r}, the statement has none" for quantity in more)]


def _near(old: float, new: float) -> bool:
    return (
        old == new or (math.isnan(old) and math.isnan(new)) or math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-12)
    )


def _stamps(run: Path, experiment: Any, config: Any, launches: list[dict[str, Any]], faults: list[str]) -> list[str]:
    """Faults of the stamps of the rows are added; remarks are returned."""
    stamps = [record.stamp for record in read_log(run).records]
    for kind in KINDS:
        if len({stamp[kind] for stamp in stamps if kind in stamp}) > 1:
            faults.append(f"rows of more than one {kind} lie in one run")
    if any(
        stamp.get("config", config_digest(experiment, config)) != config_digest(experiment, config) for stamp in stamps
    ):
        faults.append(f"{CONFIG} does not hold the settings that the rows were measured with")
    commits = {launch.get("commit") for launch in launches}
    if any(stamp.get("commit", launches[0].get("commit")) not in commits for stamp in stamps):
        faults.append(f"rows come from a commit that {RUN} does not name")
    unstamped = sum(not stamp for stamp in stamps)
    now = statement_digest(experiment.STATEMENT)
    remarks = (
        [f"{unstamped} points carry no stamp of their own: their age is that of the run's commit"] if unstamped else []
    )
    if any(stamp.get("statement", now) != now for stamp in stamps):
        remarks.append("the statement's words or predictions have changed since the rows were measured")
    return remarks


def _date(
    past: History,
    name: str,
    said: tuple[Said, ...],
    launches: list[dict[str, Any]],
    verdict: str,
    faults: list[str],
    remarks: list[str],
) -> Commit | None:
    """The first commit that held all predictions; supported ones younger than the first row are a fault."""
    if reason := past.missing():
        remarks.append(f"the age of the predictions is not known: {reason}")
        return None
    commits = past.touching(name)
    started = datetime.fromisoformat(launches[0]["started"])
    launched = past.find(str(launches[0].get("commit")))
    if launched is None and past.shallow():
        remarks.append("the age of the predictions is not known: this clone is shallow (git fetch --unshallow)")
        return None
    # Where the commit of the launch is gone (history was rewritten), that of its time stands for it.
    before = [one for one in commits if (past.contains(launched.name, one.name) if launched else one.time <= started)]
    then = past.said(name, (launched or before[-1]).name) if launched or before else None
    young, reworded = compared(said, then)
    if reworded:
        pairs = "; ".join(f"{old!r}, now {new!r}" for old, new in reworded)
        remarks.append(f"{len(reworded)} of {len(said)} predictions had other words when the first row came: {pairs}")
    if not young:
        first = launched
        for commit in reversed(before):
            if compared(said, past.said(name, commit.name)).absent:
                break
            first = commit
        return first
    later = (one for one in commits if one not in before)
    first = next((one for one in later if not compared(said, past.said(name, one.name)).absent), None)
    where = f"commit {first.name[:12]} of {first.time:%Y-%m-%d %H:%M}" if first else "no commit yet"
    text = (
        f"{len(young)} of {len(said)} predictions are younger than the first row ({started:%Y-%m-%d %H:%M}; {where}): "
        f"{', '.join(young[:3])}{', ...' if len(young) > 3 else ''}"
    )
    (faults if verdict == "supported" else remarks).append(text)
    return first


def report(found: Audit) -> list[str]:
    """What was found, in lines for people."""
    head = f"{'passed' if found.passed else 'FAILED'}  {found.run}: {found.verdict}"
    if found.since is not None:
        head += f"; predictions since {found.since.name[:12]} of {found.since.time:%Y-%m-%d %H:%M}"
    return [head, *(f"        {fault}" for fault in found.faults), *(f"        ({one})" for one in found.remarks)]
