"""The parts of a measurement as plain numbers for the disk, and back, so that a verdict can be redone from them."""

import math
from collections.abc import Mapping
from typing import Any

from regimes.transport.brenier import BrenierTest
from regimes.transport.monotone import Cycle
from regimes.transport.pairing import Gap
from regimes.transport.power import Departed, Power
from regimes.transport.verdict import Verdict, judge

Numbers = Mapping[str, Any]
_LEAST = {"brenier": "min_eigenvalue", "image": "image_min_eigenvalue"}


def written(gap: Gap) -> dict[str, Any]:
    """The exact gap; of its worst cycle gain and length."""
    worst = {"worst_cycle": gap.worst_cycle.gain, "worst_cycle_length": gap.worst_cycle.length}
    return {**gap._asdict(), **worst}


def written_test(test: BrenierTest | None, name: str) -> dict[str, Any]:
    """Brenier's test over all directions ("brenier") or along the image of the encoder ("image")."""
    values: dict[str, Any] = dict.fromkeys(BrenierTest._fields) if test is None else test._asdict()
    least = values.pop("min_eigenvalue")
    numbers = {f"{name}_{field}": _known(value) for field, value in values.items()}
    return {**numbers, f"{name}_asymmetry": values["asymmetry"], _LEAST[name]: _known(least)}


def judged(numbers: Numbers) -> Verdict:
    """The verdict on one map from what was measured of it."""
    cycle = Cycle(numbers["worst_cycle_length"], numbers["worst_cycle"], ())
    known = {**Gap._field_defaults, **numbers}  # measurements of earlier versions lack later fields
    gap = Gap(**{field: known[field] for field in Gap._fields if field != "worst_cycle"}, worst_cycle=cycle)
    found = {"image": _test(numbers, "image"), "inputs": numbers["inputs"], "power": _power(numbers["power"])}
    return judge(gap, _test(numbers, "brenier"), missing=numbers["brenier_missing"], **found)


def _test(numbers: Numbers, name: str) -> BrenierTest | None:
    if numbers[f"{name}_asymmetry"] is None:
        return None
    keys = {field: f"{name}_{field}" for field in BrenierTest._fields} | {"min_eigenvalue": _LEAST[name]}
    values: dict[str, Any] = {field: math.nan if numbers[key] is None else numbers[key] for field, key in keys.items()}
    return BrenierTest(**values)


def _power(values: Numbers | None) -> Power | None:
    if values is None:
        return None
    return Power(**{**values, "departed": tuple(Departed(**entry) for entry in values["departed"])})


def _known(value: float | int | None) -> float | int | None:
    return value if value is not None and math.isfinite(value) else None
