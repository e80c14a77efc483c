import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ACTIVATIONS
from regimes.meanfield.depth import DepthMeasure, DepthRisk, mixture


def measure(runs=2, depth=5, width=3, d=4, seed=0):
    stream = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, generator=stream, dtype=torch.float64) for shape in (
        (runs, depth, width, d), (runs, depth, width, d), (runs, depth, width), (runs, depth, width)
    )]  # fmt: skip
    return DepthMeasure(*draw)


def risk(runs=2, n=6, d=4, activation="tanh", **changes):
    stream = torch.Generator().manual_seed(9)
    x, y, w = (
        torch.randn(*shape, generator=stream, dtype=torch.float64) for shape in ((runs, n, d), (runs, n), (runs, d))
    )
    return DepthRisk(x, y, w, ACTIVATIONS[activation], **changes)


def test_the_states_are_those_of_residual_blocks():
    e, rho = risk(strength=0.7), measure()
    for run in range(2):
        state = e.x[run]
        for cell in range(5):
            step = torch.zeros_like(state)
            for j in range(3):
                inner = state @ rho.input[run, cell, j] + rho.bias[run, cell, j]
                step += rho.mass[run, cell, j] * torch.tanh(inner)[:, None] * rho.output[run, cell, j]
            state = state + 0.7 / 5 * step
        assert_close(e.states(rho)[run, -1], state)
        assert_close(e.risk(rho)[run], (state @ e.readout[run] - e.y[run]).square().mean() / 2)


@pytest.mark.parametrize("activation", ["tanh", "erf", "softplus"])
def test_adjoint_and_first_variation_are_those_of_automatic_differentiation(activation):
    e, rho = risk(activation=activation, strength=1.3), measure()
    x = e.x.clone().requires_grad_()
    mass = rho.mass.clone().requires_grad_()
    value = DepthRisk(x, e.y, e.readout, e.activation, strength=1.3).risk(rho._replace(mass=mass)).sum()
    of_x, of_mass = torch.autograd.grad(value, [x, mass])
    assert_close(e.adjoint(rho, e.states(rho))[:, 0], 6 * of_x, rtol=1e-12, atol=1e-13)
    assert_close(e.first_variation(rho) / 5, of_mass, rtol=1e-12, atol=1e-13)


def test_the_slope_is_the_derivative_along_a_mixture():
    e, rho, nu = risk(), measure(), measure(width=7, seed=1)
    share = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(e.risk(mixture(rho, nu, share)).sum(), share)
    assert_close(e.slope(rho, nu), derivative, rtol=1e-11, atol=1e-12)
    assert_close(e.slope(rho, rho), torch.zeros(2, dtype=torch.float64))


def test_a_mixture_with_nothing_of_one_is_the_other():
    e, rho, nu = risk(), measure(), measure(seed=1)
    assert_close(e.risk(mixture(rho, nu, 0.0)), e.risk(rho))
    assert_close(e.risk(mixture(rho, nu, 1.0)), e.risk(nu))


def test_a_share_of_python_keeps_its_digits():
    rho, nu = measure(), measure(seed=1)
    masses = torch.cat([0.7 * rho.mass, 0.3 * nu.mass], 2)
    assert_close(mixture(rho, nu, 0.3).mass, masses, rtol=1e-15, atol=0)


def test_a_run_does_not_depend_on_its_neighbours():
    e, rho = risk(), measure()
    alone = DepthRisk(e.x[1:], e.y[1:], e.readout[1:], e.activation)
    part = DepthMeasure(*(each[1:] for each in rho))
    assert_close(alone.first_variation(part), e.first_variation(rho)[1:])


@pytest.mark.parametrize("activation", ["tanh", "erf", "softplus"])
def test_risk_and_gradient_are_those_of_automatic_differentiation(activation):
    e, rho = risk(activation=activation, strength=1.3), measure()
    parts = DepthMeasure(*(part.clone().requires_grad_() for part in rho))
    expected = e.risk(parts)
    grads = torch.autograd.grad(expected.sum(), list(parts))
    value, gradient = e.risk_and_gradient(rho)
    assert_close(value, expected.detach())
    for name, part in zip(DepthMeasure._fields, grads, strict=True):
        share = 1.0 if name == "mass" else rho.mass.reshape(rho.mass.shape + (1,) * (part.dim() - 3))
        assert_close(share * getattr(gradient, name) / rho.depth, part, rtol=1e-11, atol=1e-12)


def test_a_part_of_the_runs_has_the_risk_that_it_has_among_all():
    e, rho, some = risk(runs=3), measure(runs=3), torch.tensor([2, 0])
    assert_close(e.select(some).risk(DepthMeasure(*(part[some] for part in rho))), e.risk(rho)[some])
