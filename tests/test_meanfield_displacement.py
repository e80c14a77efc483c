import pytest
import torch
from torch.testing import assert_close

from regimes.activations import RELU, SOFTPLUS, TANH
from regimes.conventions import generator
from regimes.meanfield.displacement import (
    displaced,
    displacement_flow,
    flatten_particles,
    motion,
    tangent_features,
    unflatten_particles,
)
from regimes.meanfield.flow import gradient_flow
from regimes.meanfield.kernel import tangent_kernel_trace
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent.regression import GradientFlow

RUNS, WIDTH, INPUTS, SAMPLES = 4, 6, 3, 5


def example(alpha, activation=TANH):
    generators = [generator(seed) for seed in range(RUNS)]
    start = gaussian(WIDTH, INPUTS, generators=generators)
    x = torch.randn(2, SAMPLES, INPUTS, generator=generators[0], dtype=torch.float64)
    y = torch.randn(RUNS, SAMPLES, 1, generator=generators[0], dtype=torch.float64)
    return TwoLayerRisk(x, y, activation, alpha=alpha), start


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [2.0, torch.tensor([0.5, 1.0, 3.0, 10.0], dtype=torch.float64)])
def test_the_magnified_flow_is_the_particle_flow(alpha):
    risk, start = example(alpha)
    for moved, plain in zip(
        displacement_flow(risk, start, [0.5, 2.0], rtol=1e-7, atol=1e-7),
        gradient_flow(risk, start, [0.5, 2.0], rtol=1e-7, atol=1e-7),
        strict=True,
    ):
        weights = displaced(start, moved.moved, alpha)
        # both are solved to 1e-7 a step, over some dozens of steps
        assert_close(weights.input, plain.particles.input, atol=1e-5, rtol=0.0)
        assert_close(weights.output, plain.particles.output, atol=1e-5, rtol=0.0)


@pytest.mark.slow
def test_a_unit_of_time_is_what_it_says():
    risk, start = example(3.0)
    unit = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    (fast,) = displacement_flow(risk, start, [1.0], unit=unit, rtol=1e-8, atol=1e-8)
    times = sorted(set(unit.tolist()))
    for time, plain in zip(times, displacement_flow(risk, start, times, rtol=1e-8, atol=1e-8), strict=True):
        for run in (unit == time).nonzero().flatten():
            # solved to 1e-8 a step with different steps
            assert_close(fast.moved.input[run], plain.moved.input[run], atol=1e-6, rtol=0.0)


def test_numbers_for_all_runs_are_taken_in_the_precision_of_the_flow():
    risk, start = example(3.0)
    units = (0.1, torch.full((RUNS,), 0.1, dtype=torch.float64))
    (one,), (other,) = (displacement_flow(risk, start, [0.5], unit=unit) for unit in units)
    assert torch.equal(one.moved.input, other.moved.input)
    first = risk.risk(start) * (1 + 1e-10)  # met at once; float32 would round it by up to 6e-8
    rounded_down = first[first.float() < first]
    assert len(rounded_down) > 0
    for flow in (displacement_flow, gradient_flow):
        for value in rounded_down.tolist():
            (end,) = flow(risk, start, [1e-3], risk_below=value)
            assert (end.steps[first == value] == 0).all()


def test_the_doors_are_passed_once_and_not_in_every_step(monkeypatch):
    risk, start = example(torch.tensor([0.5, 1.0, 3.0, 10.0], dtype=torch.float64))
    looked = []
    monkeypatch.setattr("regimes.meanfield.displacement.positive", lambda *_: looked.append(1))
    (end,) = displacement_flow(risk, start, [0.5])
    assert end.steps.min() > 1
    assert not looked


@pytest.mark.slow
def test_a_run_stops_at_its_risk_and_only_there():
    risk, start = example(5.0)
    first = risk.risk(start)
    (end,) = displacement_flow(risk, start, [1e4], risk_below=torch.where(torch.arange(RUNS) < 2, 0.5, 0.9) * first)
    reached = risk.risk(displaced(start, end.moved, 5.0)) / first
    assert end.stopped.all()
    assert (reached[:2] <= 0.5).all()
    assert ((reached[2:] <= 0.9) & (reached[2:] > 0.5)).all()


def test_with_a_smallest_step_relu_slides_along_its_jumps_as_in_the_particle_flow():
    risk, start = example(1.0, RELU)
    how = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 60}
    with pytest.raises(RuntimeError, match="has used all 60 steps"):
        list(displacement_flow(risk, start, [3.0], **how))
    (end,) = displacement_flow(risk, start, [3.0], smallest=0.1, **how)
    (flow,) = gradient_flow(risk, start, [3.0], smallest=0.1, **how)
    assert end.forced.sum() > 0
    # sliding has an error of first order in the smallest step
    assert_close(displaced(start, end.moved, 1.0).input, flow.particles.input, atol=0.1, rtol=0.0)


@pytest.mark.parametrize("activation", [TANH, SOFTPLUS])
def test_tangent_features_are_m_times_the_derivative_of_the_output(activation):
    risk, start = example(1.0, activation)
    features = tangent_features(start, risk.x, activation)
    for run in range(RUNS):

        def output(weights, run=run):
            net = unflatten_particles(weights[None], WIDTH)
            hidden = activation.value(risk.x[run // 2] @ net.input[0].T)
            return (hidden @ net.output[0]).flatten() / WIDTH

        jacobian = torch.autograd.functional.jacobian(output, flatten_particles(start)[run])
        assert_close(features[run], WIDTH * jacobian.T)


def test_products_of_tangent_features_are_the_tangent_kernel():
    risk, start = example(1.0)
    features = tangent_features(start, risk.x, TANH)
    assert_close(features.mT @ features / WIDTH, tangent_kernel_trace(start, risk.x, risk.x, TANH))


def test_weights_of_the_tangent_model_follow_their_own_flow():
    risk, start = example(7.0)
    features = tangent_features(start, risk.x, TANH)
    tangent = GradientFlow(features.mT @ features / WIDTH, risk.y, risk.outputs(start))
    step = 1e-4
    speed = (tangent.test(1.0 + step, features) - tangent.test(1.0 - step, features)) / (2 * step)
    expected = -features @ (tangent.train(1.0) - risk.y) / SAMPLES  # v̄' = −m ∇_v R
    assert_close(speed, expected, rtol=1e-6, atol=1e-7)  # central difference: error of order step² plus rounding/step
    assert_close(tangent.train(2.0), risk.outputs(start) + features.mT @ tangent.test(2.0, features) / WIDTH)


@pytest.mark.slow
def test_a_very_lazy_net_moves_as_its_tangent_model():
    risk, start = example(1e7)
    lazy = TwoLayerRisk(risk.x, risk.y, TANH, alpha=1e7, offset=TwoLayerRisk(risk.x, risk.y, TANH).outputs(start))
    features = tangent_features(start, risk.x, TANH)
    tangent = GradientFlow(features.mT @ features / WIDTH, risk.y)
    (end,) = displacement_flow(lazy, start, [3.0], rtol=1e-9, atol=1e-9)
    # the difference is of order 1/α = 1e-7, the integration error below that of 1e-9 a step
    assert_close(flatten_particles(end.moved), tangent.test(3.0, features)[..., 0], atol=1e-5, rtol=0.0)


@pytest.mark.slow
def test_the_flow_of_a_doubled_net_is_mirrored_when_alpha_changes_its_sign():
    risk, half = example(1.0)
    start = double(half)
    ends = []
    for targets in (risk.y, -risk.y):  # F_{−α} with targets y is F_α with targets −y
        mirrored = TwoLayerRisk(risk.x, targets, TANH, alpha=2.0)
        (end,) = displacement_flow(mirrored, start, [4.0])
        ends.append(displaced(start, end.moved, 2.0))
    first, second = ends  # solved with the same steps, so equal to rounding
    image = Particles(-second.output, second.input)
    swapped = Particles(*(torch.cat([part[:, WIDTH:], part[:, :WIDTH]], dim=1) for part in image))
    assert_close(swapped.input, first.input)
    assert_close(swapped.output, first.output)


def test_motion_is_the_root_mean_square_over_the_particles():
    moved = Particles(torch.full((1, 4, 1), 3.0), torch.full((1, 4, 2), 4.0) / 2**0.5)
    assert_close(motion(flatten_particles(moved), 4), torch.tensor([5.0]))


def test_flat_weights_can_be_put_back():
    _, start = example(1.0)
    assert_close(unflatten_particles(flatten_particles(start), WIDTH), start)


def test_tangent_features_refuse_several_outputs_and_uneven_groups():
    risk, start = example(1.0)
    two = Particles(start.output.expand(-1, -1, 2), start.input)
    with pytest.raises(ValueError, match="nets of one output; got 2"):
        tangent_features(two, risk.x, TANH)
    with pytest.raises(ValueError, match="equally many runs in each group; got 3 runs, 2 groups"):
        tangent_features(start.select([0, 1, 2]), risk.x, TANH)


def test_weights_of_a_module_are_displaced_as_numbers():
    risk, plain = example(2.0)
    weights = Particles(*(part.clone().requires_grad_() for part in plain))
    (one,), (other,) = (list(displacement_flow(risk, start, [0.5], rtol=1e-4)) for start in (weights, plain))
    assert_close(one.moved, other.moved, rtol=0, atol=0)
