import math
import os

import pytest

from regimes.lab.workers import worker_pool
from regimes.threads import available_cores, threads


def threads_and_parent(_: int) -> tuple[int, int, int]:
    return threads(math.inf), os.getpid(), os.getppid()


def test_one_worker_is_this_process():
    with worker_pool(1) as pool:
        assert pool is None


@pytest.mark.parametrize("workers", [0, -3])
def test_workers_need_to_be_at_least_one(workers):
    with pytest.raises(ValueError, match=f"at least 1; got {workers}"), worker_pool(workers):
        pass


@pytest.mark.parametrize("variable", ["1", ""])
def test_workers_share_the_cores(monkeypatch, variable):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    with worker_pool(2) as pool:
        answers = list(pool.map(threads_and_parent, range(4)))
    assert {count for count, _, _ in answers} == {max(1, available_cores() // 2)}
    assert all(child != os.getpid() for _, child, _ in answers)
