"""A sweep on a cluster: the same rows as in this process, and a lost worker loses nothing."""

import os
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest
import toy_experiment
from command import command

from regimes.errors import UserError
from regimes.lab.cluster import cluster
from regimes.lab.runs import RunFolder
from regimes.lab.sweep import sweep

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, local_directory=None
        )
    try:
        yield local
    finally:
        local.close()


def swept(folder: Path, config: toy_experiment.Config, executor=None):
    with RunFolder.open(folder, "toy", config) as run:
        return sweep(toy_experiment, config, run, executor)


def test_a_cluster_measures_the_same_rows(scheduler, tmp_path):
    config = toy_experiment.Config(moments=2)
    with cluster(scheduler.scheduler_address) as executor:
        far = swept(tmp_path / "far", config, executor)
    here = swept(tmp_path / "here", config)
    assert far.equals(here)
    assert (tmp_path / "far" / "rows.csv").read_bytes() == (tmp_path / "here" / "rows.csv").read_bytes()


def test_a_killed_worker_loses_nothing(scheduler, tmp_path):
    config = toy_experiment.Config(x=[float(k) for k in range(1, 9)], pause=0.4)
    victim = scheduler.workers[0].process.process.pid

    def kill():
        time.sleep(0.6)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with cluster(scheduler.scheduler_address) as executor:
        rows = swept(tmp_path / "run", config, executor)
    killer.join()
    assert len(rows) == 24
    assert rows.equals(swept(tmp_path / "here", config.model_copy(update={"pause": 0.0})))


def test_a_failing_call_is_one_error_and_the_other_rows_stay(scheduler, tmp_path):
    config = toy_experiment.Config(broken=[2.0])
    with pytest.raises(RuntimeError, match=r"x=2\.0"), cluster(scheduler.scheduler_address) as executor:
        swept(tmp_path / "run", config, executor)
    assert len((tmp_path / "run" / "points.jsonl").read_text().splitlines()) == 9


def test_nobody_at_the_address_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("regimes.lab.cluster.SECONDS_TO_CONNECT", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        ended = command("verify", "ridgeless_limit", "--cluster", address, "--out", str(tmp_path / "run"))
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert address in ended.err
        assert "dask scheduler" in ended.err


def test_what_is_no_address_is_not_tried(monkeypatch):
    monkeypatch.setattr("distributed.Client", None)
    with pytest.raises(UserError, match="got 'nonsense'"), cluster("nonsense"):
        pass


def test_workers_here_and_a_cluster_exclude_each_other(tmp_path):
    ended = command(
        "verify", "ridgeless_limit", "--cluster", "tcp://x:1", "--workers", "2", "--out", str(tmp_path / "run")
    )
    assert ended.code == 2
    assert "not both" in ended.err
