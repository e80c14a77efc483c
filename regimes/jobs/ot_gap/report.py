"""From measured numbers to the table, a column a group of maps, to sentences and to result.json."""

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from regimes.jobs.ot_gap.evidence import Numbers, judged
from regimes.jobs.ot_gap.groups import SAMPLES, Group, Value, mean, paired, unlike
from regimes.lab.intervals import REAL, Estimate, Interval
from regimes.lab.report import number

POSITIVE, SHARE, CHANGE = Interval.at_least(0.0), Interval(0.0, 1.0), Interval(-1.0, 1.0)
SIDE_BY_SIDE, CELL = 2, 24  # columns of numbers that 80 characters hold, and characters of each


class Row(NamedTuple):
    """One quantity: its text for one map; its value where several maps have a mean, and the range of that.

    `short` is its name on a narrow screen; without one it is in the folder only.
    """

    name: str
    text: Callable[[Numbers], str]
    value: Value | None = None
    short: str = ""
    within: Interval = POSITIVE


def table(groups: Sequence[Group]) -> list[dict[str, str]]:
    """One row a quantity and one column a group, without rows that say nothing."""
    lines = [{"quantity": row.name, **{group.label: _cell(row, group) for group in groups}} for row in ROWS]
    return [line for line in lines if any(text for name, text in line.items() if name != "quantity")]


def screen_tables(groups: Sequence[Group]) -> list[list[dict[str, str]]]:
    """The same for 80 characters: the main quantities, two groups a table, long cells and headings broken."""
    names = {row.name: row.short for row in ROWS if row.short}
    tables = []
    for first in range(0, len(groups), SIDE_BY_SIDE):
        lines = [line for line in table(groups[first : first + SIDE_BY_SIDE]) if line["quantity"] in names]
        tables.append(
            [
                {_broken(key): names[text] if key == "quantity" else _broken(text) for key, text in line.items()}
                for line in lines
            ]
        )
    return tables


def _broken(text: str) -> str:
    """Lines of CELL characters at most, broken at slashes too."""
    parts = textwrap.wrap(text.replace("/", "/ "), CELL, break_on_hyphens=True)
    return "\n".join(parts).replace("/ ", "/") or text


def _cell(row: Row, group: Group) -> str:
    """The text of one map; of several the mean with its interval, or what they have in common."""
    texts = [row.text(member) for member in group.members]
    if len(texts) == 1 or row.value is None:
        counts = Counter(texts).items()
        if len(counts) > 1 and not row.short:  # lists and the like: one seed's
            return f"{texts[0]} (seed {group.seeds[0]})"
        return texts[0] if len(counts) == 1 else "; ".join(f"{text} ({n} of {len(texts)})" for text, n in counts)
    found = mean(group, row.value, row.within)
    if found is None:
        return "not known at every seed" if any(texts) else ""
    return _shown(found)


def result(groups: Sequence[Group]) -> dict[str, Any]:
    """The content of result.json: one entry a map, that is a checkpoint and a stage of it; means of the groups."""
    entries = []
    for numbers in (member for group in groups for member in group.members):
        verdict = judged(numbers)
        about = {"verdict": verdict.verdict, "words": verdict.words}
        evidence = {"exact_evidence": verdict.exact, "infinitesimal_evidence": verdict.infinitesimal}
        entries.append({**numbers, **about, **evidence})
    found: dict[str, Any] = {
        "checkpoints": entries,
        "verdict": {entry["label"]: entry["verdict"] for entry in entries},
    }
    several = [group for group in groups if len(group.members) > 1]
    if several:
        found["groups"] = {group.label: _means(group) for group in several}
        found["paired"] = [{"quantity": name, **values} for name, values in _compared(groups)]
    return found


def _means(group: Group) -> dict[str, Any]:
    values: dict[str, Any] = {"seeds": list(group.seeds), "verdicts": [judged(one).verdict for one in group.members]}
    for row in ROWS:
        found = None if row.value is None else mean(group, row.value, row.within)
        if found is not None:
            values[row.name] = {"mean": found.value, "interval": found.interval}
    return values


def words(groups: Sequence[Group], *, brief: bool = False) -> list[str]:
    """A sentence a map (of a group its first), what its tests could have seen, and the groups against each other.

    In brief, a group of several seeds is told by how many of them came to which verdict.
    """
    said = []
    for group in groups:
        first = group.members[0]
        verdict = judged(first)
        name = group.label
        if len(group.members) > 1:
            counts = Counter(judged(member).verdict for member in group.members)
            told = ", ".join(f"{text} at {n} of {len(group.members)} seeds" for text, n in counts.items())
            said.append(f"{group.label}: {told}.")
            name = f"{group.label}, seed {first['seed']}"
            if brief:
                continue
        said.append(f"{name}: {verdict.words}.")
        if first.get("power_line") and verdict.exact != "gap":
            said.append(f"{name}: {first['power_line']}.")
    compared = _compared(groups)
    if compared:
        told = "; ".join(f"{name} {values['text']}" for name, values in compared)
        pairs = sum(seed in groups[1].seeds for seed in groups[0].seeds)
        few = " (two are few)" if pairs == 2 else ""
        others = unlike(groups[0], groups[1])
        besides = f" (they differ in {', '.join(others)} as well)" if others else ""
        said.append(
            f"{groups[1].label} against {groups[0].label}{besides}, paired over {pairs} seeds{few}, 95 % intervals: "
            f"{told}."
        )
    elif len(groups) == 2 and (samples := [name for name in unlike(*groups) if name in SAMPLES]):
        said.append(
            f"{groups[1].label} and {groups[0].label} were trained on other samples ({', '.join(samples)} differ), so "
            "they are not compared seed by seed."
        )
    return said


def _compared(groups: Sequence[Group]) -> list[tuple[str, dict[str, Any]]]:
    """The second of two groups against the first, where both have several seeds in common."""
    if len(groups) != 2 or groups[0].members[0]["stage"] != groups[1].members[0]["stage"]:
        return []
    if any(name in SAMPLES for name in unlike(groups[0], groups[1])):
        return []
    found = []
    for name, value, within in COMPARED:
        change, ratio = paired(groups[0], groups[1], value, within), within is None
        if change is not None:
            sign = "× " if ratio else "+" if change.value > 0 else ""
            values = {"kind": "ratio" if ratio else "difference", "mean": change.value, "interval": change.interval}
            found.append((name, {**values, "text": f"{sign}{_shown(change)}"}))
    return found


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _with_error(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{value:.3g}" + (f" ± {error:.1g}" if error is not None else "")


def _between(certified: float | None, low: float, high: float) -> str:
    return f"{certified:.6g}" if certified is not None else f"in [{low:.6g}, {high:.6g}]"


def _optimum(numbers: Numbers) -> str:
    return _between(numbers["cost_ot"], numbers["dual_value"], numbers["cost_ot_high"])


def _relative(numbers: Numbers) -> str:
    cost = numbers["cost_network"] or 1.0
    low, high = numbers["gap_low"] / cost, numbers["gap_high"] / cost
    return _between(numbers["relative_gap"], low, high)


def _certificate(numbers: Numbers) -> str:
    if not numbers["certified"]:
        return "none: stopped early"
    left = numbers["cost_ot"] - numbers["dual_value"]
    return f"violated by {numbers['max_violation']:.1g} at most, primal − dual {left:.1g}"


def _cycle(numbers: Numbers) -> str:
    if numbers["worst_cycle"] <= 0:
        return "none" if numbers["certified"] else "none found"
    return f"{numbers['worst_cycle']:.4g} over {numbers['worst_cycle_length']} points"


def _list(values: Sequence[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.2g}" for value in values)


def _shown(found: Estimate) -> str:
    """The value with its interval; alone where all repetitions agree."""
    low, high = found.interval
    return number(found.value) if low == high else f"{number(found.value)} {found.interval}"


def _row(name: str, key: str, short: str = "", *, digits: int = 4, within: Interval = POSITIVE) -> Row:
    return Row(name, lambda f: _number(f[key], digits), lambda f: f[key], short, within)


def _tested(name: str, kind: str, short: str) -> Row:
    value, error = f"{kind}_asymmetry", f"{kind}_asymmetry_se"
    return Row(name, lambda f: _with_error(f[value], f[error]), lambda f: f[value], short)


ROWS: list[Row] = [
    Row("points × features", lambda f: f"{f['points']} × {f['dim']}", short="points × features"),
    _row("accuracy on these points", "accuracy", "accuracy", within=SHARE),
    _row("cost of the network's pairing", "cost_network", "cost of its pairing", digits=6),
    Row("exact OT cost", _optimum, lambda f: f["cost_ot"], "exact OT cost"),
    Row("gap", lambda f: _between(f["gap"], f["gap_low"], f["gap_high"]), lambda f: f["gap"]),
    Row("relative gap", _relative, lambda f: f["relative_gap"], "relative gap", SHARE),
    Row("certificate", _certificate),
    Row("cycle that saves most", _cycle, lambda f: f["worst_cycle"]),
    _tested("Brenier asymmetry, all directions", "brenier", "Brenier asymmetry, all"),
    _tested("Brenier asymmetry, image of encoder", "image", "Brenier asymmetry, image"),
    _row("least eigenvalue, all directions", "min_eigenvalue", digits=3, within=REAL),
    _row("least eigenvalue, image of encoder", "image_min_eigenvalue", digits=3, within=REAL),
    _row("straightness", "straightness", "straightness", within=SHARE),
    _row("action", "action"),
    _row("action / OT cost", "action_over_cost_ot", "action / OT cost"),
    _row("network's cost / OT cost", "cost_network_over_cost_ot", digits=7),
    _row("stretch of T", "lipschitz", digits=3),
    _row("stretch of its inverse", "inverse_lipschitz", digits=3),
    Row("mean step length of each block", lambda f: _list(f["block_step_length"])),
    Row("asymmetry of each block", lambda f: _list(f["block_asymmetry"])),
    Row("verdict", lambda f: judged(f).verdict, short="verdict"),
]
COMPARED: list[tuple[str, Value, Interval | None]] = [  # range of a difference; None: a ratio
    ("accuracy", lambda f: f["accuracy"], CHANGE),
    ("exact OT cost", lambda f: f["cost_ot"], None),
    ("relative gap", lambda f: f["relative_gap"], CHANGE),
    ("Brenier asymmetry, image of encoder", lambda f: f["image_asymmetry"], None),
    ("Brenier asymmetry, all directions", lambda f: f["brenier_asymmetry"], None),
    ("straightness", lambda f: f["straightness"], CHANGE),
    ("action", lambda f: f["action"], None),
    ("action / OT cost", lambda f: f["action_over_cost_ot"], None),
]
