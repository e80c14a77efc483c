import json
import os
import resource
from collections import defaultdict

os.environ.setdefault("MPLBACKEND", "Agg")

import announced
import numpy as np
import pytest
import torch

taken: dict[str, list[float]] = defaultdict(list)


@pytest.fixture(autouse=True)
def fixed_seeds():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (scikit-learn and scipy read the global state)
    return


def pytest_addoption(parser):
    parser.addoption(
        "--keep-seconds", action="store_true", help=f"note what each file takes in tests/{announced.SECONDS.name}"
    )


def pytest_configure(config):
    if config.getoption("--keep-seconds") and config.getoption("numprocesses", default=None):
        raise pytest.UsageError("--keep-seconds needs one process, whose seconds they are: leave -n out")


def pytest_report_collectionfinish(items):
    """Say at the start how long it will take."""
    return announced.said(len(items), announced.expected(map(_kind, items), announced.known()))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    before = _processor_seconds()
    yield
    taken[_kind(item)].append(_processor_seconds() - before)


def pytest_sessionfinish(session):
    if session.config.getoption("--keep-seconds"):
        seconds = {kind: round(sum(each) / len(each), 3) for kind, each in taken.items()}
        text = json.dumps(announced.known() | seconds, indent=1, sort_keys=True)
        announced.SECONDS.write_text(text + "\n")


def _kind(item) -> str:
    return announced.kind(item.path, slow=item.get_closest_marker("slow") is not None)


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)
