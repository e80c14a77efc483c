"""Nets of the plane and their course: against plain torch, back-propagation and the roads of regimes.control."""

import json

import pytest
import torch
from torch.testing import assert_close

from regimes.control.backtracking import ARMIJO, UPPER_BOUND, Descent
from regimes.control.gradients import discretise_then_optimise, optimise_then_discretise
from regimes.control.layers import Layers
from regimes.control.tableau import EULER, HEUN, KUTTA3, KUTTA4
from regimes.errors import UserError
from regimes.experiments.control.benning_networks import runs
from regimes.experiments.control.benning_networks.config import NET, ODENET, RESIDUAL, SIMPLEX, Config
from regimes.experiments.control.plane_course import course, looks, right
from regimes.experiments.control.plane_nets import Net, PlaneNets, pack, unpack

RUNS, LAYERS, N = 3, 4, 7
EVERY = torch.arange(RUNS)


def nets(tableau, keep=(True, True, True), learned=(True, True, True)):
    x, labels = torch.randn(RUNS, 2, N, dtype=torch.float64), (torch.rand(RUNS, N) > 0.5).double()
    parts = (torch.randn(RUNS, *shape, dtype=torch.float64) for shape in ((LAYERS, 2, 2), (LAYERS, 2), (LAYERS,), (2,)))
    theta = pack(Net(*parts, torch.randn(RUNS, dtype=torch.float64)))
    return PlaneNets(tableau, x, labels, torch.tensor(keep), torch.tensor(learned), 0.3), theta


def test_parameters_are_packed_and_unpacked():
    _, theta = nets(EULER)
    net = unpack(theta)
    assert theta.shape == (RUNS, 7 * LAYERS + 3)
    assert torch.equal(pack(net), theta)


@pytest.mark.parametrize("tableau", [EULER, HEUN, KUTTA3, KUTTA4], ids=lambda each: each.name)
def test_risks_are_those_of_plain_torch_and_gradients_those_of_autograd(tableau):
    made, theta = nets(tableau, keep=(True, False, True), learned=(True, True, False))
    theta = theta.requires_grad_()
    net, z = unpack(theta), made.x
    for layer in range(LAYERS):
        slopes = []
        for row in tableau.a:
            at = z + net.steps[:, layer, None, None] * sum(
                (weight * slope for weight, slope in zip(row, slopes, strict=False)), torch.zeros(())
            )
            slopes.append(torch.tanh(net.kernel[:, layer] @ at + net.shift[:, layer, :, None]))
        move = sum(weight * slope for weight, slope in zip(tableau.b, slopes, strict=True))
        z = torch.tensor([1.0, 0.0, 1.0])[:, None, None] * z + net.steps[:, layer, None, None] * move
    output = torch.sigmoid((net.weights[:, :, None] * z).sum(1) + net.bias[:, None])
    risks = 0.3 / 2 * (output - made.labels).square().sum(1)
    (expected,) = torch.autograd.grad(risks.sum(), theta)
    steps = unpack(expected).steps
    steps[2] = 0.0  # not learned
    with torch.no_grad():
        found, pull = made(theta, EVERY)
        assert_close(found, risks.detach(), rtol=1e-13, atol=1e-14)
        assert_close(pull(EVERY), expected, rtol=1e-12, atol=1e-14)
        assert_close(pull(torch.tensor([2, 0])), expected[[2, 0]], rtol=1e-12, atol=1e-14)
        some = torch.tensor([1, 2])
        part, pull = made(theta[some], some)
        assert_close(part, risks[some], rtol=1e-13, atol=1e-14)
        assert_close(pull(torch.tensor([1])), expected[[2]], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("tableau", [EULER, HEUN, KUTTA3, KUTTA4], ids=lambda each: each.name)
def test_gradients_are_those_of_both_roads_of_the_library(tableau):
    made, theta = nets(tableau)
    net, h = unpack(theta)._replace(steps=torch.full((RUNS, LAYERS), 0.1, dtype=torch.float64)), 0.1
    _, pull = made(pack(net), EVERY)
    found = unpack(pull(EVERY))
    params = [{"K": net.kernel[0, layer], "b": net.shift[0, layer]} for layer in range(LAYERS)]
    layers = Layers(lambda t, z, p: torch.tanh(z @ p["K"].T + p["b"]), params, tableau, horizon=h * LAYERS)

    def cost(end):
        return 0.15 * (torch.sigmoid(end @ net.weights[0] + net.bias[0]) - made.labels[0]).square().sum()

    for road in (discretise_then_optimise, optimise_then_discretise):
        by_layer = road(layers, made.x[0].T, cost).params
        for layer, each in enumerate(by_layer):
            assert_close(found.kernel[0, layer], each["K"], rtol=1e-12, atol=1e-15)
            assert_close(found.shift[0, layer], each["b"], rtol=1e-12, atol=1e-15)


def test_layers_with_a_step_of_zero_can_be_left_out():
    made, theta = nets(EULER)
    net = unpack(theta)
    net.steps[:, [1, 2]] = 0.0
    kept = [0, 3]
    fewer = Net(net.kernel[:, kept], net.shift[:, kept], net.steps[:, kept], net.weights, net.bias)
    assert torch.equal(made.forward(net, EVERY).outputs, made.forward(fewer, EVERY).outputs)


def test_looks_begin_at_the_start_and_end_at_the_end():
    assert looks(20_000, 30)[:4] == [0, 1, 2, 3]
    assert looks(20_000, 30)[-1] == 20_000
    assert len(looks(20_000, 30)) <= 32
    assert looks(1, 30) == [0, 1]


def test_a_net_is_right_where_its_output_is_on_the_side_of_the_label():
    assert right(torch.tensor([0.4, 0.5, 0.6, 0.2]), torch.tensor([0.0, 1.0, 0.0, 1.0])).tolist() == [
        True, True, False, False,
    ]  # fmt: skip


def points(seeds=2):
    return [{"dataset": "donut2d", "net": net, "seed": seed} for net in (NET, *RESIDUAL) for seed in range(seeds)]


SMALL = Config(samples=20, fresh=30, layers=3, iterations={"donut2d": 12})


def test_all_nets_of_a_seed_start_alike_but_for_their_steps():
    net = unpack(runs.start(SMALL, points()))
    for seed in range(2):
        same = list(range(seed, 8, 2))
        for part in (net.kernel, net.shift, net.weights, net.bias):
            assert torch.equal(part[same], part[same[:1]].expand_as(part[same]))
    assert not torch.equal(net.kernel[0], net.kernel[1])
    assert net.steps[:, 0].tolist() == [1.0, 1.0, *[1 / 3] * 6]
    assert bool((unpack(runs.start(Config(output=10.0), points())).weights == 10).all())


def test_rows_are_the_losses_and_accuracies_of_descent_by_autograd():
    """The ODENet of one seed, trained by the rule written out in plain torch."""
    point = {"dataset": "donut2d", "net": ODENET, "seed": 1}
    rows = runs.measure(SMALL, [point])[0]
    made, _ = runs.ensemble(SMALL, [point])
    theta, lipschitz, one = runs.start(SMALL, [point]), 0.1, torch.tensor([0])

    def risk(theta):
        net, z = unpack(theta), made.x
        for layer in range(3):
            z = z + net.steps[:, layer, None, None] * torch.tanh(
                net.kernel[:, layer] @ z + net.shift[:, layer, :, None]
            )
        output = torch.sigmoid((net.weights[:, :, None] * z).sum(1) + net.bias[:, None])
        return (output - made.labels).square().mean() / 2

    trials = 0
    for _ in range(12):
        theta = theta.detach().requires_grad_()
        value = risk(theta)
        (gradient,) = torch.autograd.grad(value, theta)
        while True:
            trials += 1
            moved = (theta - gradient / lipschitz).detach()
            d = moved - theta.detach()
            if risk(moved) <= value + (gradient * d).sum() + lipschitz / 2 * d.square().sum():
                lipschitz *= 0.99
                break
            lipschitz *= 1.5
        theta = moved
    assert rows[-1]["iteration"] == 12
    assert rows[-1]["trials"] == trials
    assert rows[-1]["loss"] == pytest.approx(float(risk(theta)), rel=1e-9)
    assert_close(torch.tensor(json.loads(rows[-1]["net_at_end"]), dtype=torch.float64), theta[0], rtol=1e-8, atol=1e-10)
    output = made.forward(unpack(theta), one).outputs
    assert rows[-1]["accuracy"] == pytest.approx(float(right(output, made.labels).double().mean()))
    assert [row["last"] for row in rows] == [*[False] * (len(rows) - 1), True]


def test_steps_stay_where_they_are_not_learned_and_on_the_simplex_where_they_are_projected():
    for point, rows in zip(points(), runs.measure(SMALL, points()), strict=True):
        steps = torch.tensor([rows[-1][f"step_{layer}"] for layer in range(3)], dtype=torch.float64)
        if point["net"] == SIMPLEX:
            assert bool((steps >= 0).all())
            assert float(steps.sum()) == pytest.approx(1.0)
        elif point["net"] != ODENET:
            assert torch.equal(steps, torch.full((3,), 1.0 if point["net"] == NET else 1 / 3, dtype=torch.float64))
        assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_data_set_without_a_number_of_iterations_is_refused():
    with pytest.raises(UserError, match=r"iterations needs a number for spiral2d; got those of donut2d"):
        runs.measure(SMALL, [{"dataset": "spiral2d", "net": NET, "seed": 0}])


@pytest.mark.parametrize("rule", [ARMIJO, UPPER_BOUND])
def test_a_course_that_was_stopped_goes_on_to_the_same_end(rule, tmp_path, monkeypatch):
    made, theta = nets(KUTTA3, learned=(False, False, False))
    options = {"fresh": (made.x, made.labels), "count": 5, "whose": {"what": "a test"}}
    seen, ends = course(made, theta, rule, 30, **options)
    trial, calls = Descent.trial, []

    def stopping(self, running):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return trial(self, running)

    monkeypatch.setattr(Descent, "trial", stopping)
    monkeypatch.setattr("regimes.training.unfinished.SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        course(made, theta, rule, 30, folder=tmp_path, **options)
    again, same = course(made, theta, rule, 30, folder=tmp_path, **options)
    assert torch.equal(ends, same)
    assert again == seen
    assert len(calls) < 20 + 60
