"""The benchmarks of the training step compare like with like."""

import argparse
from itertools import islice

import pytest
import torch

from benchmarks import lap_overhead, timing, training_step
from benchmarks.timing import Seconds
from regimes.data.augment import compose, flip, random_crop

SMALL = ("small", "small-mean-field")
RATES = {False: 1e9, True: 1e9}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name in SMALL:
        monkeypatch.setitem(training_step.NETS, name, ("resnet9", {"filters": 4, "blocks": 2}))
        monkeypatch.setitem(training_step.BATCH["cpu"], name, 4)


@pytest.mark.parametrize("name", SMALL)
def test_both_sides_take_the_same_step(name):
    assert training_step.compare(name, "cpu") < 1e-10
    assert torch.get_default_dtype() == torch.float32


def test_another_step_would_be_noticed(monkeypatch):
    real = training_step.Plain
    monkeypatch.setattr(
        training_step, "Plain", lambda: real(lambda *pair: 1.01 * torch.nn.functional.cross_entropy(*pair))
    )
    assert training_step.compare("small", "cpu") > 1e-3


def test_the_plain_loop_crops_and_mirrors_as_the_trainer_does():
    """Every image that the plain loop sees is one that the trainer's augmentation can make of its samples."""
    data = training_step.samples(3)
    augment, possible = compose(random_crop(4), flip()), set()
    for top in range(9):
        for left in range(9):
            for mirrored in (0.0, 0.9):
                numbers = torch.tensor([[(top + 0.5) / 9, (left + 0.5) / 9, mirrored]]).expand(3, -1)
                possible |= {image.numpy().tobytes() for image in augment.apply(data.x, numbers)}
    batches = training_step.PlainBatches(data, 3, "cpu", changed=True)
    seen = set()
    for x, labels in islice(batches, 30):
        assert sorted(labels.tolist()) == sorted(data.labels.tolist())
        bytes_ = (x / batches.factor + batches.mean).round().to(torch.uint8)
        seen |= {image.contiguous().numpy().tobytes() for image in bytes_}
    assert seen <= possible
    assert len(seen) > 60  # of 90: they do differ


def test_the_plain_loop_allocates_its_batch_once_with_channels_last():
    batches = training_step.PlainBatches(training_step.samples(8), 4, "cpu", changed=True)
    first, second = (x for x, _ in islice(batches, 2))
    assert first.data_ptr() == second.data_ptr()
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_every_way_of_every_precision_is_timed_and_compared_with_the_plain_loop_of_its_own(capsys):
    ways = training_step.all_ways(["fp32", "bf16"], compiled=False)
    times = training_step.measure("small", "cpu", ways, 2)
    assert {way: len(turns) for way, turns in times.items()} == dict.fromkeys(ways, 2)
    found = training_step.report("small", "cpu", times, RATES)
    assert set(found) == {way for way in ways if "plain" not in way}
    assert capsys.readouterr().out.count("by processor time") == len(found)


def test_a_ratio_is_taken_turn_by_turn_and_by_its_own_clock():
    plain = [Seconds(4.0, 1.0), Seconds(4.0, 1.0), Seconds(8.0, 1.0)]
    ours = [Seconds(2.0, 2.0), Seconds(2.0, 2.0), Seconds(4.0, 2.0)]
    assert timing.ratio(plain, ours, "process").median == 2.0
    assert timing.ratio(plain, ours, "wall").median == 0.5


def test_each_precision_has_a_plain_loop_of_its_own(capsys):
    times = {
        "plain loop": [Seconds(2.0, 2.0)],
        "trainer": [Seconds(1.0, 1.0)],
        "plain loop, bfloat16": [Seconds(1.0, 1.0)],
        "trainer, least action, bfloat16": [Seconds(0.5, 0.5)],
    }
    found = training_step.report("small", "cpu", times, RATES)
    assert {way: one.median for way, one in found.items()} == {"trainer": 2.0, "trainer, least action, bfloat16": 2.0}


def test_the_middle_half_leaves_out_a_quarter_at_each_end():
    assert timing.spread([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == (4.5, 3.0, 6.0)


def test_a_way_that_this_machine_cannot_go_costs_no_other_one(capsys):
    def broken():
        raise RuntimeError("no bfloat16 here")
        yield

    ways = {"right": iter(range(100)), "broken": broken()}
    times = timing.interleave(ways, "cpu", repeats=2, steps=3, warm_up=1)
    assert {way: len(turns) for way, turns in times.items()} == {"right": 2}
    assert "broken: left out, no bfloat16 here" in capsys.readouterr().out


@pytest.mark.slow
def test_least_action_is_timed_in_all_forms_and_levels(monkeypatch, capsys):
    monkeypatch.setattr(lap_overhead, "BATCH", 2)
    monkeypatch.setattr(lap_overhead, "SAMPLES", 4)
    monkeypatch.setattr(lap_overhead, "FILTERS", 2)
    assert lap_overhead.measure("cpu", 1, bf16=False) > 0
    told = capsys.readouterr().out
    for word in (*lap_overhead.FORMS, *lap_overhead.LEVELS[1:], "MNIST's recipe"):
        assert word in told


def test_no_ratio_of_ways_that_differ_and_whole_numbers_only():
    timing.require_equal("ours", 1e-7, 1e-6)
    for distance in (1e-5, float("nan")):
        with pytest.raises(SystemExit, match=r"ours differs by .*: no speed to compare"):
            timing.require_equal("ours", distance, 1e-6)
    assert timing.positive("12") == 12
    assert timing.whole("0") == 0
    for text in ("0", "-1", "1.5", "", "two", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
            timing.positive(text)
    assert str(timing.spread([1.0])) == "1.000"
    assert str(timing.spread([1.0, 2.0, 3.0])) == "2.000 (middle half 1.000 to 3.000)"
