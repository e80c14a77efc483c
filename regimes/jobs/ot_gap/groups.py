"""Maps that differ in the seed of their training only are one group: its numbers have means and intervals.

Table, sentences, result.json and figures share this grouping.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regimes.jobs.ot_gap.evidence import Numbers
from regimes.lab.intervals import Estimate, Interval
from regimes.lab.statistics import geometric_mean_interval, mean_interval

Value = Callable[[Numbers], float | None]
OWN = ("seed", "seeds", "data_dir", "device")  # settings in which members of one group may differ
# What two groups may differ in that are compared for it, and what says which samples they have.
OBJECTIVE = ("lap", "multiplier", "growth", "every", "p", "convention", "form", "level", "memory")
OBJECTIVE += ("module_wise", "movement_step")
SAMPLES = ("dataset", "train_size", "validation", "test_size", "balanced")


class Group(NamedTuple):
    """Maps of one recipe and stage, in the order of their seeds; one map alone is a group too."""

    label: str
    members: tuple[Numbers, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the trainings."""
        return tuple(member["seed"] for member in self.members)


def recipe(config: Mapping[str, Any]) -> str:
    """Digest of the settings of a training without those that members of a group may differ in."""
    kept = shared(config)
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:12]


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that all members of a group have."""
    return {name: value for name, value in config.items() if name not in OWN}


def unlike(one: Group, other: Group) -> list[str]:
    """The settings in which two groups differ beside the objective; none where an earlier version kept no settings."""
    first, second = (group.members[0].get("settings") for group in (one, other))
    if first is None or second is None:
        return []
    names = dict.fromkeys([*first, *second])
    return [name for name in names if name not in OBJECTIVE and first.get(name) != second.get(name)]


def grouped(found: Sequence[Numbers]) -> list[Group]:
    """The groups, in the order in which their first members come."""
    parts: dict[tuple[Any, ...], list[Numbers]] = {}
    for numbers in found:
        key = (numbers["recipe"], numbers["stage"], Path(numbers["checkpoint"]).name)
        # A seed that is there already is another run of the same recipe: it stands alone.
        if any(member["seed"] == numbers["seed"] for member in parts.get(key, ())):
            key = (*key, numbers["checkpoint"])
        parts.setdefault(key, []).append(numbers)
    ordered = [tuple(sorted(members, key=lambda member: member["seed"])) for members in parts.values()]
    return [Group(name, members) for name, members in zip(_names(ordered), ordered, strict=True)]


def _names(groups: Sequence[tuple[Numbers, ...]]) -> list[str]:
    """What tells the groups apart: the objective if that does, else folder and file as the run wrote them."""
    objectives = [_objective(members[0]) for members in groups]
    if any(len(members) > 1 for members in groups) and len(set(objectives)) == len(groups):
        return objectives
    return [_folder(members) for members in groups]


def _objective(numbers: Numbers) -> str:
    name = "least action" if numbers["lap"] else "minimising movement" if numbers.get("movement_step") else "risk alone"
    name += f" in {numbers['module_wise']} modules" if numbers.get("module_wise") else ""
    return f"{name}, stage {numbers['stage']}" if numbers["stages"] > 1 else name


def _folder(members: tuple[Numbers, ...]) -> str:
    label = members[0]["label"]
    return label if len(members) == 1 else label.replace(f"seed{members[0]['seed']}", "seed*")


def mean(group: Group, value: Value, within: Interval) -> Estimate | None:
    """Mean over the seeds with its interval inside the range of the number; None where a member has no such number."""
    values = [value(member) for member in group.members]
    known = [one for one in values if one is not None]
    return mean_interval(_rounded(known, within), within=within) if len(known) == len(values) else None


def _rounded(values: list[float], within: Interval) -> list[float]:
    """Values that rounding has carried over an end of their range are at that end."""
    ends = [min(max(value, within.low), within.high) for value in values]
    return [end if abs(end - value) <= 1e-9 else value for value, end in zip(values, ends, strict=True)]


def paired(one: Group, other: Group, value: Value, within: Interval | None) -> Estimate | None:
    """other − one, seed by seed, a mean with its interval `within` a range; without a range other / one, geometric.

    None unless both have the number at two common seeds at least; None too for a ratio of numbers that are not above 0.
    """
    first, second = ({m["seed"]: value(m) for m in group.members} for group in (one, other))
    pairs = [(first[seed], second[seed]) for seed in first if seed in second]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < max(2, len(pairs)) or (within is None and min(min(pair) for pair in known) <= 0):
        return None
    if within is None:
        return geometric_mean_interval([b / a for a, b in known])
    return mean_interval(_rounded([b - a for a, b in known], within), within=within)
