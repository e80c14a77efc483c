"""Run folders: one configuration, one writer, files that are whole at any moment, and where it all came from."""

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import BaseFileLock
from pydantic import BaseModel

from regimes.errors import UserError
from regimes.lab.config import dump
from regimes.lab.files import write_whole
from regimes.lab.locks import release, take_lock
from regimes.lab.provenance import device_of, latest, measuring, provenance, same_code, uncommitted_diff
from regimes.lab.run_files import CONFIG as CONFIG
from regimes.lab.run_files import DIFF, holds_results, holds_run, refuse_foreign, remove_begun
from regimes.lab.run_files import RUN as RUN
from regimes.lab.stamps import refuse_other_data
from regimes.lab.yaml_text import read_yaml, to_yaml
from regimes.paths import home

MISSING = object()


class RunFolder:
    """A folder of one run, held by one process: config.yaml (resolved), run.json (provenance), results.

    Made by `RunFolder.open` (new, or the same configuration again) or `RunFolder.existing` (a run as it lies there).
    """

    def __init__(
        self,
        path: Path,
        name: str,
        config: dict[str, Any],
        lock: BaseFileLock,
        launches: list[dict[str, Any]],
        launch: dict[str, Any] | None = None,
        across_commits: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.config = config
        self._lock: BaseFileLock | None = lock
        self._launches = launches  # those that have added results
        self._launch = launch  # this one, until it begins to
        self._across_commits = across_commits
        self._start: float | None = None  # of this one, once it has

    @classmethod
    def open(
        cls,
        path: Path | str,
        name: str,
        config: BaseModel,
        *,
        fresh: bool = False,
        free: Collection[str] = (),
        across_commits: bool = False,
        stamp: Mapping[str, str] | None = None,
        joined: bool = False,
    ) -> "RunFolder":
        """Take a folder for a run, or take up the same run again; settings in `free` may differ from those held.

        Once something is to be added the device of the settings must be there, save where what others have measured is
        only `joined`. Without `across_commits`, code unlike that of the rows held is refused then; and in any case
        data unlike those of the `stamp` there (`stamps.job_stamp`). The stamp of a launch is part of its record.

        ValueError: the folder holds another configuration (`fresh` moves that one aside to PATH.1, PATH.2, ...), or
        files that are no run's, or is in use by another process.
        """
        path = home(path)
        wanted = _plain(dump(config))
        refuse_foreign(path)
        begins = not joined and (fresh or not (path.is_dir() and holds_results(path)))
        launch = provenance(str(wanted.get("device", "cpu")) if begins else None)
        launch |= ({"stamp": dict(stamp)} if stamp else {}) | ({"joined": True} if joined else {})
        if fresh and holds_run(path):
            path = path.resolve()
            if Path.cwd().is_relative_to(path):
                raise UserError(f"{path} is the folder that you are in, and cannot be moved aside: go to another one")
            _move_aside(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"cannot make the folder {path}: {reason}; give another one with --out"
            raise type(error)(error.errno, message) from None
        lock = take_lock(path)
        try:
            if holds_results(path):
                _refuse_other(path, name, wanted, free)
                folder = cls(path, name, wanted, lock, _launches(path), launch, across_commits)
            else:
                folder = cls(path, name, wanted, lock, [], launch)
                folder.begin()
        except BaseException:
            release(path, lock)
            raise
        return folder

    @classmethod
    def existing(cls, path: Path | str) -> "RunFolder":
        """Take the folder of a run as it lies there; FileNotFoundError if there is none."""
        path = home(path)
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise FileNotFoundError(f"{path} {what}; give the folder of a run, for example runs/lazy_rate")
        if not (path / CONFIG).exists() or not (path / RUN).exists():
            raise FileNotFoundError(f"{path} is not the folder of a run: it has no {CONFIG} or no {RUN}")
        config, run = read_yaml(path / CONFIG), read_run(path)
        return cls(path, run["name"], config, take_lock(path), run["launches"])

    def write(self, file: str, content: str | bytes) -> Path:
        """Write one file of the folder as a whole: after a crash it is the old one or the new one."""
        write_whole(self.path / file, content)
        return self.path / file

    def record(self) -> dict[str, Any]:
        """Provenance of the latest launch that measured, how many there were, their commits and devices if they differ.

        The seconds of this launch count until the first call.
        """
        self._count_seconds()
        return latest(self._launches) | {"launches": len(self._launches)}

    def begin(self) -> None:
        """Record configuration and launch: from here on it adds results. A new folder's first launch has begun."""
        self.refuse_unlike()
        if self._launch is not None:
            if not self._launch.get("joined"):
                self._launch.setdefault("device", device_of(self.config))
            if self._launch.get("uncommitted_changes") and (diff := uncommitted_diff()):
                self._launch["diff"] = f"{DIFF}-{hashlib.sha256(diff.encode()).hexdigest()[:8]}.diff"
                write_whole(self.path / self._launch["diff"], diff)
            write_whole(self.path / CONFIG, to_yaml(self.config))
            self._launches.append(self._launch)
            self._launch, self._start = None, time.monotonic()
            self._write_run()

    def refuse_unlike(self) -> None:
        """UserError where this launch may not add to the results held: by other data, or by other code unless asked."""
        if self._launch is not None and (before := measuring(self._launches)):
            refuse_other_data(self.path, before[-1], self._launch)
            if not self._across_commits:
                _refuse_other_code(self.path, before[-1], self._launch)

    @property
    def commit(self) -> str | None:
        """Commit of the code that adds results now."""
        launch = self._launch or (self._launches[-1] if self._launches else {})
        return launch.get("commit")

    @property
    def launches(self) -> list[dict[str, Any]]:
        """Provenance of every launch that has added results."""
        return list(self._launches)

    def adopt(self, launches: list[dict[str, Any]]) -> None:
        """Put launches elsewhere, whose results have come here, before those of this folder; each only once."""
        self._launches[:0] = [launch for launch in launches if launch not in self._launches]
        self._write_run()

    def discard(self) -> None:
        """Let go of the folder; remove it if this launch has begun it and nothing is measured."""
        mine = self._start is not None and len(self._launches) == 1 and not holds_results(self.path)
        self.close()
        if mine:
            remove_begun(self.path)

    def close(self) -> None:
        """Note the seconds of this launch and let go of the folder."""
        if self._lock is None:
            return
        try:
            if self._start is not None:
                self._count_seconds()
                self._write_run()
        finally:
            release(self.path, self._lock)
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, UserError):
            self.discard()
        else:
            self.close()

    def _count_seconds(self) -> None:
        if self._start is not None:
            self._launches[-1].setdefault("wall_seconds", round(time.monotonic() - self._start, 3))

    def _write_run(self) -> None:
        text = json.dumps({"name": self.name, "launches": self._launches}, indent=2, ensure_ascii=False)
        write_whole(self.path / RUN, text + "\n")


def read_run(path: Path) -> dict[str, Any]:
    """The content of a folder's run.json; UserError if it is damaged."""
    file = path / RUN
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        launches = content["launches"]
        if isinstance(content["name"], str) and isinstance(launches, list) and all(type(x) is dict for x in launches):
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{file} is damaged: it needs the name and the launches of a run; restore it or give another folder"
    )


def _launches(path: Path) -> list[dict[str, Any]]:
    return list(read_run(path)["launches"]) if (path / RUN).exists() else []


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from config.yaml, so that two configurations are compared like with like."""
    return json.loads(json.dumps(values))


def _refuse_other(path: Path, name: str, wanted: dict[str, Any], free: Collection[str]) -> None:
    held = read_yaml(path / CONFIG) if (path / CONFIG).exists() else {}
    way_out = "pass --out for another folder, or --fresh to move the old run aside"
    if (path / RUN).exists() and (other := read_run(path)["name"]) != name:
        raise UserError(f"{path} holds a run of {other!r}, not of {name!r}; {way_out}")
    for key, old, new in differences(held, wanted, ""):
        if key in free and MISSING not in (old, new):
            continue
        old_text, new_text = ("nothing" if value is MISSING else repr(value) for value in (old, new))
        if (what := key.removesuffix("_definition")) != key:
            raise UserError(
                f"{path} holds a run of another {what}: its code, constants or structure differ (digest {old_text} "
                f"there, {new_text} here); {way_out}"
            )
        raise UserError(f"{path} holds another configuration: {key} is {old_text} there, {new_text} here; {way_out}")


def _refuse_other_code(path: Path, held: Mapping[str, Any], launch: Mapping[str, Any]) -> None:
    """Refuse to add rows by code that is not that of the rows held; what is not known cannot differ."""
    old, new = held.get("commit"), launch.get("commit")
    if old and new and not same_code(old, new):
        raise UserError(
            f"{path} was measured at commit {old[:12]}, and the code is now at {new[:12]}; pass --across-commits (in "
            "Python across_commits=True) to add rows by the code of now (the table will name both), or --fresh to move "
            "the old run aside"
        )


def differences(held: Any, wanted: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The settings below `path` that are not the same: dotted name, the one held, the one wanted."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys((*wanted, *held)):
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(held.get(key, MISSING), wanted.get(key, MISSING), inner)
    elif held != wanted:
        yield path, held, wanted


def _move_aside(path: Path) -> Path:
    lock = take_lock(path)
    try:
        path = path.resolve()
        number = 1
        while (aside := path.with_name(f"{path.name}.{number}")).exists():
            number += 1
        path.rename(aside)
        path = aside
        return aside
    finally:
        release(path, lock)


def default_folder(stem: str, config: BaseModel, named: Collection[str], shortened: Collection[str] = ()) -> Path:
    """runs/STEM, and a digest of the settings that the stem only shortens, or does not name and are not the default."""
    usual = dump(type(config)(**{name: getattr(config, name) for name in {*named, *shortened}}))
    telling = {name: value for name, value in dump(config).items() if name in shortened or value != usual[name]}
    digest = hashlib.sha256(json.dumps(telling, sort_keys=True).encode()).hexdigest()[:6]
    return Path("runs", f"{stem}-{digest}" if telling else stem)
