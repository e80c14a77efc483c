"""The benchmark of the training step compares like with like."""

import multiprocessing

import pytest
import torch

from benchmarks import training_step
from regimes.data.augment import compose, flip, random_crop


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(training_step.NETS, "small", ("resnet9", {"filters": 4, "blocks": 2}))


def test_both_sides_take_the_same_step():
    assert training_step.compare("small", "cpu") < 1e-10
    assert torch.get_default_dtype() == torch.float32


def test_another_step_would_be_noticed(monkeypatch):
    real = training_step.Plain
    monkeypatch.setattr(
        training_step, "Plain", lambda: real(lambda *pair: 1.01 * torch.nn.functional.cross_entropy(*pair))
    )
    assert training_step.compare("small", "cpu") > 1e-3


def test_samples_one_by_one_are_changed_as_whole_batches_are():
    """Every crop and flip of the loader's side is one that the trainer's side can make."""
    data = training_step.samples(1)
    possible = set()
    for top in range(9):
        for left in range(9):
            for mirrored in (0.0, 0.9):
                numbers = torch.tensor([[(top + 0.5) / 9, (left + 0.5) / 9, mirrored]])
                possible.add(compose(random_crop(4), flip()).apply(data.x, numbers).numpy().tobytes())
    images = training_step.Images(data)
    for _ in range(50):
        x = images[0][0] * images.deviation + images.mean
        assert (x * 255).round().to(torch.uint8).numpy().tobytes() in possible


@pytest.mark.parametrize("way", ["plain loop, 0 workers", "trainer", "trainer, least action", "trainer, bfloat16"])
def test_every_way_answers_with_the_seconds_of_its_steps(way):
    here, there = multiprocessing.Pipe()
    for message in (2, 1, None):
        here.send(message)
    training_step.serve(there, "small", "cpu", 4, way)
    assert all(0 < here.recv() < 10 for _ in range(2))
    torch.set_flush_denormal(False)


def test_the_ratio_is_to_the_better_plain_loop_turn_by_turn(capsys):
    times = {
        "plain loop, 0 workers": [4.0, 4.0, 4.0],
        "plain loop, 2 workers": [3.0, 3.0, 6.0],
        "trainer": [2.0, 2.0, 1.0],
    }
    ratios = training_step.report("small", "cpu", 8, times)
    assert ratios["trainer"] == 1.5
    assert "trainer: 4.0 images/s" in capsys.readouterr().out
