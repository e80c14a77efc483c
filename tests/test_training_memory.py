"""Evaluation batches fit into memory: smaller for nets with large states, at the same numbers."""

import pytest
import torch
from torch.testing import assert_close

from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.models.costs import EVALUATION_BATCH, evaluation_batch
from regimes.training.metrics import evaluate


def test_a_small_net_measures_as_many_samples_as_ever():
    model = build("resnet9", (3, 32, 32), 10, filters=8)
    assert evaluation_batch(model, torch.randn(1, 3, 32, 32)) == EVALUATION_BATCH


def test_resnext50_measures_fewer_images_at_a_time():
    """Its states and steps take 15.6 MiB an image: 128 of them would be two GiB."""
    with torch.device("meta"):
        model = build("resnext50", (3, 32, 32), 100)
        size = evaluation_batch(model, torch.empty(1, 3, 32, 32))
    assert 8 <= size <= 32


def test_the_count_is_that_of_states_and_largest_layers():
    model = build("dense", (4,), 3, blocks=2, width=10, hidden=50).double()
    states = 8 * (10 * (3 + 2) + 3)  # three states, two steps, the output
    layers = 8 * 3 * 50
    sample = torch.randn(1, 4, dtype=torch.float64)
    for size in (1, 2, 7):
        assert evaluation_batch(model, sample, budget=size * (states + layers)) == size
    assert evaluation_batch(model, sample, budget=1) == 1


@pytest.mark.parametrize("training", [True, False])
def test_the_probe_leaves_the_model_as_it_was(training):
    model = build("dense", (4,), 3, blocks=2, width=10, batch_norm=True).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluation_batch(model, torch.randn(1, 4))
    assert model.training == training
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in model.modules())


def test_numbers_do_not_depend_on_the_batch():
    model = build("dense", (4,), 3, blocks=2, width=10).double()
    data = Labelled(torch.randn(50, 4, dtype=torch.float64), torch.randint(0, 3, (50,)))
    one, other = (evaluate(model, Batches(data, size, shuffle=False)) for size in (1, 50))
    assert_close(one.risk, other.risk)
    assert one.accuracy == pytest.approx(other.accuracy)
    assert_close(one.blocks, other.blocks)
