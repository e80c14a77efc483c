"""Which run a checkpoint is of: one that does not belong to the folder it lies in is refused."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from regimes.errors import UserError
from regimes.lab.config import dump
from regimes.lab.runs import RunFolder, differences
from regimes.training.checkpoint import VERSION, Checkpoint

LENGTH = ("epochs", "max_steps")  # a run may go on to another length
FIRST = ("started", "command", "commit")  # of its first launch, which no later one changes
WAY_OUT = "put the run's own file back, pass --out for another folder, or --fresh to train anew"


def of_folder(folder: RunFolder) -> str:
    """16 hexadecimal digits that the launches of one run in one folder have in common, and no other run."""
    return _of(folder.name, folder.launches)


def _of(name: str, launches: Sequence[Mapping[str, Any]]) -> str:
    text = json.dumps([name, *(launches[0].get(entry) for entry in FIRST)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def refuse_foreign(path: Path, held: Checkpoint, config: BaseModel, run: str, data: str) -> None:
    """UserError unless a checkpoint has the settings (their length aside), the samples and the run of its folder."""
    if held.version < VERSION:
        raise UserError(
            f"{path} is of an older format, {held.version}, which can be read but not gone on with: pass --fresh to "
            "train anew, or --out for another folder"
        )
    _refuse_other_settings(path, held, dump(config))
    if held.data != data:
        raise UserError(
            f"{path} was trained on other samples than those of this run, or tested on others (digest {held.data} "
            f"there, {data} here): the data have changed, or the file is of another run; {WAY_OUT}"
        )
    if held.run != run:
        raise UserError(f"{path} is of another run of the same settings (its first launch differs); {WAY_OUT}")


def refuse_mismatch(path: Path, held: Checkpoint, config: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """The same for a folder that is only read, from its config.yaml and run.json."""
    _refuse_other_settings(path, held, config)
    if held.run and held.run != _of(run["name"], run["launches"]):
        raise UserError(f"{path} is of another run of the same settings (its first launch differs); put its own back")


def _refuse_other_settings(path: Path, held: Checkpoint, config: Mapping[str, Any]) -> None:
    for key, there, here in differences(held.config, config, ""):
        if key not in LENGTH:
            raise UserError(f"{path} is of another run: {key} is {_short(there)} in it, {_short(here)} here; {WAY_OUT}")


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | list | dict | None) else "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."
