"""One run out of many: its points split over machines, and the rows brought together again."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regimes.errors import UserError, shown
from regimes.lab.calls import describe
from regimes.lab.config import Settings, dump, load
from regimes.lab.grid import grid_points
from regimes.lab.log import PointLog, Record, point_key, read_log
from regimes.lab.runs import CONFIG, RunFolder, differences
from regimes.lab.stamps import KINDS, PLACES, refuse_unlike
from regimes.lab.sweep import to_csv
from regimes.paths import refuse_twice


class Part(NamedTuple):
    """The share of one machine: the calls number, number + of, number + 2 of, ... (from 1) of a sweep."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> "Part":
        """Part 2 of 4 from "2/4"."""
        found = re.fullmatch(r"(\d{1,18})/(\d{1,18})", text.strip())
        part = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise UserError(f"--part needs the number of this part and of all, such as 2/4; got {shown(text)}.")
        return part

    def has(self, index: int) -> bool:
        """Whether the call `index` (from 0) is of this part."""
        return index % self.of == self.number - 1


class Merged(NamedTuple):
    """How many points of how many a folder holds."""

    points: int
    planned: int


def name_of(run: Path) -> str:
    """The statement that a run is of."""
    with RunFolder.existing(run) as folder:
        return folder.name


def merge(experiment: Any, name: str, runs: Sequence[Path], path: Path, config: Settings) -> Merged:
    """Bring the points of several runs of one statement together in the folder `path`, new or of the same settings.

    The settings must agree, save those that say where and how fast (`stamps.PLACES`). Those that an experiment names in
    PLAN say what is measured, not how, and may differ too: `config` has the points that the whole run shall have.
    ValueError: other settings, a point that `config` does not have, or one measured twice with unlike numbers; or a
    run that is named twice.
    """
    refuse_twice(runs, "and another part may have been meant")
    planned = grid_points(experiment, config)
    keys = [point_key(point) for point in planned]
    wanted: dict[str, str] = {}  # stamps that all rows share
    held: dict[str, tuple[Path, Record]] = {}
    launches: list[dict[str, Any]] = []
    for run in runs:
        with RunFolder.existing(run) as part:
            _refuse_other(experiment, name, part, config)
            launches += part.launches
            _collect(held, run, set(keys), wanted)
    with RunFolder.open(path, name, config, joined=True, across_commits=True) as folder:
        _collect(held, path, set(keys), wanted)
        records = [held[key][1] for key in keys if key in held]
        log = PointLog(folder.path)
        log.replace(records)
        folder.write("rows.csv", to_csv(records))
        folder.adopt(launches)
    return Merged(len(records), len(planned))


def _refuse_other(experiment: Any, name: str, part: RunFolder, config: Settings) -> None:
    if part.name != name:
        raise UserError(f"{part.path} holds a run of {part.name!r}, not of {name!r}; merge runs of one statement.")
    held = dump(load(experiment.Config, part.path / CONFIG))
    free = {*PLACES, *getattr(experiment, "PLAN", ())}
    for key, other, wanted in differences(held, dump(config), ""):
        if key not in free:
            raise UserError(
                f"{part.path} was measured with another configuration: {key} is {other!r} there, {wanted!r} here. "
                "Merge runs of the same settings."
            )


def _collect(held: dict[str, tuple[Path, Record]], run: Path, known: set[str], wanted: dict[str, str]) -> None:
    """Add the records of a run to those held; the stamps of all of them agree."""
    records = read_log(run).records
    for record in records:
        refuse_unlike(str(run), [record], wanted)
        wanted.update({kind: value for kind, value in record.stamp.items() if kind in KINDS})
    for record in records:
        key = point_key(record.point)
        if key not in known:
            raise UserError(
                f"{run} holds the point {describe(record.point)}, which is none of the merged run's. "
                "Give settings that have it with --config or --set."
            )
        if key in held and json.dumps(held[key][1].rows) != json.dumps(record.rows):
            raise UserError(
                f"{held[key][0]} and {run} hold unlike numbers of the point {describe(record.point)}. Leave one out."
            )
        held.setdefault(key, (run, record))
