"""The parts of a checkpoint: each of the kind that `train` writes, and one that says which is not."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from regimes.errors import shown

MOST = 2**63 - 1  # of a whole number
MAPPINGS = ("config", "state", "rng", "sums", "best")
TEXTS = ("run", "data", "program")
PARTS = ("model", "objective", "optimizer", "scheduler", "epoch", "step")
COLUMNS = (  # of a row, that a run which goes on reads
    *("epoch", "steps", "running_risk", "running_accuracy", "penalty_share", "validation_risk", "validation_accuracy"),
    *("multiplier", "seconds", "images_per_second", "peak_memory_mib"),
)


def misfit(found: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> str | None:
    """The first part that is not of its kind, and what it is; None if all are. columns: those that every row needs."""
    for name in MAPPINGS:
        if not isinstance(found[name], dict):
            return f"{name} is {shown(found[name])}, not a mapping"
    for name in TEXTS:
        if not isinstance(found[name], str):
            return f"{name} is {shown(found[name])}, not a text"
    if not _number(found["start"]) or math.isnan(found["start"]) or math.isinf(found["start"]):
        return f"start is {shown(found['start'])}, not a finite number"
    if not _count(found["tests"], 0):
        return f"tests is {shown(found['tests'])}, not a whole number of at least 0"
    wrong = _state(found["state"]) or _rng(found["rng"]) or _rows(found["rows"], columns)
    return wrong or _best(found["best"], found["rows"])


def misfit_shape(
    shape: Any, classes: Any, known: tuple[tuple[int, ...], int] | None = None, dataset: str | None = None
) -> str | None:
    """The same of the shape of an input and the number of classes; of a data set of `train` both are known."""
    if not isinstance(shape, list | tuple) or not all(_count(size, 1) for size in shape):
        return f"shape is {shown(shape)}, not sizes of at least 1"
    if not _count(classes, 0):
        return f"classes is {shown(classes)}, not a whole number of at least 0"
    if known is not None and (tuple(shape), classes) != known:
        return f"shape and classes are {shown(tuple(shape))} and {classes}; {dataset} has {known[0]} and {known[1]}"
    return None


def _state(state: Mapping[str, Any]) -> str | None:
    for name in PARTS:
        if name not in state:
            return f"state lacks {name!r}"
    model = state["model"]
    if not isinstance(model, dict) or not all(isinstance(weight, Tensor) for weight in model.values()):
        return "state.model holds more than tensors"
    for name in ("objective", "optimizer"):
        if not isinstance(state[name], dict):
            return f"state.{name} is {shown(state[name])}, not a mapping"
    for name in ("epoch", "step"):
        if not _count(state[name], 0):
            return f"state.{name} is {shown(state[name])}, not a whole number of at least 0"
    return None


def _rng(rng: Mapping[str, Any]) -> str | None:
    if set(rng) != {"cpu", "cuda"}:
        return f"rng has {', '.join(map(str, rng)) or 'nothing'}, not cpu and cuda"
    for name, states in rng.items():
        if not (isinstance(states, Tensor) and states.dtype == torch.uint8) and not (name == "cuda" and states is None):
            return f"rng.{name} is {shown(states)}, not the state of a generator"
    return None


def _rows(rows: Any, columns: Sequence[str]) -> str | None:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return f"rows is {shown(rows)}, not a list of mappings"
    last = 0
    for number, row in enumerate(rows, 1):
        for name in dict.fromkeys([*rows[0], *columns]):
            if name not in row:
                return f"row {number} lacks the field {name!r}"
        for name, value in row.items():
            if value is not None and not _number(value):
                return f"row {number}: field {name!r} is {shown(value)}, not a number"
        if not _count(row.get("epoch"), last + 1):
            return f"row {number}: field 'epoch' is {shown(row.get('epoch'))}, after {last}"
        if "steps" in row and not _count(row["steps"], 1):
            return f"row {number}: field 'steps' is {shown(row['steps'])}, not a whole number of at least 1"
        last = row["epoch"]
    return None


def _best(best: Mapping[str, Any], rows: Sequence[Any]) -> str | None:
    if not best:
        return None
    epoch, score = best.get("epoch"), best.get("score")
    if not _count(epoch, 1) or epoch not in [row["epoch"] for row in rows]:
        return f"best.epoch is {shown(epoch)}, not one of {len(rows)} epochs"
    if not isinstance(score, list) or not score or not all(map(_number, score)) or not all(map(math.isfinite, score)):
        return f"best.score is {shown(score)}, not finite numbers"
    before = best.get("before", {})
    if not isinstance(before, dict):
        return f"best.before is {shown(before)}, not a mapping"
    return None if (wrong := _best(before, rows)) is None else wrong.replace("best.", "best.before.", 1)


def _count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def _number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST)
