"""Risk, accuracy and block energies over samples: the means of a slow exact version, whatever the batches."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.training.metrics import evaluate
from regimes.transport.energy import mean_over_features, sum_over_features


@pytest.fixture
def model():
    made = build("dense", (3,), 4, blocks=3, width=5, batch_norm=True)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = torch.randn(5)
            module.running_var = torch.rand(5) + 0.5
    return made


def samples(count: int = 23) -> Labelled:
    return Labelled(torch.randn(count, 3), torch.randint(0, 4, (count,)))


@pytest.mark.parametrize("size", [1, 7, 23, 100])
@pytest.mark.parametrize(
    ("p", "convention"), [(2.0, sum_over_features), (2.0, mean_over_features), (1.5, sum_over_features)]
)
def test_means_are_over_samples_whatever_the_batches(model, size, p, convention):
    data = samples()
    found = evaluate(model, Batches(data, size, shuffle=False), p=p, convention=convention)
    model.eval()
    with torch.no_grad():
        trace = model(data.x, trace=True)
    assert_close(found.risk, float(cross_entropy(trace.output, data.labels)), rtol=1e-5, atol=1e-6)
    assert_close(found.accuracy, float((trace.output.argmax(1) == data.labels).float().mean()), rtol=1e-6, atol=1e-6)
    features = 1 if convention is sum_over_features else 5
    exact = torch.stack([step.double().norm(dim=1).pow(p).mean() / features for step in trace.flat_steps])
    assert_close(found.blocks, exact, rtol=1e-5, atol=1e-6)
    assert_close(found.transport, float(exact.sum()), rtol=1e-5, atol=1e-6)
    assert found.samples == 23


def test_a_float64_network_is_measured_in_float64(model):
    data = samples()._replace(x=torch.randn(23, 3, dtype=torch.float64))
    found = evaluate(model.double(), Batches(data, 7, shuffle=False))
    with torch.no_grad():
        trace = model.eval()(data.x, trace=True)
    exact = torch.stack([step.norm(dim=1).square().mean() for step in trace.flat_steps])
    assert_close(found.blocks, exact, rtol=1e-13, atol=0)


def test_modes_are_restored_and_nothing_is_learned(model):
    model.train()
    model.head.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    evaluate(model, Batches(samples(), 5, shuffle=False))
    assert [module.training for module in model.modules()] == modes
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_are_restored_after_an_error(model):
    model.train()

    def broken(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, Batches(samples(), 5, shuffle=False), broken)
    assert all(module.training for module in model.modules())


def test_batch_norm_uses_its_running_statistics(model):
    data = samples()
    whole = evaluate(model, Batches(data, 23, shuffle=False)).risk
    half = evaluate(model, Batches(data, 11, shuffle=False)).risk
    assert_close(whole, half, rtol=1e-5, atol=1e-6)
    model.train()
    with torch.no_grad():
        assert abs(float(cross_entropy(model(data.x), data.labels)) - whole) > 1e-3


def test_a_net_that_knows_all_answers_is_right_everywhere():
    net = build("dense", (4,), 4, blocks=1)
    with torch.no_grad():
        for parameter in net.segments.parameters():
            parameter.zero_()
        net.head.weight.copy_(torch.eye(4))
        net.head.bias.zero_()
    labels = torch.tensor([0, 1, 2, 3, 0])
    right = Labelled(torch.eye(4)[labels] * 9, labels)
    wrong = Labelled(torch.eye(4)[(labels + 1) % 4] * 9, labels)
    assert evaluate(net, Batches(right, 2, shuffle=False)).accuracy == 1
    assert evaluate(net, Batches(wrong, 2, shuffle=False)).accuracy == 0
    assert evaluate(net, Batches(right, 2, shuffle=False)).transport == 0
