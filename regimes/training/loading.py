"""A run as it lies in its folder, back in Python: the network, its samples as it saw them, its numbers."""

import io
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from regimes.data.classification import Classification, Labelled
from regimes.data.digest import digest
from regimes.errors import UserError, arguments_named
from regimes.lab.checkpoint_run import refuse_mismatch
from regimes.lab.fields import read_object, read_table, table_in
from regimes.lab.runs import CONFIG, RUN, read_run
from regimes.lab.yaml_text import read_yaml
from regimes.models.weights import put_weights, refuse_not_finite
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
from regimes.training.metrics import METRICS, to_csv

ADVICE = "restore it, or delete it and run the same command again"


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


@arguments_named()
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
    checkpoint = load_checkpoint(path / f"{weights}.pt", "put the run's own file back, or train anew")
    refuse_mismatch(path / f"{weights}.pt", checkpoint, read_yaml(path / CONFIG), read_run(path))
    network = network_in(checkpoint, model)
    refuse_not_finite(path / f"{weights}.pt", network)
    return Loaded(
        network,
        samples_in(checkpoint, data_dir),
        metrics_of(path),
        read_object(path / RESULT),
        checkpoint.config,
    )


def network_in(checkpoint: Checkpoint, model: nn.Module | None) -> nn.Module:
    """The network of a checkpoint in eval mode; of `fit`, the caller's own, which receives the weights."""
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
            stacklevel=4,
        )
    return model.eval()


def samples_in(checkpoint: Checkpoint, data_dir: Path | str | None) -> Samples | None:
    """The samples of a run of `train`; UserError where the data files are others now."""
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
    table = read_metrics(file)
    if not last.exists():
        return table
    rows = load_checkpoint(last, ADVICE).rows
    expected = table_in(io.StringIO(to_csv(rows)), lambda what: _damaged(last, what))
    for line, (old, new) in enumerate(zip(expected, table, strict=False), 2):
        for name in dict.fromkeys([*old, *new]):
            was, came = (_shown(row, name) for row in (old, new))
            if was != came:
                raise _damaged(file, f"line {line}: field {name!r} is {came}, and {was} in {LAST}")
    unfinished = not (path / RESULT).exists()
    if len(table) != len(expected) and not (unfinished and len(table) == len(expected) - 1):
        raise _damaged(file, f"it has {len(table)} rows, {LAST} {len(expected)}")
    return rows


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The rows of metrics.csv, as numbers; None for an empty cell. UserError names line and field of a damaged one."""
    try:
        rows = read_table(file, ADVICE)
    except FileNotFoundError:
        raise _damaged(file, "it does not exist") from None
    last = 0
    for line, row in enumerate(rows, 2):
        for name, value in row.items():
            if isinstance(value, str | bool):
                raise _damaged(file, f"line {line}: field {name!r} is {str(value)[:40]!r}, not a number")
        epoch = row.get("epoch")
        if not isinstance(epoch, int) or epoch <= last:  # with evaluate_every some have no row
            raise _damaged(file, f"line {line}: field 'epoch' is {row.get('epoch', 'missing')}")
        last = epoch
    return rows


def _shown(row: Mapping[str, Any], name: str) -> str:
    """A cell in words; those of different numbers differ."""
    value = row.get(name, "nothing")
    return "empty" if value is None else str(value)


def _damaged(file: Path, what: str) -> UserError:
    return UserError(f"{file} is damaged: {what}; {ADVICE}")
