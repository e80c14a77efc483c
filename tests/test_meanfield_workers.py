import threading
import time

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import TANH
from regimes.control.cores import one_core, one_core_if_short
from regimes.meanfield import layout
from regimes.meanfield.particles import gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.meanfield.workers import Memory, Workers


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("items", [0, 1, 2, 10])
@pytest.mark.parametrize("short", [False, True])
def test_every_item_is_worked_on_once(threads, items, short):
    done, workers = [], Workers()
    for _ in range(2):
        workers.each(lambda item, memory: done.append(item), list(range(items)), short=short)
    assert sorted(done) == sorted(2 * list(range(items)))


def test_each_thread_computes_on_one_core_with_memory_of_its_own(threads):
    seen, workers = set(), Workers()

    def work(item, memory):
        seen.add((threading.get_ident(), id(memory), torch.get_num_threads()))
        time.sleep(0.01)  # so that every thread gets an item

    workers.each(work, list(range(20)))
    assert len(seen) == threads
    assert {cores for _, _, cores in seen} == {1}
    assert torch.get_num_threads() == threads


def test_threads_started_later_keep_their_number_of_cores(threads):
    Workers().each(lambda item, memory: None, [1, 2, 3])
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [threads]


def test_short_work_stays_in_the_calling_thread_on_one_core(threads):
    seen = []
    Workers().each(lambda i, m: seen.append((threading.get_ident(), torch.get_num_threads())), [1, 2], short=True)
    assert seen == 2 * [(threading.get_ident(), 1)]
    assert torch.get_num_threads() == threads


def test_an_error_in_a_thread_is_raised_to_the_caller(threads):
    def fail(item, memory):
        if item == 3:
            raise ValueError("item 3")

    with pytest.raises(ValueError, match="item 3"):
        Workers().each(fail, list(range(6)))
    assert torch.get_num_threads() == threads


def test_one_core_is_put_back_after_an_error(threads):
    with pytest.raises(IndexError), one_core():
        [][torch.get_num_threads()]
    assert torch.get_num_threads() == threads


def test_only_operations_on_small_tensors_are_kept_on_one_core(threads):
    with one_core_if_short(torch.zeros(10)):
        assert torch.get_num_threads() == 1
    with one_core_if_short(torch.zeros(2**20 + 1)):
        assert torch.get_num_threads() == threads


def test_memory_is_used_again_where_it_fits():
    memory, like = Memory(), torch.zeros(1, dtype=torch.float64)
    first = memory.take("a", like, 3, 4)
    assert first.shape == (3, 4)
    assert first.dtype == torch.float64
    assert memory.take("a", like, 2, 5).data_ptr() == first.data_ptr()
    assert memory.take("b", like, 3, 4).data_ptr() != first.data_ptr()
    assert memory.take("a", like, 100).numel() == 100
    assert memory.take("a", like.float(), 2).dtype == torch.float32


def test_the_gradient_does_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(layout, "_SHARED", 0)
    source = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 9, size, generator=source, dtype=torch.float64) for size in (3, 1))
    particles = gaussian(20, 3, generators=[source] * 12)
    before, found = torch.get_num_threads(), []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        found.append(TwoLayerRisk(x, y, TANH).risk_and_gradient(particles))
    torch.set_num_threads(before)
    for risk, gradient in found[1:]:
        assert_close(risk, found[0][0], rtol=1e-13, atol=0)  # tiles of another size: order of summation
        assert_close(gradient.input, found[0][1].input, rtol=1e-13, atol=1e-16)  # likewise
