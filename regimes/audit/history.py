"""What a statement predicted at a commit: the code of then, taken from git and imported in a process of its own.

Predictions are computed (from published values, by functions), so that the source text does not show them; importing
the module does, at any place in the tree and under any layout of the packages.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from regimes.lab.provenance import git

ROOT = Path(__file__).resolve().parents[2]
HOME = "regimes/experiments"
LOADER = """
import importlib, json, pathlib, sys
for line in sys.stdin:
    folder, home, name = json.loads(line)
    for module in [module for module in sys.modules if module.partition(".")[0] == home.partition("/")[0]]:
        del sys.modules[module]
    sys.path[0] = folder
    importlib.invalidate_caches()
    try:
        files = pathlib.Path(folder, home).rglob("*.py")
        file = next(file for file in files if name in (file.stem, file.parent.name * (file.stem == "__init__")))
        parts = file.relative_to(folder).with_suffix("").parts
        statement = importlib.import_module(".".join(parts).removesuffix(".__init__")).STATEMENT
        said = [[one[0], *map(float, one[1])] for one in statement.predictions]
    except Exception:
        said = None
    print(json.dumps(said), flush=True)
"""

Said = tuple[str, float, float]  # quantity, and the ends of the interval in which it is predicted


class Commit(NamedTuple):
    """A commit and when it was written."""

    name: str
    time: datetime


class History:
    """The commits of a repository, and what its statements said at each; a context manager."""

    def __init__(self, root: Path = ROOT, home: str = HOME) -> None:
        self.root, self.home = root, home
        self._folder = tempfile.TemporaryDirectory()
        self._loader: subprocess.Popen[str] | None = None
        self._trees: dict[str, Path] = {}
        self._said: dict[tuple[str, str], tuple[Said, ...] | None] = {}

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loader is not None:
            with self._loader:  # closes its pipes, which ends it, and waits
                pass
        self._folder.cleanup()

    def missing(self) -> str:
        """Why there is no history to look at; empty if there is one."""
        try:
            if not git(self.root, "ls-files", self.home):
                return "this copy of regimes is in no git repository"
        except (OSError, subprocess.SubprocessError):
            return "there is no git, or no repository"
        return ""

    def shallow(self) -> bool:
        """Whether older commits are left out."""
        return git(self.root, "rev-parse", "--is-shallow-repository") == "true"

    def find(self, commit: str) -> Commit | None:
        """The commit of this name, if the repository has it."""
        try:
            name, time = git(self.root, "show", "--no-patch", "--format=%H %aI", f"{commit}^{{commit}}").split()
        except (OSError, subprocess.SubprocessError):
            return None
        return Commit(name, datetime.fromisoformat(time))

    def touching(self, name: str) -> list[Commit]:
        """The commits that changed files of a statement, from the first to the last, wherever the files lay."""
        text = git(self.root, "log", "--reverse", "--format=%H %aI", "--", f"{self.home}/*{name}*")
        return [Commit(line.split()[0], datetime.fromisoformat(line.split()[1])) for line in text.splitlines()]

    def contains(self, later: str, earlier: str) -> bool:
        """Whether the one commit comes after the other, or is it."""
        try:
            git(self.root, "merge-base", "--is-ancestor", earlier, later)
        except subprocess.SubprocessError:
            return False
        return True

    def said(self, name: str, commit: str) -> tuple[Said, ...] | None:
        """What a statement predicted at a commit; None where it was not there or could not be imported."""
        if (name, commit) not in self._said:
            if self._loader is None:
                command = [sys.executable, "-c", LOADER]
                pipe = subprocess.PIPE
                self._loader = subprocess.Popen(
                    command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=self._folder.name
                )
            assert self._loader.stdin is not None
            assert self._loader.stdout is not None
            self._loader.stdin.write(json.dumps([str(self._tree(commit)), self.home, name]) + "\n")
            self._loader.stdin.flush()
            found = json.loads(self._loader.stdout.readline() or "null")
            self._said[name, commit] = None if found is None else tuple((q, low, high) for q, low, high in found)
        return self._said[name, commit]

    def _tree(self, commit: str) -> Path:
        if commit not in self._trees:
            folder = Path(self._folder.name, commit)
            command = ["git", "-C", str(self.root), "archive", "--format=tar", commit, self.home.split("/")[0]]
            packed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
            with tarfile.open(fileobj=BytesIO(packed)) as tree:
                if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4
                    tree.extraction_filter = tarfile.data_filter
                tree.extractall(folder)
            self._trees[commit] = folder
        return self._trees[commit]


class Compared(NamedTuple):
    """Predictions of now beside those of then: quantities without one, and (words then, words now) of reworded ones."""

    absent: list[str]
    reworded: list[tuple[str, str]]


def compared(now: Sequence[Said], then: Sequence[Said] | None) -> Compared:
    """Which quantities of now were not predicted then.

    A prediction is the same if its interval is, under the same words or under others that are no longer used. Whether
    those mean the same is for people to say.
    """
    if then is None:
        return Compared([quantity for quantity, *_ in now], [])
    words = {quantity for quantity, *_ in now}
    spare: dict[tuple[float, float], list[str]] = {}
    for quantity, low, high in then:
        if quantity not in words:
            spare.setdefault((low, high), []).append(quantity)
    held = {quantity: (low, high) for quantity, low, high in then}
    found = Compared([], [])
    for quantity, low, high in now:
        if quantity in held:
            if held[quantity] != (low, high):
                found.absent.append(quantity)
        elif spare.get((low, high)):
            found.reworded.append((spare[low, high].pop(0), quantity))
        else:
            found.absent.append(quantity)
    return found
