"""The nets that kernel_alignment and after_kernel share, and their regressions at one loss."""

import pytest
import torch
from torch.testing import assert_close

import regimes
from regimes.experiments.lazy.after_kernel.runs import stopped
from regimes.experiments.lazy.scaled_images import STEP, runs, task, trained
from regimes.experiments.lazy.scaled_settings import SHUFFLED, TRUE, Config, points
from regimes.tangent.regression import GradientFlow


def toy(seed=0, width=6):
    return task("digits", 12, 10, width, seed)


def test_the_task_is_the_parity_of_digits():
    one = toy()
    assert set(one.y.flatten().tolist()) <= {-1.0, 1.0}
    assert (one.x.shape, one.x_held.shape) == ((12, 64), (10, 64))
    parts = regimes.data.classification.classification("digits", train_size=12, test_size=10, seed=0)
    assert_close(one.y[:, 0], torch.where(parts.train.labels % 2 == 0, 1.0, -1.0).double())


def test_shuffled_labels_are_the_same_labels_in_another_order():
    one = toy()
    other = one.shuffled(0)
    assert not torch.equal(one.y, other.y)
    assert_close(one.y.sort(0).values, other.y.sort(0).values)
    assert torch.equal(one.y_held, other.y_held)


def test_the_descent_is_that_of_plain_torch_on_the_centred_module():
    """With steps at their largest: gradient descent on regimes.Centred, R(αh)/α², h over √m."""
    one, alpha, count = toy(), 3.0, 5
    (end,) = trained([one], [alpha], ratio=1e-9, steps=count)
    n = len(one.x)
    rate = STEP / float(torch.linalg.eigvalsh(one.kernel()[:n, :n])[-1]) * n
    net = toy().net
    model = regimes.Centred(net, alpha / 6**0.5)
    for _ in range(count):
        net.zero_grad()
        ((model(one.x) - one.y).square().mean() / 2 / alpha**2).backward()
        for weight in net.parameters():
            weight.data -= rate * weight.grad
    for name, weight in net.state_dict().items():
        assert_close(end.weights[name], weight)
    assert_close(one.outputs(end.weights, alpha), model(one.points).detach())
    assert end.steps == count


@pytest.mark.slow
def test_all_runs_of_an_ensemble_end_at_the_loss_and_as_they_would_alone():
    tasks, alphas = [toy(), toy().shuffled(0), toy(1)], [1.0, 1.0, 30.0]
    together = trained(tasks, alphas, ratio=0.3, steps=3000)
    assert all(0.2 < end.ratio <= 0.3 for end in together)
    assert len({end.steps for end in together}) > 1
    (alone,) = trained(tasks[2:], alphas[2:], ratio=0.3, steps=3000)
    assert alone.steps == together[2].steps
    for name, weight in alone.weights.items():
        assert_close(together[2].weights[name], weight)


def test_a_run_that_needs_more_steps_says_so_by_its_ratio():
    (end,) = trained([toy()], [100.0], ratio=1e-6, steps=3)
    assert end.ratio > 1e-6
    assert end.steps == 3


@pytest.mark.slow
def test_a_step_that_raises_the_loss_is_taken_back(monkeypatch):
    from regimes.experiments.lazy import scaled_images

    monkeypatch.setattr(scaled_images, "STEP", 50.0)  # far beyond what is stable
    losses = [trained([toy()], [30.0], ratio=1e-9, steps=count)[0].ratio for count in (5, 10, 20, 40)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] < 1.001


@pytest.mark.slow
def test_shuffled_labels_are_trained_at_the_smallest_scale_and_judged_by_the_true_ones():
    config = Config(alpha=(3.0, 1.0), seeds=2, samples=12, held_out=10, width=6)
    planned = points(config)
    assert [p["alpha"] for p in planned if p["labels"] == SHUFFLED] == [1.0, 1.0]
    assert sum(p["labels"] == TRUE for p in planned) == 4
    found = runs(config.model_copy(update={"steps": 2}), planned)
    assert all(torch.equal(one.task.y, toy(p["seed"]).y) for one, p in zip(found, planned, strict=True))
    starts = [one.start for one, p in zip(found, planned, strict=True) if p["seed"] == 0]
    assert all(torch.equal(starts[0], other) for other in starts)


@pytest.mark.slow
def test_the_kernel_is_that_of_the_net_over_the_width():
    one = toy()
    assert_close(one.kernel(), regimes.ntk(one.net, one.points, outputs="trace") / 6)
    (end,) = trained([one], [1.0], ratio=0.3, steps=3000)
    assert not torch.allclose(one.kernel(end.weights), one.kernel())
    assert_close(one.kernel(), toy().kernel())  # the start is not touched


def test_a_regression_is_stopped_at_the_training_loss_asked_for():
    x = torch.randn(12, 30, dtype=torch.float64)
    kernel, y = x @ x.T, torch.randn(8, 1, dtype=torch.float64)
    found = stopped(kernel, y, 0.1)
    flow = GradientFlow(kernel[:8, :8], y)
    time = flow.time_to(0.1)
    assert_close(flow.risk(time), torch.tensor(0.1, dtype=torch.float64))
    assert_close(found, flow.test(time, kernel[8:, :8]))


@pytest.mark.slow
def test_a_lazy_net_is_the_regression_with_its_kernel_at_the_start():
    one = toy(width=30)
    (end,) = trained([one], [1000.0], ratio=0.2, steps=5000)
    risk = end.ratio / 2
    net = one.outputs(end.weights, 1000.0)[12:]
    fit = stopped(one.kernel(), one.y, risk)
    assert float((net - fit).norm() / fit.norm()) < 0.02  # steps of half the largest stable one
