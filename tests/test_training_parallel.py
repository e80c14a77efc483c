"""Several processes train as one on the joined batch: weights, λ, figures; the ends of a run."""

from functools import cache
from pathlib import Path

import pytest
import torch
from joined_training import CASES, COUNTED, trained
from launch import launch
from torch import nn
from torch.testing import assert_close

from regimes.training.batch_norm import JoinedBatchNorm, join_batch_norms

EXACT = {"rtol": 0, "atol": 0}


@cache
def alone(case: str):
    """What one process holds after the training."""
    return trained(CASES[case])


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def together(request, tmp_path_factory):
    """What each of several processes holds after every training."""
    folder = tmp_path_factory.mktemp("together")
    ended = launch(request.param, str(Path(__file__).parent / "joined_training.py"), str(folder))
    assert [process.code for process in ended] == [0] * request.param, ended
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_several_processes_train_as_one_on_the_joined_batch(together, case):
    # Rounding of 1e-16 in each sum grows over 20 steps; Adam divides that of a gradient which is exactly 0 by its
    # ε = 1e-8 instead of a norm.
    tolerance = 1e-6 if case == "adam" else 1e-9
    for found in together:
        assert_close(found[case], alone(case), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_all_processes_hold_the_same_bits(together, case):
    for found in together[1:]:
        assert_close(found[case], together[0][case], **EXACT)


@pytest.mark.slow
def test_steps_count_the_joined_batch(together):
    assert together[0]["risk alone"]["steps"][:6, -1].tolist() == [10, 10, 10, 10, 7, 10]
    assert [entry[2] for entry in together[0]["risk alone"]["measured"]] == [31, 5]


@pytest.mark.slow
@pytest.mark.parametrize("case", COUNTED)
def test_a_step_talks_once_each_way_through_a_norm_and_twice_besides(together, case):
    for found in together:
        (norms,) = found["calls"][case]["norms"]
        again = norms + 1 if "batch_after" in case or case == "images" else 0  # a second look, every second step
        usual = 2 * norms + 2
        assert norms >= 2
        first = usual + 1  # the order of the gradients is agreed on
        assert found["calls"][case]["steps"] == [first, usual + again, usual, usual + again]


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "case"), [("norms apart", "risk alone"), ("losses apart", "batch, divided")])
def test_the_comparison_sees_what_is_not_joined(together, broken, case):
    difference = (together[0][broken]["steps"] - alone(case)["steps"]).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm2d, (4, 3, 5, 2))])
def test_a_joined_batch_norm_of_one_process_is_that_of_torch(kind, shape, momentum):
    norm = kind(shape[1], momentum=momentum).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    model = nn.Sequential(kind(shape[1], momentum=momentum).double())
    model.load_state_dict({f"0.{name}": value for name, value in norm.state_dict().items()})
    names, weights = list(model.state_dict()), list(model.parameters())
    join_batch_norms(model, lambda values: values[None])
    assert isinstance(model[0], JoinedBatchNorm)
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    for _ in range(3):
        x = (5 + 3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
        y = x.detach().clone().requires_grad_()
        target = torch.randn(shape, dtype=torch.float64)
        assert_close(model(x), norm(y))
        (model(x) * target).sum().backward()
        (norm(y) * target).sum().backward()
        assert_close(x.grad, y.grad)
        assert_close([w.grad for w in model.parameters()], [w.grad for w in norm.parameters()])
    assert_close(list(model.buffers()), list(norm.buffers()))
    assert_close(model.eval()(x), norm.eval()(y))


def test_a_joined_batch_norm_takes_half_precision_as_that_of_torch_does():
    norm, model = nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3))
    join_batch_norms(model, lambda values: values[None])
    x = torch.randn(8, 3).bfloat16()
    assert_close(model(x), norm(x))
    assert_close(model[0].running_var, norm.running_var)


def test_a_joined_batch_norm_keeps_its_digits_far_from_zero():
    x = 1e4 + torch.randn(64, 3)
    model = nn.Sequential(nn.BatchNorm1d(3))
    join_batch_norms(model, lambda values: values[None])
    exact = (x.double() - x.double().mean(0)) / x.double().var(0, correction=0).sqrt()
    assert_close(model(x).double(), exact, rtol=0, atol=1e-2)  # float32 rounds 1e4 to 1e-3
