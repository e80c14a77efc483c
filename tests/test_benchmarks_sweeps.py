import sys

import pytest
import torch

from benchmarks import sweeps
from benchmarks.sweeps import RATES, by_sgd, compare, loss, problem, swept

pytestmark = pytest.mark.slow
SIZE = {"samples": 60, "depth": 4, "budget": 40}


@pytest.mark.parametrize("dataset", ["donut2d", "spiral2d"])
def test_at_an_equal_budget_both_learn_and_sweeps_need_no_rate(dataset):
    found = compare(dataset, [0, 1], batch=20, **SIZE)
    for place, seed in enumerate([0, 1]):
        layers, x, labels = problem(dataset, seed, 60, 4)
        start = float(loss(layers.end(x), labels))
        for ascents in sweeps.ASCENTS:
            assert found[f"sweeps, {ascents} ascents"][place] < start
        assert min(found[f"SGD, rate {rate:g}"][place] for rate in RATES) < start


def test_a_budget_of_one_pass_is_the_start_for_sweeps_and_one_epoch_for_sgd():
    layers, x, labels = problem("donut2d", 3, 60, 4)
    start = loss(layers.end(x), labels)
    assert swept("donut2d", 3, 60, 4, 1, 1) == pytest.approx(float(start))
    leaves = [{name: p.clone().requires_grad_() for name, p in one.items()} for one in layers.params]
    value = loss(layers._replace(params=leaves).end(x), labels)
    slopes = iter(torch.autograd.grad(value, [p for one in leaves for p in one.values()]))
    moved = [{name: p.detach() - 0.1 * next(slopes) for name, p in one.items()} for one in leaves]
    expected = float(loss(layers._replace(params=moved).end(x), labels))
    assert by_sgd("donut2d", 3, 60, 4, 1, 0.1, 60) == pytest.approx(expected)


def test_the_short_run_prints_a_line_a_way(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweeps", "--short"])
    sweeps.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (1 + len(sweeps.ASCENTS) + len(RATES))
    assert "nan" not in "".join(lines)
