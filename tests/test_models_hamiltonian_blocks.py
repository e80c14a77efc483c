"""Hamiltonian blocks: fields, symplectic Jacobian, inverse, and the doors that other blocks go through too."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.activations import ACTIVATIONS, RELU, SOFTPLUS, TANH
from regimes.control.tableau import EULER, HEUN, IMPLICIT_MIDPOINT, KUTTA4, PAIRS, STORMER_VERLET, SYMPLECTIC_EULER
from regimes.conventions import generator
from regimes.models.build import build
from regimes.models.contractive import NormedLinear, UnitRows
from regimes.models.hamiltonian_blocks import HamiltonianBlock, hamiltonian_convolution, hamiltonian_dense
from regimes.models.image_nets import resnet9
from regimes.models.initialise import initialise, kaiming
from regimes.models.potentials import PRIMITIVES, GradientOf, Potential, convolutional_potential, dense_potential
from regimes.models.residual import ResidualNet, Segment, parameter_count
from regimes.models.timed import timed
from regimes.tangent.kernel import ntk

F64 = torch.float64
METHODS = [pytest.param(each, id=each.name) for each in (*PAIRS, IMPLICIT_MIDPOINT)]


def gradient(potential, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(potential.value(z).sum(), z)[0]


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_a_potential_gives_the_gradient_of_its_value(name):
    made = [
        (dense_potential(3, 5, ACTIVATIONS[name]), (4, 3)),
        (convolutional_potential(2, 3, ACTIVATIONS[name]), (4, 2, 5, 6)),
        (Potential(nn.Conv2d(4, 6, (3, 5), padding=(0, 1), dilation=2, groups=2), ACTIVATIONS[name]), (2, 4, 9, 9)),
    ]
    for potential, shape in made:
        z = torch.randn(*shape, dtype=F64)
        potential.double()
        assert_close(potential(z), gradient(potential, z))
        assert_close(GradientOf(potential.value)(z), potential(z))


def test_the_antiderivatives_vanish_at_zero_and_stay_finite_far_away():
    for primitive in PRIMITIVES.values():
        assert_close(primitive(torch.zeros(1, dtype=F64)), torch.zeros(1, dtype=F64))
        assert primitive(torch.tensor([-1e3, 1e3], dtype=F64)).isfinite().all()


def test_a_potential_without_a_transpose_or_a_value_is_refused():
    for linear in (nn.Conv2d(2, 2, 3, stride=2), nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")):
        with pytest.raises(ValueError, match="stride 1 with zeros"):
            Potential(linear)
    for linear in (NormedLinear(4, 5), UnitRows(4, 5)):
        with pytest.raises(ValueError, match="applies its weight as it is"):
            Potential(linear)
    with pytest.raises(ValueError, match="padding as numbers"):
        Potential(nn.Conv2d(2, 2, 3, padding="same"))
    with pytest.raises(ValueError, match="known integral"):
        dense_potential(2, activation=SOFTPLUS).value(torch.zeros(1, 2))
    steep = ACTIVATIONS["tanh"]._replace(
        value=lambda s: torch.tanh(s / 2), derivative=lambda s: 0.5 / torch.cosh(s / 2) ** 2
    )
    with pytest.raises(ValueError, match="'tanh' of its own"):
        dense_potential(2, activation=steep).value(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="odd kernel"):
        convolutional_potential(2, kernel=4)


def jacobian(block, state):
    flat = torch.autograd.functional.jacobian(lambda z: block(z.view(1, *state.shape)).flatten(), state.flatten())
    return flat


def omega(width):
    half = torch.eye(width // 2, dtype=F64)
    return torch.kron(torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64), half)


def blocks(method, symmetric=True):
    options = {"method": method, "symmetric": symmetric, "size": 0.3}
    return [
        (hamiltonian_dense(6, 7, **options), (6,)),
        (hamiltonian_convolution(4, 3, activation=ACTIVATIONS["erf"], **options), (4, 3, 2)),
    ]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_the_jacobian_of_a_block_is_symplectic(method, symmetric):
    for block, shape in blocks(method, symmetric):
        state = torch.randn(*shape, dtype=F64)
        found = jacobian(block.double(), state)
        unit = omega(len(found))
        assert_close(found.T @ unit @ found, unit, rtol=0, atol=1e-12)
        assert float((found - torch.eye(len(found), dtype=F64)).abs().max()) > 0.01


@pytest.mark.parametrize("method", [EULER, HEUN, KUTTA4])
def test_that_of_another_method_is_not(method):
    block, shape = blocks(method)[0]
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(2)
    found = jacobian(block.double(), torch.randn(*shape, dtype=F64))
    assert float((found.T @ omega(6) @ found - omega(6)).abs().max()) > 1e-7


@pytest.mark.parametrize("method", METHODS)
def test_a_block_is_undone_to_rounding(method):
    for block, shape in blocks(method):
        state = torch.randn(5, *shape, dtype=F64)
        assert_close(block.double().inverse(block(state)), state, rtol=0, atol=1e-14)
        weight = torch.tensor(1.7, dtype=F64)
        assert_close(block.inverse(block.end(state, weight), weight), state, rtol=0, atol=1e-14)


def test_many_blocks_are_undone_to_rounding():
    chain = [hamiltonian_dense(6, 7, size=0.3).double() for _ in range(20)]
    start = state = torch.randn(5, 6, dtype=F64)
    for block in chain:
        state = block(state)
    for block in reversed(chain):
        state = block.inverse(state)
    assert_close(state, start, rtol=0, atol=1e-11)


def test_the_two_cases_of_the_talk_by_hand():
    block = hamiltonian_dense(4, 3, method=SYMPLECTIC_EULER, size=0.2).double()
    z, p = torch.randn(2, 5, 2, dtype=F64)
    one, other = block.residual.kinetic.linear, block.residual.potential.linear
    after = p - 0.2 * torch.tanh(z @ other.weight.T + other.bias) @ other.weight
    end = z + 0.2 * torch.tanh(after @ one.weight.T + one.bias) @ one.weight
    assert_close(block(torch.cat([z, p], 1)), torch.cat([end, after], 1))
    block = hamiltonian_dense(4, 3, method=SYMPLECTIC_EULER, size=0.2, symmetric=False).double()
    other = block.residual.potential.linear
    after = p - 0.2 * torch.tanh(z @ other.weight.T + other.bias) @ other.weight
    assert_close(block(torch.cat([z, p], 1)), torch.cat([z + 0.2 * after, after], 1))


def test_fields_may_depend_on_time():
    def potential(time, z):
        return z * (1 + time)

    block = HamiltonianBlock(None, potential, method=SYMPLECTIC_EULER, size=0.5, time=2.0)
    z, p = torch.randn(2, 5, 2, dtype=F64)
    after = p - 0.5 * 3 * z
    assert_close(block(torch.cat([z, p], 1)), torch.cat([z + 0.5 * after, after], 1))
    assert_close(block.inverse(block(torch.cat([z, p], 1))), torch.cat([z, p], 1))


def test_a_general_energy_makes_a_block():
    class Sextic(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3, dtype=F64))

        def forward(self, p):
            return (p @ self.weight).square().sum(1) + p.pow(6).sum(1) / 6

    kinetic = Sextic()
    block = HamiltonianBlock(GradientOf(kinetic), GradientOf(lambda z: z.pow(4).sum(1)), size=0.05)
    state = torch.randn(4, dtype=F64)
    found = jacobian(block, state)
    assert_close(found.T @ omega(4) @ found, omega(4), rtol=0, atol=1e-12)
    block(state[None]).sum().backward()
    assert kinetic.weight.grad.abs().sum() > 0


def test_what_is_no_hamiltonian_block_is_refused():
    with pytest.raises(ValueError, match="even number of channels"):
        hamiltonian_dense(4)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="even width"):
        hamiltonian_dense(5)
    with pytest.raises(ValueError, match="even channels"):
        hamiltonian_convolution(3)
    with pytest.raises(ValueError, match="size as a finite number above 0"):
        HamiltonianBlock(None, torch.tanh, size=0.0)
    with pytest.raises(ValueError, match="velocities of the shapes of its halves"):
        HamiltonianBlock(None, lambda z: z[:, :1])(torch.zeros(2, 4))


def test_its_steps_are_end_minus_start_and_end_the_sum():
    chain = [hamiltonian_dense(6, 4, size=0.3).double() for _ in range(3)]
    net = ResidualNet(nn.Identity(), [Segment(chain)], nn.Identity())
    x = torch.randn(5, 6, dtype=F64)
    trace = net(x, trace=True)
    state = x
    for block, end, step, squares in zip(chain, trace.paths[0][1:], trace.steps[0], trace.squares[0], strict=True):
        assert_close(end, block(state))
        assert_close(step, block(state) - state)
        assert_close(squares, (end - state).square().sum())
        state = end
    assert_close(trace.output, net(x))


def test_the_times_of_a_segment_scale_the_step_and_leave_it_symplectic():
    block = hamiltonian_dense(6, 4, size=0.3).double()
    longer = hamiltonian_dense(6, 4, size=0.6).double()
    longer.load_state_dict(block.state_dict())
    x = torch.randn(5, 6, dtype=F64)
    assert_close(block.end(x, torch.tensor(2.0, dtype=F64)), longer(x))
    assert_close(block.move(x, torch.tensor(2.0, dtype=F64)).end, longer(x))
    net = ResidualNet(nn.Identity(), [Segment([hamiltonian_dense(6, 4) for _ in range(3)])], nn.Identity()).double()
    assert_close(timed(net)(x), net(x))


def test_a_block_has_the_weights_of_one_of_resnet9():
    for options in ({}, {"system": "second_order"}):
        ours = build("hamiltonian", (1, 8, 8), 10, filters=8, **options)
        theirs = resnet9((1, 8, 8), 10, filters=8, batch_norm=False)
        weights = [sum(p.numel() for p in net.parameters() if p.ndim == 4) for net in (ours, theirs)]
        assert weights[0] == weights[1]
    assert abs(parameter_count(build("hamiltonian", (1, 28, 28), 10)) - 808_478) < 100  # ResNet9 with batch norm


def test_the_architecture_takes_images_and_vectors():
    for shape in ((3, 8, 8), (2,)):
        for options in ({"system": "second_order", "method": "implicit_midpoint", "activation": "tanh"}, {}):
            net = build("hamiltonian", shape, 3, filters=4, blocks=2, head="one_layer", **options)
            assert net(torch.randn(5, *shape)).shape == (5, 3)
    for wrong in ({"system": "third"}, {"method": "euler"}, {"activation": "sine"}, {"filters": 5}, {"head": "three"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            build("hamiltonian", (2,), 3, **wrong)


def test_weights_are_drawn_anew_from_a_seed():
    nets = [build("hamiltonian", (1, 6, 6), 3, filters=4, blocks=2) for _ in range(2)]
    for net in nets:
        initialise(net, kaiming, generator=generator(0, 1))
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)
    twin = copy.deepcopy(nets[0]).eval()
    x = torch.randn(2, 1, 6, 6)
    assert torch.equal(twin(x), nets[0].eval()(x))


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: hamiltonian_dense(4, 3), lambda: hamiltonian_dense(4, 3, symmetric=False)])
def test_its_tangent_kernel_is_that_of_its_gradients(make):
    net = ResidualNet(nn.Identity(), [Segment([make(), make()])], nn.Linear(4, 1)).double()
    x = torch.randn(3, 4, dtype=F64)
    rows = []
    for each in x:
        found = torch.autograd.grad(net(each[None]).sum(), list(net.parameters()))
        rows.append(torch.cat([one.flatten() for one in found]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    assert_close(ntk(net, x).reshape(3, 3), expected)


@pytest.mark.slow
def test_the_energy_is_kept_for_long_and_not_by_euler():
    """H = ½‖p‖² + V stays near its start with Verlet at h = 0.2; with Euler it grows."""
    torch.manual_seed(1)
    potential = dense_potential(3, 6, TANH).double()

    def drift(method):
        block = HamiltonianBlock(None, potential, method=method, size=0.2)
        state = start = torch.randn(4, 6, dtype=F64)
        with torch.no_grad():
            for _ in range(200):
                state = block(state)
            both = [potential.value(each[:, :3]) + each[:, 3:].square().sum(1) / 2 for each in (start, state)]
        return float((both[1] - both[0]).abs().max())

    assert drift(STORMER_VERLET) < drift(EULER) / 10
    assert math.isfinite(drift(EULER))


def test_relu_blocks_are_symplectic_where_no_kink_is_met():
    block = hamiltonian_dense(6, 4, activation=RELU, size=0.3).double()
    found = jacobian(block, torch.randn(6, dtype=F64))
    assert_close(found.T @ omega(6) @ found, omega(6), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_antiderivatives_keep_their_digits_near_zero(name):
    s = torch.tensor([-3.0, -1.0, -0.9, -1e-2, -1e-3, -1e-5, 1e-5, 1e-3, 0.3, 0.99, 1.0, 1.01, 3.0])
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(40))
    wide = s.double()[:, None]
    exact = (ACTIVATIONS[name].value(wide * (1 + nodes) / 2) * weights * wide / 2).sum(1)
    assert_close(PRIMITIVES[name](s.double()), exact, rtol=1e-9 if name != "erf" else 1e-6, atol=1e-300)
    assert_close(PRIMITIVES[name](s).double(), exact, rtol=3e-6, atol=1e-30)
