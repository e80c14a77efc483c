import math
import os
import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn

from regimes import threads as module
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.costs import typical_work
from regimes.threads import PER_THREAD, available_cores, own_cores, share_cores, threads, threads_for, wait_quietly
from regimes.training.assemble import training_work


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 8)
    monkeypatch.setattr(module, "_sharers", 1)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def test_small_products_take_one_thread_and_large_ones_all_cores(eight_cores):
    assert [threads(work) for work in (0, 1e6, 1.9 * PER_THREAD)] == [1, 1, 1]
    assert [threads(work * PER_THREAD) for work in (2, 3.5, 8, 1000, math.inf)] == [2, 3, 8, 8, 8]


@pytest.mark.parametrize("work", [math.nan, -1.0])
def test_work_that_is_no_number_of_operations_is_refused(work):
    with pytest.raises(ValueError, match="at least 0; got"):
        threads(work)


def test_within_all_libraries_have_that_many_threads_and_afterwards_as_many_as_before(eight_cores):
    def now():
        return [pool["num_threads"] for pool in threadpool_info()]

    torch.set_num_threads(2)
    before = now()
    with threads_for(3 * PER_THREAD) as outer:
        assert outer == torch.get_num_threads() == 3
        with threads_for(0):
            assert torch.get_num_threads() == 1
            assert set(now()) == {1}
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), threads_for(0):
        raise ZeroDivisionError
    assert (torch.get_num_threads(), now()) == (2, before)
    torch.set_num_threads(1)


@pytest.mark.parametrize("variable", ["1", "7", ""])
@pytest.mark.slow
def test_the_users_variable_does_not_count(variable):
    code = (
        "import torch\nfrom regimes.threads import *\n"
        "for work in (0, 1e12):\n    with threads_for(work): print(torch.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": variable, "MKL_NUM_THREADS": variable}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert [int(line) for line in answer.stdout.split()] == [1, available_cores()]


def test_processes_of_one_machine_share_its_cores(eight_cores, monkeypatch):
    share_cores(3)
    assert own_cores() == threads(math.inf) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "20")
    assert own_cores() == threads(math.inf) == 1


@pytest.mark.parametrize(("text", "cores"), [("150000 100000\n", 2), ("max 100000\n", 64), ("", 64)])
def test_a_container_has_the_cores_that_its_limit_allows(tmp_path, monkeypatch, text, cores):
    monkeypatch.setattr(module, "_CGROUP", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores() == cores


def test_a_program_waits_quietly_unless_its_user_wants_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_quietly()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_quietly()
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_the_work_of_a_dense_layer_is_that_of_its_product():
    assert typical_work(nn.Linear(7, 5), torch.randn(1, 7), 11) == 11 * 7 * 5
    assert typical_work(nn.ReLU(), torch.randn(1, 7), 11) == 0
    assert typical_work(nn.ConvTranspose2d(8, 2, 3, stride=2), torch.randn(1, 8, 6, 6), 1) == 6 * 6 * 8 * 2 * 9
    words = nn.Sequential(nn.Embedding(1000, 16), nn.Flatten(), nn.Linear(64, 2))
    assert typical_work(words, torch.zeros(1, 4, dtype=torch.long), 1) == 64 * 2


def test_the_work_of_a_convolution_counts_every_place():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    assert typical_work(net, torch.randn(1, 3, 10, 10), 4) == 4 * (5 * 5) * 8 * 3 * 9


def test_a_large_layer_outweighs_many_small_ones():
    net = nn.Sequential(nn.Linear(1000, 1000), *(nn.Linear(1000 if i == 0 else 2, 2) for i in range(20)))
    assert typical_work(net, torch.randn(1, 1000), 1) > 0.99 * 1000 * 1000


def test_asking_for_the_work_of_a_training_changes_nothing():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
    net[1].eval()
    data = Labelled(torch.randn(10, 4), torch.zeros(10, dtype=torch.long))
    before, state = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    work = training_work(net, Batches(data, 64))
    assert work == 10 * (24**2 + 12**2) / (24 + 12)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [part.training for part in net] == [True, False, True, True]
    assert not any(part._forward_hooks for part in net.modules())
