"""Restricted matrices keep their form through training, copies and files; fields made of them do what they promise."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from regimes.control.stepper import step
from regimes.control.tableau import KUTTA4
from regimes.conventions import generator
from regimes.models.initialise import initialise, kaiming, normal
from regimes.models.potentials import Potential, dense_potential
from regimes.models.residual import Block, ResidualNet, Segment, parameter_count
from regimes.models.restricted import (
    AntisymmetricField,
    DissipativeField,
    negative_definite,
    orthogonal,
    put_weight,
    skew,
)
from regimes.tangent.kernel import ntk

F64 = torch.float64


def is_skew(weight):
    return torch.equal(weight, -weight.mT)


def is_negative(weight, margin=0.5):
    return torch.equal(weight, weight.mT) and float(torch.linalg.eigvalsh(weight.detach()).max()) <= -margin + 1e-12


def is_orthonormal(weight):
    rows, columns = weight.shape
    product = weight @ weight.mT if rows <= columns else weight.mT @ weight
    return float((product - torch.eye(len(product), dtype=weight.dtype)).detach().abs().max()) < 1e-12


FORMS = [
    pytest.param(lambda: skew(nn.Linear(4, 4)), is_skew, 6, id="skew"),
    pytest.param(lambda: negative_definite(nn.Linear(4, 4), margin=0.5), is_negative, 10, id="negative definite"),
    pytest.param(lambda: orthogonal(nn.Linear(4, 4).double()), is_orthonormal, 16, id="orthogonal"),
]


def test_the_checkers_tell_matrices_apart():
    free = torch.randn(4, 4, dtype=F64)
    assert not is_skew(free)
    assert not is_negative(free)
    assert not is_orthonormal(free)
    assert not is_negative(-0.1 * torch.eye(4, dtype=F64))


@pytest.mark.parametrize(("make", "holds", "free"), FORMS)
def test_the_form_survives_training_drawing_copies_and_files(make, holds, free):
    layer = make().double()
    assert holds(layer.weight)
    assert parameter_count(layer) == free + 4
    before = layer.weight.detach().clone()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        (layer(torch.randn(8, 4, dtype=F64)) - 1).square().mean().backward()
        optimiser.step()
        assert holds(layer.weight)
    assert float((layer.weight - before).detach().abs().max()) > 1e-3
    twin, other = copy.deepcopy(layer), make().double()
    other.load_state_dict(layer.state_dict())
    for each in (twin, other):
        assert_close(each.weight, layer.weight)
    trained = layer.weight.detach().clone()
    for seed in (0, 0, 1):
        initialise(layer, kaiming, generator=generator(seed, 1))
        assert holds(layer.weight)
        assert float((layer.weight - trained).detach().abs().max()) > 1e-3
        trained = layer.weight.detach().clone() if seed == 1 else trained
    initialise(twin, kaiming, generator=generator(1, 1))
    assert_close(twin.weight, layer.weight)
    assert float(layer.bias.detach().abs().max()) == 0


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_rectangular_layers_lie_on_stiefels_manifold(shape):
    layer = orthogonal(nn.Linear(*shape).double())
    assert is_orthonormal(layer.weight)
    initialise(layer, normal, 3.0, generator=generator(0, 1))
    assert is_orthonormal(layer.weight)
    potential = Potential(layer)
    z = torch.randn(4, shape[0], dtype=F64)
    assert_close(potential(z), torch.tanh(layer(z)) @ layer.weight)


def test_a_weight_of_the_form_is_taken_as_it_is_and_another_refused():
    made = torch.randn(4, 4, dtype=F64)
    layer = skew(nn.Linear(4, 4).double())
    layer.weight = made - made.mT
    assert_close(layer.weight, made - made.mT)
    with pytest.raises(ValueError, match="skew-symmetric"):
        layer.weight = made
    layer = negative_definite(nn.Linear(4, 4).double(), margin=0.1)
    wanted = -(made @ made.mT) - torch.eye(4, dtype=F64)
    layer.weight = wanted
    assert_close(layer.weight, wanted)
    with pytest.raises(ValueError, match="symmetric matrix"):
        layer.weight = made
    with pytest.raises(ValueError, match=r"eigenvalues below −0\.1"):
        layer.weight = torch.eye(4, dtype=F64)


def test_other_parametrisations_are_drawn_anew_too_or_refused():
    layer = parametrizations.weight_norm(nn.Linear(3, 2).double())
    before = layer.weight.detach().clone()
    initialise(layer, kaiming, generator=generator(0, 1))
    assert float((layer.weight - before).detach().abs().max()) > 1e-3
    plain = initialise(nn.Linear(3, 2).double(), kaiming, generator=generator(0, 1))
    assert_close(layer.weight, plain.weight)

    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = nn.Linear(3, 2)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    with pytest.raises(ValueError, match="no right_inverse"):
        put_weight(layer, torch.zeros(2, 3))


@pytest.mark.parametrize("width", [3, 8, 64])
def test_a_negative_definite_layer_is_made_of_the_lower_triangle_at_every_width(width):
    for margin in (0.0, 0.5):
        layer = nn.Linear(width, width)
        lower = layer.weight.detach().tril()
        made = negative_definite(layer, margin=margin)
        assert_close(made.weight, -lower @ lower.mT - margin * torch.eye(width))
        before = made.weight.detach().clone()
        made.weight = before  # L is singular to rounding
        assert_close(made.weight, before, rtol=1e-5, atol=1e-6)
    potential = Potential(nn.Linear(width, width))
    assert DissipativeField(potential, width)(torch.randn(2, width)).shape == (2, width)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_a_layer_of_zeros_becomes_minus_the_margin(margin):
    layer = nn.Linear(3, 3)
    nn.init.zeros_(layer.weight)
    made = negative_definite(layer, margin=margin)
    assert_close(made.weight, -margin * torch.eye(3))
    made.weight = -margin * torch.eye(3)
    assert_close(made.weight, -margin * torch.eye(3))
    with pytest.raises(ValueError, match="eigenvalues below"):
        made.weight = (1e-3 - margin) * torch.eye(3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_forms_are_held_in_half_precision(dtype):
    raw = torch.randn(4, 4).to(dtype)
    for make, expected in (
        (skew, lambda a: a.tril(-1) - a.tril(-1).mT),
        (lambda layer: negative_definite(layer, margin=0.5), lambda a: -a.tril() @ a.tril().mT - 0.5 * torch.eye(4)),
    ):
        layer = nn.Linear(4, 4).to(dtype)
        layer.weight.data.copy_(raw)
        made = make(layer)
        assert made.weight.dtype == dtype
        assert_close(made.weight.double(), expected(raw.double()).double(), rtol=0.05, atol=0.05)  # 8 bits
    with pytest.raises(ValueError, match="16 bits"):
        orthogonal(nn.Linear(4, 4).to(dtype))


@pytest.mark.parametrize("make", [skew, negative_definite])
def test_a_layer_made_without_values_takes_those_that_are_loaded(make):
    other = make(nn.Linear(4, 4))
    layer = make(nn.Linear(4, 4, device="meta"))
    assert layer.weight.device.type == "meta"
    layer.to_empty(device="cpu").load_state_dict(other.state_dict())
    assert torch.equal(layer.weight, other.weight)
    with pytest.raises(ValueError, match="meta device"):
        orthogonal(nn.Linear(4, 4, device="meta"))


@pytest.mark.parametrize("make", [skew, negative_definite, orthogonal])
def test_weights_of_which_no_form_can_be_made_are_refused(make):
    bad = nn.Linear(3, 3)
    bad.weight.data[1, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        make(bad)
    with pytest.raises(ValueError, match="imaginary"):
        make(nn.Linear(3, 3, dtype=torch.complex64))
    for module in (make(nn.Linear(3, 3)), nn.Linear(3, 3)):
        for weight in (torch.zeros(5, 5), torch.zeros(3), torch.zeros(1, 1)):
            with pytest.raises(ValueError, match="shape"):
                put_weight(module, weight)
        before = module.weight.detach().clone()
        for value in (torch.nan, -torch.inf):
            with pytest.raises(ValueError, match="put_weight needs finite weight"):
                put_weight(module, torch.eye(3).fill_diagonal_(value))
        assert_close(module.weight, before)


def test_layers_that_cannot_have_the_form_are_refused():
    with pytest.raises(ValueError, match="square layer"):
        skew(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="square layer"):
        negative_definite(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="margin"):
        negative_definite(nn.Linear(2, 2), margin=-1.0)
    for again in (skew, orthogonal):
        with pytest.raises(ValueError, match="parametrisation already"):
            again(skew(nn.Linear(3, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("field", [AntisymmetricField(4), DissipativeField(dense_potential(4, 6), 4)])
def test_the_tangent_kernel_of_restricted_nets_is_that_of_their_gradients(field):
    net = ResidualNet(nn.Identity(), [Segment([Block(field, scale=0.3)])], orthogonal(nn.Linear(4, 2))).double()
    x = torch.randn(3, 4, dtype=F64)
    rows = []
    for each in x:
        for out in range(2):
            found = torch.autograd.grad(net(each[None])[0, out], list(net.parameters()))
            rows.append(torch.cat([one.flatten() for one in found]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    assert_close(ntk(net, x), expected.reshape(3, 2, 3, 2).permute(0, 2, 1, 3))


@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_no_eigenvalue_of_an_antisymmetric_field_has_a_positive_real_part(damping):
    field = AntisymmetricField(5, damping=damping).double()
    for z in torch.randn(5, 5, dtype=F64):
        found = torch.autograd.functional.jacobian(lambda z: field(z[None])[0], z)
        real = torch.linalg.eigvals(found).real
        assert float(real.max()) < (1e-12 if damping == 0 else 0)


def energies(field, steps=60):
    with torch.no_grad():
        z = torch.randn(6, 4, dtype=F64)
        found = [field.energy.value(z)]
        for _ in range(steps):
            (z,) = step(lambda _, parts: (field(parts[0]),), KUTTA4, 0.0, (z,), 0.05).end
            found.append(field.energy.value(z))
    return torch.stack(found)


@pytest.mark.slow
def test_the_energy_of_a_dissipative_field_falls_and_stays_without_loss():
    potential = dense_potential(4, 6).double()
    with torch.no_grad():
        potential.linear.weight.mul_(2)
    falling = energies(DissipativeField(potential, 4).double())
    assert float(falling.diff(dim=0).max()) < 1e-12
    assert float((falling[0] - falling[-1]).min()) > 1e-3
    kept = energies(DissipativeField(potential, 4, dissipates=False).double())
    assert_close(kept[-1], kept[0], rtol=1e-6, atol=1e-6)  # Kutta's method at h = 0.05


def test_the_energy_falls_at_the_rate_of_its_gradient():
    field = DissipativeField(dense_potential(4, 6), 4).double()
    z = torch.randn(3, 4, dtype=F64)
    gradient = field.energy(z)
    assert_close((gradient * field(z)).sum(1), torch.einsum("ni,ij,nj->n", gradient, field.loss.weight, gradient))
    assert float((gradient * field(z)).sum(1).detach().max()) < 0
