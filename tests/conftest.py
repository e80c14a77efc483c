import json
import os
import resource
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch

# Processor seconds of a test of each file, on average, in one thread: of its fast and of its slow tests apart.
SECONDS = Path(__file__).with_name("seconds.json")
taken: dict[str, list[float]] = defaultdict(list)


@pytest.fixture(autouse=True)
def fixed_seeds():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (scikit-learn and scipy read the global state)
    return


def pytest_addoption(parser):
    parser.addoption("--keep-seconds", action="store_true", help=f"note what each file takes in tests/{SECONDS.name}")


def pytest_configure(config):
    if config.getoption("--keep-seconds") and config.getoption("numprocesses", default=None):
        raise pytest.UsageError("--keep-seconds needs one process, whose seconds they are: leave -n out")


def pytest_report_collectionfinish(items):
    """Say at the start how long it will take."""
    known = json.loads(SECONDS.read_text())
    usual = sum(known.values()) / len(known)
    minutes = sum(known.get(_kind(item), usual) for item in items) / 60
    said = "less than a minute" if minutes < 1 else f"{minutes:.0f} minute{'s' if minutes >= 1.5 else ''}"
    return f"{len(items)} tests take about {said} of one core; more where it is busy"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    before = _processor_seconds()
    yield
    taken[_kind(item)].append(_processor_seconds() - before)


def pytest_sessionfinish(session):
    if session.config.getoption("--keep-seconds"):
        known = json.loads(SECONDS.read_text())
        known |= {kind: round(sum(each) / len(each), 3) for kind, each in taken.items()}
        SECONDS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _kind(item) -> str:
    return f"{item.path.stem}{' slow' if item.get_closest_marker('slow') else ''}"


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)
