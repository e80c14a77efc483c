"""To which run a checkpoint belongs: its settings, its samples and its first launch are those of the folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from regimes.errors import UserError, shown
from regimes.lab.config import dump
from regimes.lab.provenance import run_identity
from regimes.lab.runs import MISSING, differences

LENGTH = ("epochs", "max_steps")  # a run may go on to another length
WAY_OUT = "put the run's own file back, pass --out for another folder, or --fresh to train anew"


@runtime_checkable
class Owned(Protocol):
    """What a checkpoint says of where it comes from."""

    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def run(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def version(self) -> int: ...


def refuse_foreign(path: Path, checkpoint: Owned, config: BaseModel, run: str, data: str, *, newest: int) -> None:
    """UserError unless a checkpoint has the settings (their length aside), the samples and the run of its folder."""
    if checkpoint.version < newest:
        raise UserError(
            f"{path} is of an older format, {checkpoint.version}, which can be read but not gone on with: pass "
            "--fresh to train anew, or --out for another folder"
        )
    _refuse_other_settings(path, checkpoint, dump(config), WAY_OUT)
    refuse_other_samples(path, checkpoint, data)
    if checkpoint.run != run:
        raise UserError(f"{path} is of another run of the same settings (its first launch differs); {WAY_OUT}")


def refuse_other_samples(path: Path, checkpoint: Owned, data: str) -> None:
    """UserError unless a checkpoint is of the samples with this digest."""
    if checkpoint.data != data:
        raise UserError(
            f"{path} was trained on other samples than those of this run, or tested on others (digest "
            f"{checkpoint.data} there, {data} here): the data have changed, or the file is of another run; {WAY_OUT}"
        )


def refuse_mismatch(path: Path, checkpoint: Owned, config: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """The same for a folder that is only read, from its config.yaml and run.json."""
    _refuse_other_settings(path, checkpoint, config, "put the run's own file back")
    if checkpoint.run and checkpoint.run != run_identity(run["name"], run["launches"]):
        raise UserError(f"{path} is of another run of the same settings (its first launch differs); put its own back")


def _refuse_other_settings(path: Path, checkpoint: Owned, config: Mapping[str, Any], way_out: str) -> None:
    for key, there, here in differences(checkpoint.config, config, ""):
        if key not in LENGTH:
            was, asked = ("nothing" if value is MISSING else shown(value) for value in (there, here))
            raise UserError(f"{path} is of another run: {key} is {was} in it, {asked} here; {way_out}")
