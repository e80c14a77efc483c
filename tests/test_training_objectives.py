import io
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regimes.models.build import build
from regimes.models.residual import Trace
from regimes.training.objectives import FORMS, LEVELS, LeastAction, Plain, divided, multiplied, risk_only
from regimes.transport.energy import mean_over_features, sum_over_features, transport_cost

LABELS = torch.tensor([0, 1, 2, 1])


def trace(*shapes, scale=1.0):
    """A trace with steps of given shapes; outputs and steps are leaves."""
    steps = tuple((scale * torch.randn(4, *shape, dtype=torch.float64)).requires_grad_() for shape in shapes)
    return Trace(torch.randn(4, 3, dtype=torch.float64, requires_grad=True), ((),), (steps,))


def steps_through(objective, risks, after=None):
    """λ after each training step, for given batch risks and, where asked for, risks measured after the step."""
    seen = []
    for number, value in enumerate(risks):
        objective.risk = lambda output, targets, value=value: output.sum() * 0 + value
        objective(trace((2,)), LABELS)
        if after is None:
            objective.after_step()
        else:
            objective.after_step(
                lambda number=number: torch.tensor(after[number]), lambda number=number: torch.tensor(after[number])
            )
        seen.append(objective.multiplier.item())
    return seen


def test_plain_is_the_risk():
    given = trace((2,))
    loss = Plain()(given, LABELS)
    assert_close(loss.value, cross_entropy(given.output, LABELS))
    assert_close(loss.risk, loss.value.detach())
    assert not loss.risk.requires_grad
    assert loss.transport is None
    assert_close(Plain()(given.output, LABELS).value, loss.value)
    assert Plain.traced is False
    assert Plain(lambda output, targets: output.square().sum())(given, LABELS).value == given.output.square().sum()


@pytest.mark.parametrize(
    ("form", "truth"),
    [
        (divided, lambda risk, cost: risk + cost / 4.0),
        (multiplied, lambda risk, cost: 4.0 * risk + cost),
        (risk_only, lambda risk, cost: 4.0 * risk),
    ],
)
@pytest.mark.parametrize("convention", [sum_over_features, mean_over_features])
def test_the_value_is_risk_and_transport_in_the_given_form(form, truth, convention):
    given = trace((2,), (2, 3))
    loss = LeastAction(multiplier=4.0, growth=0.0, form=form, convention=convention)(given, LABELS)
    squares = [step.square().flatten(1).sum(1).mean() for step in given.flat_steps]
    cost = sum(squares) if convention is sum_over_features else squares[0] / 2 + squares[1] / 6
    assert_close(loss.value, truth(cross_entropy(given.output, LABELS), cost))
    assert_close(loss.transport, cost.detach())
    assert not loss.transport.requires_grad


def test_the_mean_convention_is_the_sum_over_the_number_of_features():
    given = trace((2, 5), (2, 5))
    by_sum, by_mean = (
        LeastAction(convention=rule)(given, LABELS).transport for rule in (sum_over_features, mean_over_features)
    )
    assert_close(by_sum, 10 * by_mean)
    assert LeastAction().convention is mean_over_features  # the published code's


def test_multiplied_has_the_gradients_of_divided_times_the_multiplier():
    given = trace((2,), (3,))
    gradients = []
    for form in (divided, multiplied):
        value = LeastAction(multiplier=2.5, growth=0.0, form=form)(given, LABELS).value
        gradients.append(torch.autograd.grad(value, [given.output, *given.flat_steps]))
    assert_close([2.5 * gradient for gradient in gradients[0]], list(gradients[1]))


def test_risk_only_leaves_the_transport_out():
    given = trace((2,))
    value = LeastAction(multiplier=2.5, form=risk_only, growth=0.0)(given, LABELS).value
    assert torch.autograd.grad(value, given.flat_steps, allow_unused=True) == (None,)
    assert set(FORMS.values()) == {divided, multiplied, risk_only}


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("convention", [sum_over_features, mean_over_features])
def test_gradients_stay_finite_where_nothing_moves(p, convention):
    given = trace((2, 2), scale=0.0)
    LeastAction(p=p, convention=convention)(given, LABELS).value.backward()
    assert torch.equal(given.flat_steps[0].grad, torch.zeros(4, 2, 2, dtype=torch.float64))
    assert given.output.grad.isfinite().all()


def test_the_exponent_is_that_of_the_norm():
    given = trace((2, 3))
    loss = LeastAction(p=3.0, convention=sum_over_features)(given, LABELS)
    assert_close(loss.transport, given.flat_steps[0].detach().flatten(1).norm(dim=1).pow(3).mean())


def test_2020_the_multiplier_moves_before_the_loss_every_s_steps():
    assert steps_through(LeastAction(multiplier=1.0, growth=0.5), [2.0, 4.0, 6.0]) == [2.0, 4.0, 7.0]
    every_third = LeastAction(multiplier=1.0, growth=0.5, every=3)
    assert steps_through(every_third, [2.0, 4.0, 6.0, 8.0, 1.0, 1.0, 2.0]) == [2.0, 2.0, 2.0, 6.0, 6.0, 6.0, 7.0]
    given = trace((2,))
    objective = LeastAction(multiplier=1.0, growth=10.0)
    value = objective(given, LABELS).value
    risk = cross_entropy(given.output, LABELS)
    assert_close(value, risk + transport_cost(given.flat_steps, convention=mean_over_features) / (1 + 10 * risk))


def test_the_multiplier_is_no_path_for_gradients():
    given = trace((2,))
    objective = LeastAction(multiplier=1.0, growth=10.0)
    value = objective(given, LABELS).value
    fixed = LeastAction(multiplier=objective.multiplier.item(), growth=0.0)(given, LABELS).value
    assert_close(*(torch.autograd.grad(form, given.output)[0] for form in (value, fixed)))
    assert not objective.multiplier.requires_grad


@pytest.mark.parametrize("level", ["batch_after", "whole"])
def test_2019_the_multiplier_moves_after_the_step_by_the_risk_measured_then(level):
    objective = LeastAction(multiplier=1.0, growth=0.5, level=level, every=2)
    seen = steps_through(objective, [9.0, 9.0, 9.0, 9.0, 9.0], after=[100.0, 2.0, 100.0, 4.0, 100.0])
    assert seen == [1.0, 2.0, 2.0, 4.0, 4.0]  # after steps s, 2s, ...: s steps of SGD come first
    every_third = LeastAction(multiplier=1.0, growth=0.5, level=level, every=3)
    assert steps_through(every_third, [9.0] * 7, after=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]) == [
        1,
        1,
        3,
        3,
        3,
        19,
        19,
    ]
    given = trace((2,))
    fresh = LeastAction(multiplier=3.0, growth=10.0, level=level)
    loss = fresh(given, LABELS)
    assert_close(loss.value.detach(), loss.risk + loss.transport / 3.0)  # the loss still has the old multiplier


@pytest.mark.parametrize(
    ("level", "wanted"), [("batch", []), ("running", []), ("batch_after", ["batch"]), ("whole", ["whole"])]
)
def test_only_the_risk_that_counts_is_measured_and_only_when_due(level, wanted):
    measured = []

    def measure(name):
        measured.append(name)
        return torch.tensor(1.0)

    objective = LeastAction(level=level, every=2)
    for _ in range(2):
        objective(trace((2,)), LABELS)
        objective.after_step(lambda: measure("batch"), lambda: measure("whole"))
    assert measured == wanted


def test_the_running_mean_is_exponential_and_starts_at_the_first_risk():
    objective = LeastAction(multiplier=1.0, growth=1.0, level="running", memory=0.75)
    means = [4.0, 0.75 * 4 + 0.25 * 8, 0.75 * 5 + 0.25 * 1]
    assert steps_through(objective, [4.0, 8.0, 1.0]) == [1 + means[0], 1 + sum(means[:2]), 1 + sum(means)]
    skipping = LeastAction(multiplier=1.0, growth=1.0, level="running", memory=0.75, every=2)
    assert steps_through(skipping, [4.0, 8.0, 1.0]) == [5.0, 5.0, 5.0 + means[2]]  # steps between count in the mean


@pytest.mark.parametrize("level", LEVELS)
def test_the_multiplier_never_falls_and_is_kept_in_double_precision(level):
    objective = LeastAction(level=level, growth=1e-9)  # far below the resolution of float32 at 1
    seen = steps_through(objective, [0.5, 0.1, 3.0, 0.0, 2.0], after=[0.5, 0.1, 3.0, 0.0, 2.0])
    assert seen == sorted(seen)
    assert 1 < seen[0] < seen[-1]
    assert objective.multiplier.dtype == torch.float64


def test_without_growth_it_is_a_fixed_penalty():
    assert steps_through(LeastAction(multiplier=3.0, growth=0.0), [2.0, 4.0]) == [3.0, 3.0]


def test_reading_the_loss_moves_nothing():
    objective, given = LeastAction(level="running", growth=2.0), trace((2,))
    objective(given, LABELS)
    before = objective.state_dict()
    loss = objective.loss(given, LABELS)
    assert objective.state_dict() == before
    assert_close(loss.value, cross_entropy(given.output, LABELS) + loss.transport / objective.multiplier)


@pytest.mark.parametrize("level", ["batch", "running"])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(level):
    risks = [2.0, 4.0, 6.0, 1.0, 3.0]
    objective = LeastAction(level=level, growth=0.3, every=2)
    whole = steps_through(objective, risks)
    first = LeastAction(level=level, growth=0.3, every=2)
    steps_through(first, risks[:3])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = LeastAction(level=level, growth=0.3, every=2, multiplier=77.0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert steps_through(second, risks[3:]) == whole[3:]


def test_a_loaded_state_is_a_copy():
    first, second = LeastAction(), LeastAction()
    state = first.state_dict()
    second.load_state_dict(state)
    state["multiplier"].add_(5)
    assert second.multiplier == 1
    with pytest.raises(ValueError, match="lacks multiplier, running, count; was it saved by another objective"):
        second.load_state_dict(Plain().state_dict())


def test_the_precision_of_the_network_is_that_of_the_value():
    net = build("dense", (3,), 2, blocks=2)
    x, labels = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    assert LeastAction()(net(x, trace=True), labels).value.dtype == torch.float32
    assert LeastAction()(net.double()(x.double(), trace=True), labels).value.dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"multiplier": 0.0}, "multiplier λ0 as a finite number above 0; got 0.0"),
        ({"multiplier": -1.0}, "multiplier λ0 as a finite number above 0; got -1.0"),
        ({"multiplier": float("nan")}, "multiplier λ0 as a finite number above 0; got nan"),
        ({"multiplier": float("inf")}, "multiplier λ0 as a finite number above 0; got inf"),
        ({"growth": -0.1}, "growth τ as a finite number of at least 0; got -0.1"),
        ({"growth": float("nan")}, "growth τ as a finite number of at least 0; got nan"),
        ({"every": 0}, "every.* at least 1; got 0"),
        ({"p": 0.5}, "1 <= p < infinity; got p = 0.5"),
        ({"p": float("nan")}, "1 <= p < infinity; got p = nan"),
        ({"level": "epoch"}, "level out of batch, batch_after, running, whole; got 'epoch'"),
        ({"memory": 1.0}, r"memory in \[0, 1\); got 1.0"),
        ({"memory": float("nan")}, "memory as a finite number"),
        ({"form": "divide"}, "form as one of divided, multiplied, risk_only, or a function; got 'divide'"),
        ({"convention": "mean"}, "convention as one of mean_over_features, sum_over_features, or a function"),
        ({"risk": "mse"}, "risk as one of cross_entropy, or a function; got 'mse'"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        LeastAction(**given)


def test_what_it_cannot_use_is_named():
    output = torch.randn(4, 3)
    for bare in (output, Trace(output, (), ())):
        with pytest.raises(ValueError, match="needs the steps of residual blocks; call the model with trace=True"):
            LeastAction()(bare, LABELS)
    with pytest.raises(
        ValueError, match=r"a risk that is one number, a mean over samples, as a tensor; got shape \(4,\)"
    ):
        LeastAction(nn.CrossEntropyLoss(reduction="none"))(trace((2,)), LABELS)
    for level, name in (("batch_after", "batch_risk"), ("whole", "whole_risk")):
        objective = LeastAction(level=level)
        objective(trace((2,)), LABELS)
        with pytest.raises(ValueError, match=rf"level={level} needs after_step\({name}=...\)"):
            objective.after_step()


@pytest.mark.parametrize("level", ["batch_after", "whole"])
def test_a_risk_measured_as_a_python_number_moves_the_multiplier_by_all_its_digits(level):
    objective = LeastAction(multiplier=1.0, growth=1.0, every=1, level=level)
    objective(trace((2,)), LABELS)
    objective.after_step(lambda: 0.1, lambda: 0.1)
    assert objective.multiplier.item() == 1 + 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["divided", "multiplied"])
def test_in_half_precision_a_large_multiplier_leaves_gradients_finite_and_with_their_transport(form, dtype):
    """λ = 1e5 is infinite in float16."""
    gradients = {}
    for kind in (dtype, torch.float64):
        torch.manual_seed(0)
        output = torch.randn(6, 3).to(dtype).to(kind).requires_grad_()
        step = (1 + torch.rand(6, 2)).to(dtype).to(kind).requires_grad_()
        loss = LeastAction(multiplier=1e5, growth=0.0, form=form)(Trace(output, ((),), ((step,),)), torch.arange(6) % 3)
        loss.value.backward()
        gradients[kind] = [loss.penalty, loss.value.detach(), output.grad, step.grad]
    for found, truth in zip(gradients[dtype], gradients[torch.float64], strict=True):
        assert bool(found.isfinite().all())
        assert bool((found != 0).any())
        spacing = 6e-8 if dtype == torch.float16 else 0.0  # of the smallest numbers in float16
        assert_close(found.double(), truth, rtol=0.02, atol=spacing)  # two roundings to 8 bits


def test_a_state_holds_whether_the_running_mean_has_begun_and_what_was_left_out():
    def moved(risks, objective):
        for risk in risks:
            objective.step(torch.tensor(risk), torch.tensor(1.0))
            objective.after_step()
        return objective.multiplier, objective.running, objective.left_out

    first, whole = (LeastAction(level="running") for _ in range(2))
    expected = moved([math.nan, 2.0], whole)
    moved([math.nan], first)
    restored = LeastAction(level="running")
    restored.load_state_dict(first.state_dict())
    assert_close(moved([2.0], restored), expected)
    first.step(torch.tensor(math.inf), torch.tensor(1.0))
    first.skip()
    assert first.left_out == 1  # the step that was skipped is not counted
