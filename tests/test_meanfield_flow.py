import math

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import IDENTITY, RELU, SOFTPLUS, TANH
from regimes.control.adaptive import measured_error
from regimes.meanfield.flow import descend, gradient_flow
from regimes.meanfield.kernel import tangent_kernel
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.population import PopulationRisk, erf_gaussian, relu_gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.models.two_layer import TwoLayer

F64 = torch.float64
UNITS = pytest.mark.parametrize("unit", [RELU, TANH], ids=lambda unit: unit.name)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def net(runs, m=8, d=3, k=1):
    return gaussian(m, d, k, generators=[stream(run) for run in range(runs)])


def data(groups=1, n=12, d=3, k=1):
    source = stream(99)
    return torch.randn(groups, n, d, generator=source, dtype=F64), torch.randn(
        groups, n, k, generator=source, dtype=F64
    )


def last(iterator):
    *_, final = iterator
    return final


def assert_same(one, other, **tolerances):
    for part, expected in zip(one, other, strict=True):
        assert_close(part, expected, **tolerances)


@UNITS
def test_descent_is_gradient_descent_of_the_torch_module(unit):
    x, y = data(k=2)
    module = TwoLayer(3, 8, 2, activation=unit, generator=stream(5))
    start = Particles(module.output_weights.detach()[None].clone(), module.input_weights.detach()[None].clone())
    eta = 0.05
    optimiser = torch.optim.SGD(module.parameters(), lr=8 * eta)  # m η on the plain gradient
    for _ in range(200):
        optimiser.zero_grad()
        ((module(x[0]) - y[0]).square().sum(1).mean() / 2).backward()
        optimiser.step()
    _, end = last(descend(TwoLayerRisk(x, y, unit), start, step=8 * eta, iterations=200, record=[200]))
    assert_close(end.output[0], module.output_weights.detach(), rtol=1e-11, atol=1e-12)  # 200 steps of rounding
    assert_close(end.input[0], module.input_weights.detach(), rtol=1e-11, atol=1e-12)  # likewise


@pytest.mark.slow
def test_small_steps_of_descent_approach_the_flow_at_first_order():
    start, risk = net(1), TwoLayerRisk(*data(), TANH)
    exact = last(gradient_flow(risk, start, [1.0], rtol=1e-10, atol=1e-12)).particles
    errors = []
    for steps in (250, 500, 1000):
        _, end = last(descend(risk, start, step=8 / steps, iterations=steps, record=[steps]))
        errors.append((end.input - exact.input).norm().item())
    assert errors[2] < 1e-2
    assert_close(math.log2(errors[0] / errors[1]), 1.0, rtol=0, atol=0.02)  # terms of second order in the step
    assert_close(math.log2(errors[1] / errors[2]), 1.0, rtol=0, atol=0.01)  # likewise


@pytest.mark.slow
def test_a_run_of_the_flow_is_the_same_alone_as_in_an_ensemble():
    x, y = data(groups=2)
    start, alpha = net(6), torch.logspace(-0.5, 2, 6, dtype=F64)
    together = list(gradient_flow(TwoLayerRisk(x, y, SOFTPLUS, alpha=alpha), start, [0.5, 4.0]))
    for run in range(6):
        group = slice(run // 3, run // 3 + 1)
        risk = TwoLayerRisk(x[group], y[group], SOFTPLUS, alpha=alpha[run : run + 1])
        alone = list(gradient_flow(risk, start.select([run]), [0.5, 4.0]))
        for whole, one in zip(together, alone, strict=True):
            assert_same(whole.particles.select([run]), one.particles, rtol=1e-12, atol=1e-12)  # order of summation
            assert whole.steps[run] == one.steps[0]


@UNITS
def test_a_run_of_descent_is_the_same_alone_as_in_an_ensemble(unit):
    x, y = data(groups=2)
    step = torch.linspace(0.01, 0.5, 6, dtype=F64)
    _, together = last(descend(TwoLayerRisk(x, y, unit), net(6), step=step, iterations=50, record=[50]))
    for run in range(6):
        group = slice(run // 3, run // 3 + 1)
        risk = TwoLayerRisk(x[group], y[group], unit)
        _, alone = last(descend(risk, net(6).select([run]), step=float(step[run]), iterations=50, record=[50]))
        assert_same(together.select([run]), alone, rtol=1e-12, atol=1e-12)  # order of summation


@pytest.mark.slow
@pytest.mark.parametrize("unit", [RELU, IDENTITY], ids=lambda unit: unit.name)
def test_the_flow_of_a_homogeneous_net_keeps_the_balance_of_each_neuron(unit):
    start = net(3, k=2)
    risk = TwoLayerRisk(*data(k=2), unit)

    def balance(particles):
        return particles.output.square().sum(2) - particles.input.square().sum(2)

    moments = list(gradient_flow(risk, start, [1.0, 3.0], rtol=1e-6, smallest=1e-2))
    for moment in moments:
        assert_close(balance(moment.particles), balance(start), rtol=0, atol=1e-3)  # sliding: a tenth of `smallest`
    assert (moments[-1].particles.output - start.output).abs().max() > 0.1


def test_the_flow_of_tanh_does_not_keep_that_balance():
    start = net(1)
    end = last(gradient_flow(TwoLayerRisk(*data(), TANH), start, [5.0])).particles
    before, after = (p.output.square().sum(2) - p.input.square().sum(2) for p in (start, end))
    assert (after - before).abs().max() > 1e-2


@UNITS
def test_the_risk_decreases_along_the_flow(unit):
    risk = TwoLayerRisk(*data(groups=2), unit, alpha=torch.tensor([1.0, 3.0] * 2, dtype=F64))
    moments = gradient_flow(risk, net(4), torch.linspace(0, 6, 30), rtol=1e-4, smallest=0.01)
    risks = torch.stack([risk.risk(moment.particles) for moment in moments])
    assert (risks.diff(dim=0) < 0).all()


def test_the_risk_falls_at_the_rate_of_the_squared_velocity():
    # dR/dt = ∇R·w' = −α² (1/m) ‖w'‖² for F_α = R/α² and w' = −m ∇F_α.
    risk, start, t = TwoLayerRisk(*data(), TANH, alpha=3.0), net(1), 1e-4
    *_, after = gradient_flow(risk, start, [t], rtol=1e-12, atol=1e-14)
    speed = sum(part.square().sum() for part in risk.velocity(start))
    slope = (risk.risk(after.particles) - risk.risk(start)) / t
    assert_close(slope[0], -9 * speed / 8, rtol=1e-3, atol=0)  # one-sided difference over t = 1e-4


@pytest.mark.slow
def test_a_large_scale_follows_its_tangent_model():
    x, y = data()
    start, alpha, t = double(net(1)), 1e5, 3.0
    risk = TwoLayerRisk(x, y, SOFTPLUS, alpha=alpha)
    kernel = tangent_kernel(start, x, x, SOFTPLUS)[0, :, :, 0, 0]
    expected = y[0] - torch.linalg.matrix_exp(-t * kernel / 12) @ y[0]
    end = last(gradient_flow(risk, start, [t], rtol=1e-10, atol=1e-12)).particles
    assert_close(risk.outputs(end)[0], expected, rtol=0, atol=1e-4)  # O(1/α) of Theorem 2.2


@pytest.mark.slow
def test_the_outputs_are_as_accurate_for_a_large_scale_as_for_a_small_one():
    scales = torch.tensor([1.0, 100.0, 10000.0], dtype=F64)
    risk, start = TwoLayerRisk(*data(), SOFTPLUS, alpha=scales), double(net(1)).select([0, 0, 0])
    outputs = [
        risk.outputs(last(gradient_flow(risk, start, [3.0], rtol=rtol, atol=1e-3 * rtol)).particles)
        for rtol in (1e-5, 1e-8)
    ]
    assert ((outputs[0] - outputs[1]).abs().amax((1, 2)) < 2e-4).all()  # twenty tolerances of a hundred steps or less


@pytest.mark.slow
def test_a_run_stops_when_its_risk_is_below_the_level():
    risk, start = TwoLayerRisk(*data(), TANH), net(3)
    middle, plain = gradient_flow(risk, start, [2.0, 6.0])
    levels = risk.risk(middle.particles) * torch.tensor([1.0, 1.1, 0.0], dtype=F64)
    end = last(gradient_flow(risk, start, [0.5, 6.0], risk_below=levels))
    assert end.stopped.tolist() == [True, True, False]
    assert (risk.risk(end.particles)[:2] <= levels[:2]).all()
    assert_close(end.time[0].item(), 2.0, rtol=0.2, atol=0)  # at the next step
    assert end.time[1] < end.time[0] < end.time[2] == 6
    assert_same(end.particles.select([2]), plain.particles.select([2]), rtol=1e-6, atol=1e-6)  # other steps, same flow
    by_event = last(gradient_flow(risk, start, [0.5, 6.0], until=lambda p: risk.risk(p) <= levels))
    assert_same(by_event.particles, end.particles, rtol=1e-12, atol=1e-12)  # likewise
    assert torch.equal(by_event.steps, end.steps)


@pytest.mark.slow
def test_the_measured_error_of_the_flow_covers_the_error_and_falls_with_the_tolerance():
    risk, start = TwoLayerRisk(*data(), TANH, alpha=2.0), net(2)
    exact = risk.outputs(last(gradient_flow(risk, start, [3.0], rtol=1e-9, atol=1e-12)).particles)

    def solve(rtol, atol):
        return gradient_flow(risk, start, [3.0], rtol=rtol, atol=atol)

    for rtol in (1e-4, 1e-6):
        ((moment, error),) = measured_error(solve, lambda m: risk.outputs(m.particles), rtol=rtol, atol=1e-3 * rtol)
        true = (risk.outputs(moment.particles) - exact).abs().amax((1, 2))
        assert (error >= true).all()
        assert (error <= 100 * true).all()  # about 10 by theory; the two errors need not point the same way
        assert (error < 100 * rtol).all()


@pytest.mark.slow
def test_the_flow_runs_on_a_population_risk():
    teacher = gaussian(2, 3, generators=[stream(7)])
    risk = PopulationRisk(teacher, erf_gaussian, alpha=torch.tensor([1.0, 4.0], dtype=F64))
    moments = list(gradient_flow(risk, net(2), [0.0, 1.0, 10.0], risk_below=0.02))
    risks = torch.stack([risk.risk(moment.particles) for moment in moments])
    assert (risks.diff(dim=0) < 0).all()


def test_iterations_are_recorded_as_copies_and_the_start_is_not_touched():
    start = net(1)
    kept = start.clone()
    records = list(descend(TwoLayerRisk(*data(), TANH), start, step=0.1, iterations=4, record={0, 2, 4}))
    assert [iteration for iteration, _ in records] == [0, 2, 4]
    assert_same(records[0][1], kept)
    assert_same(start, kept)
    assert (records[1][1].input != records[2][1].input).any()


def test_layers_may_have_their_own_steps():
    start, risk = net(2), TwoLayerRisk(*data(), TANH)
    steps = (0.0, torch.tensor([0.1, 0.2], dtype=F64))
    ((_, end),) = descend(risk, start, step=steps, iterations=1, record=[1])
    gradient = risk.gradient(start)
    assert torch.equal(end.output, start.output)
    assert_close(end.input, start.input - steps[1][:, None, None] * gradient.input)


def test_descent_takes_any_gradient():
    def pull(particles):
        return particles.clone()

    class Shrink:
        def gradient(self, particles, out=None):
            return particles.clone()

    for risk in (pull, Shrink()):
        ((_, end),) = descend(risk, net(2), step=0.5, iterations=3, record=[3])
        assert_same(end, Particles(*(part / 8 for part in net(2))))


def test_fresh_batches_replace_the_data_at_each_iteration():
    x, y = data(groups=1, n=20)
    start = net(3)

    def batches(iteration):
        rows = slice(5 * (iteration - 1), 5 * iteration)
        return x[:, rows], y[:, rows]

    risk = TwoLayerRisk(x, y, TANH, alpha=torch.tensor([1.0, 2.0, 3.0], dtype=F64))
    _, end = last(descend(risk, start, step=0.3, iterations=4, record=[4], batches=batches))
    expected = start
    for iteration in range(1, 5):
        gradient = risk.replace(*batches(iteration)).gradient(expected)
        expected = Particles(*(w - 0.3 * g for w, g in zip(expected, gradient, strict=True)))
    assert_same(end, expected)


def test_float32_descent_stays_float32():
    x, y = (part.float() for part in data())
    start = net(2).to(torch.float32)
    step = torch.tensor([0.1, 0.2], dtype=F64)
    _, end = last(descend(TwoLayerRisk(x, y, RELU), start, step=step, iterations=5, record=[5]))
    assert end.input.dtype == torch.float32


def test_bad_requests_are_refused():
    risk, start = TwoLayerRisk(*data(), TANH), net(1)
    with pytest.raises(ValueError, match=r"between 0 and iterations"):
        list(descend(risk, start, step=0.1, iterations=3, record=[4]))
    with pytest.raises(ValueError, match="iterations as a whole number, at least 0"):
        list(descend(risk, start, step=0.1, iterations=-1, record=[]))
    with pytest.raises(ValueError, match="TwoLayerRisk to put batches into; got function"):
        list(descend(lambda p: p, start, step=0.1, iterations=1, record=[1], batches=lambda i: data()))
    with pytest.raises(ValueError, match="at most one stopping rule"):
        list(gradient_flow(risk, start, [1.0], until=lambda p: p.output[:, 0, 0] > 9, risk_below=1.0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("unit", [RELU, TANH, SOFTPLUS], ids=lambda unit: unit.name)
def test_a_gpu_gives_the_same_flow_and_the_same_descent(unit):
    x, y = data(groups=2, k=2)
    alpha, start = torch.tensor([1.0, 3.0, 9.0] * 2, dtype=F64), net(6, k=2)
    found = []
    for device in ("cpu", "cuda"):
        risk = TwoLayerRisk(x.to(device), y.to(device), unit, alpha=alpha.to(device))
        flow = last(gradient_flow(risk, start.to(device), [0.5, 2.0], rtol=1e-5, risk_below=0.1)).particles
        _, end = last(descend(risk, start.to(device), step=0.1, iterations=20, record=[20]))
        found.append([part.cpu() for part in (*flow, *end)])
    assert_same(found[1], found[0], rtol=1e-8, atol=1e-8)  # order of summation, over some hundred steps


def test_weights_of_a_module_flow_as_numbers_and_keep_no_graph():
    x, y = data()
    plain = net(2)
    weights = Particles(*(part.clone().requires_grad_() for part in plain))
    teacher = Particles(*(part[:1, :2].clone().requires_grad_() for part in plain))
    for risk in (TwoLayerRisk(x, y, TANH), PopulationRisk(teacher, relu_gaussian)):
        one, other = (last(gradient_flow(risk, start, [0.5], rtol=1e-4)) for start in (weights, plain))
        assert_close(one.particles, other.particles, rtol=0, atol=0)
        assert not any(part.requires_grad for part in one.particles)
        options = {"step": 0.1, "iterations": 2, "record": [2]}
        ((_, one),), ((_, other),) = (list(descend(risk, start, **options)) for start in (weights, plain))
        assert_close(one, other, rtol=0, atol=0)
        assert not any(part.requires_grad for part in one)
