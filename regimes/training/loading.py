"""A run as it lies in its folder, back in Python: the network, its samples as it saw them, its numbers."""

import csv
import io
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from regimes.data.classification import Classification, Labelled
from regimes.data.digest import digest
from regimes.errors import UserError
from regimes.lab.checkpoint_run import refuse_mismatch
from regimes.lab.runs import CONFIG, RUN, read_run
from regimes.lab.yaml_text import read_yaml
from regimes.models.weights import put_weights
from regimes.paths import home
from regimes.training.checkpoint import (
    FIT,
    LAST,
    RESULT,
    Checkpoint,
    data_of,
    load_checkpoint,
    model_of,
)
from regimes.training.definition import definition
from regimes.training.metrics import to_csv

METRICS = "metrics.csv"


class Samples:
    """Training, validation and test samples of a run, normalised as the network saw them.

    A part is made when it is asked for: `Labelled` with x, floats (n, ...), and labels (n,). validation is None where
    the run had none.
    """

    def __init__(self, stored: Classification) -> None:
        self.stored = stored
        self.classes = stored.classes

    @cached_property
    def train(self) -> Labelled:
        """Training samples, not augmented."""
        return self._normalised(self.stored.train)

    @cached_property
    def validation(self) -> Labelled | None:
        """Validation samples."""
        return None if self.stored.validation is None else self._normalised(self.stored.validation)

    @cached_property
    def test(self) -> Labelled:
        """Test samples."""
        return self._normalised(self.stored.test)

    def _normalised(self, part: Labelled) -> Labelled:
        return Labelled(self.stored.normalise(part.x), part.labels)


class Loaded(NamedTuple):
    """A run: its network in eval mode on the CPU, its samples, one row of numbers an epoch, result.json, settings.

    data is None for a run of `regimes.fit`, whose samples are the caller's; result, for a run that is not finished.
    """

    model: nn.Module
    data: Samples | None
    metrics: list[dict[str, Any]]
    result: dict[str, Any] | None
    config: dict[str, Any]


def load(
    run: Path | str,
    *,
    weights: Literal["best", "last"] = "best",
    model: nn.Module | None = None,
    data_dir: Path | str | None = None,
) -> Loaded:
    """What `train` or `fit` has left in a folder; no code of the checkpoint is run.

    weights: those of the best epoch, as the run has chosen it, or of the last one. model: for a run of `fit` only, the
    caller's own network, made anew, which receives the weights; a UserWarning where it is not built like the one that
    was trained. data_dir: where the data files lie now.
    UserError where the folder holds no such run, or its parts do not belong together.
    """
    path = home(run)
    if weights not in ("best", "last"):
        raise UserError(f"load needs weights as 'best' or 'last'; got {weights!r}.")
    if path.is_dir() and not (path / "last.pt").exists() and (path / "seed0").is_dir():
        raise UserError(f"{path} holds the runs of several seeds: load one of them, for example {path / 'seed0'}")
    if not path.is_dir() or not all((path / name).exists() for name in (CONFIG, RUN, f"{weights}.pt")):
        raise UserError(f"{path} is not the folder of a run of `train` or `regimes.fit` with a {weights}.pt in it")
    checkpoint = load_checkpoint(path / f"{weights}.pt")
    refuse_mismatch(path / f"{weights}.pt", checkpoint, read_yaml(path / CONFIG), read_run(path))
    return Loaded(
        _network(checkpoint, model),
        _samples(checkpoint, data_dir),
        metrics_of(path),
        _result(path / "result.json"),
        checkpoint.config,
    )


def _result(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError:
        raise UserError(f"{file} is damaged: restore it, or delete it and run the same command again") from None


def _network(checkpoint: Checkpoint, model: nn.Module | None) -> nn.Module:
    if checkpoint.program != FIT:
        if model is not None:
            raise UserError("a run of `train` holds its own network: leave model out.")
        return model_of(checkpoint)
    if model is None:
        raise UserError(
            f"a run of regimes.fit holds weights and no network: make yours, of class "
            f"{checkpoint.config.get('model')}, and pass it as model=."
        )
    if not isinstance(model, nn.Module):
        raise UserError(f"load needs model as a network, made anew; got {model!r}.")
    given = checkpoint.state["model"]
    bare = {name.removeprefix("model."): value for name, value in given.items()}
    plain = set(model.state_dict()) == set(given)
    put_weights(model, given if plain else bare, f"the model {type(model).__name__}")
    trained = checkpoint.config.get("model_definition")
    if trained and trained != definition(model, model):
        warnings.warn(
            f"the weights fit this {type(model).__name__}, but its code or settings are not those of the network that "
            "was trained (another activation, say): its outputs may be others",
            stacklevel=3,
        )
    return model.eval()


def _samples(checkpoint: Checkpoint, data_dir: Path | str | None) -> Samples | None:
    if checkpoint.program == FIT:
        return None
    stored = data_of(checkpoint.config, data_dir=data_dir)
    if checkpoint.data and digest((stored.train, stored.validation)) != checkpoint.data:
        raise UserError("the data files are not those on which this run was trained: samples or labels differ")
    return Samples(stored)


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a run, as its last checkpoint has them; UserError where metrics.csv says something else.

    The table may lack the last epoch of a run that was killed before it was written.
    """
    last, file = path / LAST, path / METRICS
    found = read_metrics(file)
    if not last.exists():
        return found
    rows = load_checkpoint(last).rows
    expected = list(csv.DictReader(io.StringIO(to_csv(rows))))
    with file.open(encoding="utf-8", newline="") as opened:
        table = list(csv.DictReader(opened))
    for number, (old, new) in enumerate(zip(expected, table, strict=False), 1):
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                came, was = (line.get(name, "nothing") or "empty" for line in (new, old))
                raise _damaged(file, f"row {number}: field {name!r} is {came}, and {was} in {LAST}")
    unfinished = not (path / RESULT).exists()
    if len(table) != len(expected) and not (unfinished and len(table) == len(expected) - 1):
        raise _damaged(
            file, f"row {min(len(table), len(expected)) + 1}: it has {len(table)} rows, {LAST} {len(expected)}"
        )
    return rows


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv, as numbers; None for an empty cell. UserError names row and field of a damaged one."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            names, *lines = [*csv.reader(opened, strict=True)] or [[]]
    except FileNotFoundError:
        raise _damaged(file, "it does not exist") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(file, str(error)) from None
    rows: list[dict[str, Any]] = []
    last = 0
    for number, cells in enumerate(lines, 1):
        if len(cells) != len(names):
            lost = f": field {names[len(cells)]!r} is missing" if len(cells) < len(names) else ""
            raise _damaged(file, f"row {number} has {len(cells)} of {len(names)} fields{lost}")
        row = {name: _number(file, number, name, cell) for name, cell in zip(names, cells, strict=True)}
        epoch = row.get("epoch")
        if not isinstance(epoch, int) or epoch <= last:  # with evaluate_every some have no row
            raise _damaged(file, f"row {number}: field 'epoch' is {row.get('epoch', 'missing')}")
        last = epoch
        rows.append(row)
    return rows


def _damaged(file: Path, what: str) -> UserError:
    return UserError(f"{file} is damaged: {what}; restore it, or delete it and run the same command again")


def _number(file: Path, number: int, name: str, text: str) -> float | int | None:
    if not text:
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise _damaged(file, f"row {number}: field {name!r} is {text[:40]!r}, not a number") from None
