import os

import pytest

from regimes.lab.workers import available_cores, prepare_worker, worker_pool


def threads_and_parent(_: int) -> tuple[str, int, int]:
    return os.environ["OMP_NUM_THREADS"], os.getpid(), os.getppid()


def test_one_worker_is_this_process():
    with worker_pool(1) as pool:
        assert pool is None


@pytest.mark.parametrize("workers", [0, -3])
def test_workers_need_to_be_at_least_one(workers):
    with pytest.raises(ValueError, match=f"at least 1; got {workers}"), worker_pool(workers):
        pass


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    with worker_pool(2) as pool:
        answers = list(pool.map(threads_and_parent, range(4)))
    assert {threads for threads, _, _ in answers} == {str(max(1, available_cores() // 2))}
    assert all(child != os.getpid() for _, child, _ in answers)


def test_a_limit_on_threads_is_kept(monkeypatch):
    for before, after in (("1", "1"), ("8", "3"), ("x", "3")):
        monkeypatch.setenv("OMP_NUM_THREADS", before)
        with monkeypatch.context() as patch:
            patch.setattr("signal.signal", lambda *arguments: None)
            patch.setattr("sys.modules", {})
            prepare_worker(3)
        assert os.environ["OMP_NUM_THREADS"] == after
