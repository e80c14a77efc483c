"""What rows were measured for, and by what: digests in every record of a log, so that it can be checked afterwards.

`statement`: claim, predictions and baselines, with all their intervals (not where these come from: that is no
prediction). `config`: the settings, save those that say where or which points are measured. `data`: the files of the
data sets named there. `commit`: of the code. The digests are the first 16 hexadecimal digits of SHA-256.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from regimes.errors import UserError
from regimes.lab.config import Settings, dump
from regimes.lab.log import Record
from regimes.lab.statements import Statement

PLACES = ("data_dir", "device", "ensemble", "compile", "cuda_graphs")  # settings that say where and how fast, not what
KINDS = {  # of the stamps that all rows of a run share
    "statement": "another statement: its claim or its predictions are not those of now",
    "config": "other settings",
    "data": "other data",
}


def stamp(experiment: Any, config: Settings, *, data: str | None = None, commit: str | None = None) -> dict[str, str]:
    """The stamp of rows that are measured now."""
    made = {"statement": statement_digest(experiment.STATEMENT), "config": config_digest(experiment, config)}
    return made | ({"data": data} if data else {}) | ({"commit": commit} if commit else {})


def job_stamp(config: BaseModel, *, data: str | None = None) -> dict[str, str]:
    """The stamp of a run that states nothing, a training or a job: of its settings, and of its data if they are known.

    It stands in run.json beside the launch, and so in result.json; the commit stands there, too.
    """
    made = {"config": digest({name: value for name, value in dump(config).items() if name not in PLACES})}
    return made | ({"data": data} if data else {})


def data_digest(config: BaseModel, files_digest: Callable[[str], str | None]) -> str | None:
    """Digest of the data sets that the settings name, anywhere among them; None where all data are drawn from seeds.

    files_digest: that of the data set of a name, None for any other text; see `data.origins.files_digest`.
    """
    found = {name: made for name in set(_texts(dump(config))) if (made := files_digest(name)) is not None}
    return digest(found) if found else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def statement_digest(statement: Statement) -> str:
    """Digest of claim, predictions and baselines."""
    said = [[one.quantity, *map(repr, map(float, one.interval))] for one in statement.predictions]
    gates = [
        [one.quantity, *map(repr, map(float, one.published)), repr(float(one.tolerance)), *one.gates]
        for one in statement.baselines
    ]
    return digest([statement.claim, said, gates])


def config_digest(experiment: Any, config: Settings) -> str:
    """Digest of the settings that say how is measured."""
    free = {*PLACES, *getattr(experiment, "PLAN", ())}
    return digest({name: value for name, value in dump(config).items() if name not in free})


def digest(value: Any) -> str:
    """Sixteen digits of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def refuse_unlike(where: str, records: Iterable[Record], wanted: Mapping[str, str]) -> None:
    """Refuse records whose stamps are not the wanted ones; what one of the two does not have is not compared."""
    for record in records:
        for kind, text in KINDS.items():
            if kind in record.stamp and kind in wanted and record.stamp[kind] != wanted[kind]:
                raise UserError(
                    f"{where} holds rows of {text}; rows of both in one run would be judged as one. "
                    "Pass --fresh to move the old run aside, or --out for another folder."
                )


def refuse_other_data(path: Path, held: Mapping[str, Any], launch: Mapping[str, Any]) -> None:
    """Refuse to go on with other data than those of the launch before; what is not known cannot differ."""
    old, new = ((entry.get("stamp") or {}).get("data") for entry in (held, launch))
    if old and new and old != new:
        raise UserError(
            f"{path} was measured on other data (digest {old} there, {new} here): what is there and what comes would "
            "be taken for one; put the data back, or pass --fresh to move the old run aside"
        )
