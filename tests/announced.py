"""How long tests will take, from what those of their files took before."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

TESTS = Path(__file__).parent
# Processor seconds of a test of each file, on average, in one thread: of its fast and of its slow tests apart.
SECONDS = TESTS / "seconds.json"


def kind(path: Path, *, slow: bool) -> str:
    """The name under which the tests of a file are kept: its place among the tests, and whether they are slow ones."""
    here = path.relative_to(TESTS) if path.is_relative_to(TESTS) else Path(path.name)
    return f"{here.with_suffix('').as_posix()}{' slow' * slow}"


def known() -> dict[str, float]:
    """Seconds of a test by kind."""
    return json.loads(SECONDS.read_text())


def expected(kinds: Iterable[str], known: Mapping[str, float]) -> float:
    """Seconds of all these tests; one of an unknown file takes as long as the usual one, slow or fast, in its folder.

    The usual one is the median over files, as a few take very long.
    """
    return sum(known[name] if name in known else _usual(name, known) for name in kinds)


def _usual(name: str, known: Mapping[str, float]) -> float:
    def folder(one: str) -> str:
        return one.rpartition("/")[0]

    slow = name.endswith(" slow")
    alike = {one: seconds for one, seconds in known.items() if one.endswith(" slow") == slow}
    near = [seconds for one, seconds in alike.items() if folder(one) == folder(name)]
    return median(near or alike.values() or [0.0])


def said(count: int, seconds: float) -> str:
    """The same in words."""
    minutes = seconds / 60
    time = "less than a minute" if minutes < 1 else f"about {minutes:.0f} minute{'s' if minutes >= 1.5 else ''}"
    return f"{count} tests take {time} of one core; more where it is busy"
