import math

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ACTIVATIONS, ERF, IDENTITY, RELU, SOFTPLUS, TANH, Activation
from regimes.meanfield.kernel import tangent_kernel, tangent_kernel_trace
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.models.two_layer import TwoLayer
from regimes.tangent.kernel import ntk

F64 = torch.float64
OUTPUTS = pytest.mark.parametrize("k", [1, 3])
EVERY = pytest.mark.parametrize("unit", ACTIVATIONS.values(), ids=lambda unit: unit.name)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def net(runs, m=5, d=3, k=1):
    return gaussian(m, d, k, generators=[stream(run) for run in range(runs)])


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=stream(100 + seed), dtype=F64)


def plain_outputs(particles, x, unit, scale, alpha=1.0, offset=0.0):
    """f of each run by autograd-friendly torch, data given for each run."""
    return alpha * (scale * unit.value(x @ particles.input.mT) @ particles.output - offset)


def plain_risk(outputs, y):
    return (outputs - y).square().sum((1, 2)) / (2 * y.shape[1])


def with_gradients(particles):
    return Particles(*(weights.clone().requires_grad_() for weights in particles))


def test_risk_and_outputs_by_hand():
    # One run, two neurons, two samples, two outputs, ReLU, s = 1/2, α = 3:
    # preactivations (2, -1), (1, 3): σ = (2, 0), (1, 3).
    particles = Particles(
        torch.tensor([[[1.0, 0.0], [2.0, -1.0]]], dtype=F64), torch.tensor([[[1.0], [-0.5]]], dtype=F64)
    )
    x = torch.tensor([[[2.0], [-6.0]]], dtype=F64)
    y = torch.tensor([[[1.0, 1.0], [0.0, 2.0]]], dtype=F64)
    risk = TwoLayerRisk(x, y, RELU, alpha=3.0)
    # σ = (2, 0) and (0, 3); h = (1, 0) and (3, -3/2); f = (3, 0) and (9, -9/2)
    assert_close(risk.outputs(particles), torch.tensor([[[3.0, 0.0], [9.0, -4.5]]], dtype=F64))
    # R = 1/(2·2) (2² + 1² + 9² + 6.5²)
    assert_close(risk.risk(particles), torch.tensor([(4 + 1 + 81 + 42.25) / 4], dtype=F64))
    # ∂F/∂a = (s/(αn)) Σ_i σ_ij r_i = (1/12) [2·(2, -1); 3·(9, -6.5)]
    gradient = risk.gradient(particles)
    assert_close(gradient.output, torch.tensor([[[4.0, -2.0], [27.0, -19.5]]], dtype=F64) / 12)
    # ∂F/∂b = (s/(αn)) Σ_i (a_j·r_i) σ' x_i = (1/12) [(2)·2; (18 + 6.5)·(-6)]
    assert_close(gradient.input, torch.tensor([[[4.0], [-147.0]]], dtype=F64) / 12)


@EVERY
@OUTPUTS
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_gradient_is_that_of_autograd(unit, k, groups):
    particles = with_gradients(net(6, k=k))
    x, y, offset = randn(groups, 11, 3), randn(groups, 11, k, seed=1), randn(6, 11, k, seed=2)
    alpha = torch.linspace(0.5, 3, 6, dtype=F64)
    risk = TwoLayerRisk(x, y, unit, scale=0.3, alpha=alpha, offset=offset)
    xs, ys = (data.repeat_interleave(6 // groups, 0) for data in (x, y))
    outputs = plain_outputs(particles, xs, unit, 0.3, alpha[:, None, None], offset)
    expected = plain_risk(outputs, ys)
    (expected / alpha.square()).sum().backward()
    plain = Particles(*(weights.detach() for weights in particles))
    value, gradient = risk.risk_and_gradient(plain)
    assert_close(value, expected.detach())
    assert_close(risk.risk(plain), expected.detach())
    assert_close(risk.outputs(plain), outputs.detach())
    assert_close(gradient.output, particles.output.grad)
    assert_close(gradient.input, particles.input.grad)
    velocity = risk.velocity(plain)
    assert_close(velocity.output, -5 * particles.output.grad)
    assert_close(velocity.input, -5 * particles.input.grad)


@EVERY
@OUTPUTS
def test_the_gradient_passes_gradcheck(unit, k):
    risk = TwoLayerRisk(randn(1, 6, 3), randn(1, 6, k, seed=1), unit, alpha=2.0)

    class Objective(torch.autograd.Function):
        @staticmethod
        def forward(ctx, output, input):
            value, gradient = risk.risk_and_gradient(Particles(output.detach(), input.detach()))
            ctx.save_for_backward(*gradient)
            return value.sum() / 4

        @staticmethod
        def backward(ctx, upstream):
            return tuple(upstream * part for part in ctx.saved_tensors)

    torch.autograd.gradcheck(Objective.apply, tuple(with_gradients(net(2, k=k))))


def test_a_custom_activation_needs_no_fast_forms():
    plain = [unit._replace(write=None, pull=None) for unit in (RELU, SOFTPLUS, TANH)]
    for unit, fast in zip(plain, (RELU, SOFTPLUS, TANH), strict=True):
        values = [TwoLayerRisk(randn(2, 9, 3), randn(2, 9, 2), u).risk_and_gradient(net(4, k=2)) for u in (unit, fast)]
        for one, other in zip(values[0][1], values[1][1], strict=True):
            assert_close(one, other)
    sine = Activation("sine", torch.sin, torch.cos, 1.0, 1.0, True)
    assert TwoLayerRisk(randn(1, 9, 3), randn(1, 9, 1), sine).risk(net(1)).isfinite().all()


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_repeating_the_data_changes_nothing_but_a_sum_over_samples_would(factor):
    x, y = randn(1, 8, 3), randn(1, 8, 2, seed=1)
    once = TwoLayerRisk(x, y, TANH).risk_and_gradient(net(1, k=2))
    twice = TwoLayerRisk(torch.cat([x, x], 1), torch.cat([y, y], 1), TANH).risk_and_gradient(net(1, k=2))
    assert_close(once[0], twice[0])
    assert_close(once[1].input, twice[1].input)
    assert not torch.allclose(once[0], factor * twice[0])


def test_repeating_the_outputs_doubles_the_risk():
    x, y = randn(1, 8, 3), randn(1, 8, 1, seed=1)
    particles = net(1)
    once = TwoLayerRisk(x, y, TANH).risk(particles)
    both = Particles(particles.output.repeat(1, 1, 2), particles.input)
    assert_close(TwoLayerRisk(x, y.repeat(1, 1, 2), TANH).risk(both), 2 * once)


def test_repeating_the_neurons_changes_neither_outputs_nor_velocity():
    particles = net(2)
    risk = TwoLayerRisk(randn(1, 8, 3), randn(1, 8, 1, seed=1), TANH)
    twice = particles.join(particles)
    assert_close(risk.outputs(twice), risk.outputs(particles))
    assert_close(risk.velocity(twice).input[:, :5], risk.velocity(particles).input)
    assert_close(risk.velocity(twice).output[:, 5:], risk.velocity(particles).output)


def test_a_scale_of_root_m_in_alpha_is_the_classical_net():
    m = 5
    x, y, particles = randn(1, 8, 3), randn(1, 8, 1, seed=1), net(1)
    lazy = TwoLayerRisk(x, y, TANH, alpha=math.sqrt(m))
    classical = TwoLayerRisk(x, y, TANH, scale=1 / math.sqrt(m))
    assert_close(lazy.outputs(particles), classical.outputs(particles))
    assert_close(lazy.velocity(particles).input, -classical.gradient(particles).input)


def test_the_first_velocity_of_a_doubled_net_scales_as_one_over_alpha():
    risk = TwoLayerRisk(randn(1, 8, 3), randn(1, 8, 1, seed=1), TANH, alpha=torch.tensor([1.0, 10.0], dtype=F64))
    start = double(net(1)).select([0, 0])
    velocity = risk.velocity(start)
    assert_close(velocity.input[0], 10 * velocity.input[1])
    assert_close(risk.risk(start)[0], risk.risk(start)[1])


def test_the_outputs_move_as_the_tangent_kernel_says_whatever_the_scale():
    # d/dt (αh)(x) = −(1/n) Σ_i Θ(x, x_i) (αh(x_i) − y_i): measured by a short step of the flow.
    x, y, particles = randn(1, 7, 3), randn(1, 7, 2, seed=1), net(1, k=2)
    new = randn(1, 4, 3, seed=3)
    kernel = tangent_kernel(particles, new, x, TANH)
    for alpha in (1.0, 30.0):
        risk = TwoLayerRisk(x, y, TANH, alpha=alpha, offset=plain_outputs(particles, x, TANH, 1 / 5))
        centre = plain_outputs(particles, new, TANH, 1 / 5)
        velocity, eps = risk.velocity(particles), 1e-6
        ends = [Particles(*(w + s * eps * v for w, v in zip(particles, velocity, strict=True))) for s in (1, -1)]
        after, before = (risk.outputs(end, new, offset=centre) for end in ends)
        residual = risk.outputs(particles) - y
        expected = -torch.einsum("rijkl,rjl->rik", kernel, residual) / 7
        assert_close((after - before) / (2 * eps), expected, rtol=1e-7, atol=1e-8)  # central difference of step 1e-6


@pytest.mark.parametrize("unit", [RELU, TANH, ERF], ids=lambda unit: unit.name)
@OUTPUTS
def test_the_tangent_kernel_is_m_times_that_of_the_module(unit, k):
    module = TwoLayer(3, 6, k, activation=unit, generator=stream())
    particles = Particles(module.output_weights.detach()[None], module.input_weights.detach()[None])
    x1, x2 = randn(4, 3), randn(5, 3, seed=1)
    expected = 6 * ntk(module, x1, x2)
    found = tangent_kernel(particles, x1[None], x2[None], unit)
    assert_close(found[0], expected)
    traces = tangent_kernel_trace(particles, x1[None], x2[None], unit)
    assert_close(traces[0], expected.diagonal(dim1=2, dim2=3).sum(-1))


def test_the_tangent_kernel_scales_with_the_square_of_the_scale():
    x, particles = randn(2, 4, 3), net(4)
    unscaled = tangent_kernel(particles, x, x, RELU, scale=1.0)
    assert_close(tangent_kernel(particles, x, x, RELU), unscaled / 25)
    assert_close(unscaled[2], tangent_kernel(particles.select([2]), x[1:], x[1:], RELU, scale=1.0)[0])


def test_doubling_keeps_the_tangent_kernel():
    x, particles = randn(1, 4, 3), net(2)
    assert_close(tangent_kernel(double(particles), x, x, TANH), tangent_kernel(particles, x, x, TANH))


@OUTPUTS
@pytest.mark.parametrize("groups", [1, 3])
def test_a_run_is_the_same_alone_as_in_an_ensemble(k, groups):
    particles = net(6, m=40, d=4, k=k)
    x, y = randn(groups, 700, 4), randn(6, 700, k, seed=1)  # several tiles
    alpha = torch.linspace(1, 5, 6, dtype=F64)
    value, gradient = TwoLayerRisk(x, y, RELU, alpha=alpha).risk_and_gradient(particles)
    for run in range(6):
        group = run // (6 // groups)
        alone = TwoLayerRisk(x[group : group + 1], y[run : run + 1], RELU, alpha=alpha[run : run + 1])
        value_alone, gradient_alone = alone.risk_and_gradient(particles.select([run]))
        assert_close(value[run : run + 1], value_alone, rtol=1e-12, atol=0)  # another order of summation
        assert_close(gradient.input[run : run + 1], gradient_alone.input, rtol=1e-12, atol=1e-15)  # likewise
        assert_close(gradient.output[run : run + 1], gradient_alone.output, rtol=1e-12, atol=1e-15)  # likewise


@pytest.mark.parametrize("by_run", [False, True])
@pytest.mark.parametrize("chosen", [[0, 5], [1, 2, 3], [4], [0, 1, 2, 3, 4, 5], [3, 4, 5]])
def test_the_risk_of_some_runs_is_that_of_the_whole(chosen, by_run):
    particles, alpha = net(6), torch.linspace(1, 2, 6, dtype=F64)
    x, y, offset = randn(3, 9, 3), randn(6 if by_run else 3, 9, 1, seed=1), randn(6, 9, 1, seed=2)
    whole = TwoLayerRisk(x, y, TANH, alpha=alpha, offset=offset)
    part = whole.select(torch.tensor(chosen), of=6)
    value, gradient = whole.risk_and_gradient(particles)
    value_part, gradient_part = part.risk_and_gradient(particles.select(chosen))
    assert_close(value_part, value[chosen])
    assert_close(gradient_part.input, gradient.input[chosen])
    assert_close(part.outputs(particles.select(chosen)), whole.outputs(particles)[chosen])
    last = part.select(torch.tensor([len(chosen) - 1]), of=len(chosen))
    assert_close(last.risk(particles.select(chosen[-1:])), value[chosen[-1:]])


def test_groups_may_be_of_different_sizes():
    particles, x, y = net(4), randn(2, 9, 3), randn(2, 9, 1, seed=1)
    risk = TwoLayerRisk(x, y, TANH, members=[1, 3])
    expected = torch.cat(
        [
            TwoLayerRisk(x[:1], y[:1], TANH).risk(particles.select([0])),
            TwoLayerRisk(x[1:], y[1:], TANH).risk(particles.select([1, 2, 3])),
        ]
    )
    assert_close(risk.risk(particles), expected)
    assert_close(risk.risk_and_gradient(particles)[0], expected)


def test_the_order_of_the_particles_does_not_matter():
    particles = net(2)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = Particles(particles.output[:, order], particles.input[:, order])
    risk = TwoLayerRisk(randn(1, 8, 3), randn(1, 8, 1, seed=1), SOFTPLUS)
    assert_close(risk.risk(shuffled), risk.risk(particles))
    assert_close(risk.gradient(shuffled).input, risk.gradient(particles).input[:, order])


def test_the_gradient_is_written_where_asked_and_results_are_not_overwritten():
    particles, x, y = net(2), randn(1, 8, 3), randn(1, 8, 1, seed=1)
    risk = TwoLayerRisk(x, y, RELU)
    memory = Particles(*map(torch.empty_like, particles))
    first = risk.gradient(particles, memory)
    assert first.input.data_ptr() == memory.input.data_ptr()
    kept = risk.gradient(particles)
    copies = [part.clone() for part in kept]
    risk.gradient(Particles(*(2 * part for part in particles)))
    for part, copy in zip(kept, copies, strict=True):
        assert torch.equal(part, copy)


def test_other_inputs_may_be_of_another_number():
    particles = net(4)
    risk = TwoLayerRisk(randn(2, 8, 3), randn(2, 8, 1, seed=1), TANH, alpha=2.0)
    new = randn(2, 3, 3, seed=5)
    expected = plain_outputs(particles, new.repeat_interleave(2, 0), TANH, 1 / 5, 2.0)
    assert_close(risk.outputs(particles, new), expected)


def test_an_offset_is_needed_on_new_inputs_exactly_when_there_is_one():
    x, y, particles = randn(1, 8, 3), randn(1, 8, 1), net(2)
    centred = TwoLayerRisk(x, y, TANH, offset=TwoLayerRisk(x, y, TANH).outputs(particles))
    assert_close(centred.outputs(particles), torch.zeros(2, 8, 1, dtype=F64))
    with pytest.raises(ValueError, match="got offset=None"):
        centred.outputs(particles, x)
    with pytest.raises(ValueError, match="got offset=a tensor"):
        TwoLayerRisk(x, y, TANH).outputs(particles, x, offset=torch.zeros(2, 8, 1, dtype=F64))
    with pytest.raises(ValueError, match="replace needs a risk without offset"):
        centred.replace(x, y)


def test_float32_agrees_with_float64():
    particles, x, y = net(3, m=30, k=2), randn(1, 50, 3), randn(1, 50, 2, seed=1)
    value, gradient = TwoLayerRisk(x, y, RELU).risk_and_gradient(particles)
    low, gradient_low = TwoLayerRisk(x.float(), y.float(), RELU).risk_and_gradient(particles.to(torch.float32))
    assert low.dtype == gradient_low.input.dtype == torch.float32
    assert_close(low.double(), value, rtol=1e-4, atol=1e-5)
    assert_close(gradient_low.input.double(), gradient.input, rtol=1e-4, atol=1e-5)


def test_a_linear_net_has_the_gradient_of_least_squares():
    particles, x, y = net(1, m=1), randn(1, 8, 3), randn(1, 8, 1, seed=1)
    a, b = particles.output[0, 0, 0], particles.input[0, 0]
    gradient = TwoLayerRisk(x, y, IDENTITY).gradient(particles)
    expected = a * x[0].T @ (x[0] @ (a * b) - y[0, :, 0]) / 8
    assert_close(gradient.input[0, 0], expected)


def test_bad_input_is_refused_with_the_cure():
    x, y = randn(2, 8, 3), randn(2, 8, 1)
    with pytest.raises(ValueError, match="one precision"):
        TwoLayerRisk(x, y.float(), RELU)
    for alpha in (0.0, -1.0, float("nan"), torch.tensor([1.0, 0.0])):
        with pytest.raises(ValueError, match="alpha as a finite number above 0"):
            TwoLayerRisk(x, y, RELU, alpha=alpha)
    with pytest.raises(ValueError, match="3 runs for 2 groups"):
        TwoLayerRisk(x, y, RELU).risk(net(3))
    with pytest.raises(ValueError, match="the 4 runs it was made for; got particles of 6"):
        TwoLayerRisk(x, y, RELU, members=[1, 3]).risk(net(6))


def test_a_replaced_risk_of_another_precision_leaves_the_first_as_it_was():
    x, y, particles = randn(1, 6, 3), randn(1, 6, 1, seed=1), net(2)
    risk = TwoLayerRisk(x, y, RELU)
    before = risk.risk(particles)
    rounded = risk.replace(x.float(), y.float()).risk(particles.to(torch.float32))
    assert_close(rounded.double(), before, rtol=1e-5, atol=1e-6)  # single precision
    assert torch.equal(risk.risk(particles), before)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("name", ["x", "y", "offset"])
def test_data_that_are_written_into_count_from_then_on(k, name):
    particles, some = net(2, k=k), torch.tensor([0])
    given = {"x": randn(1, 6, 3), "y": randn(1, 6, k, seed=1), "offset": randn(2, 6, k, seed=2)}
    risk = TwoLayerRisk(**given, activation=TANH)
    risk.risk_and_gradient(particles)
    given[name].mul_(-0.5).add_(0.1)
    assert_close(risk.select(some, of=2).risk(particles.select(some)), risk.risk(particles)[:1])
    same = TwoLayerRisk(**given, activation=TANH)
    assert_close(risk.risk_and_gradient(particles), same.risk_and_gradient(particles), rtol=0, atol=0)
    assert_close(risk.outputs(particles), same.outputs(particles), rtol=0, atol=0)


def test_weights_of_a_module_are_taken_as_numbers():
    x, y, plain = randn(1, 6, 3), randn(1, 6, 1, seed=1), net(2)
    weights = with_gradients(plain)
    for risk in (TwoLayerRisk(x, y, TANH), TwoLayerRisk(x.clone().requires_grad_(), y, TANH)):
        assert_close(risk.risk(weights), risk.risk(plain), rtol=0, atol=0)
        assert_close(risk.risk_and_gradient(weights), risk.risk_and_gradient(plain), rtol=0, atol=0)
        other = randn(1, 4, 3, seed=2)
        assert_close(risk.outputs(weights, other.clone().requires_grad_()), risk.outputs(plain, other), rtol=0, atol=0)
