import pytest
import torch
from command import command
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.activations import ABSOLUTE, GELU, IDENTITY, SOFTPLUS, TANH
from regimes.models.build import build
from regimes.models.contractive import (
    ContractiveStep,
    GradientConvolution,
    NormedLinear,
    Padded,
    PairSort,
    UnitRows,
    contractive_net,
)
from regimes.models.gradient_blocks import GradientField
from regimes.models.initialise import initialise, kaiming
from regimes.models.residual import Block


def jacobian_norm(function, x):
    jacobian = torch.func.jacrev(lambda flat: function(flat.reshape(x.shape)).flatten())(x.flatten())
    return float(torch.linalg.matrix_norm(jacobian.detach(), 2))


def steps():
    for activation in (SOFTPLUS, TANH, IDENTITY):
        yield GradientField(7, 4, activation=activation), (1, 7)
    yield GradientField(3, 9), (1, 3)
    yield GradientConvolution(2, (4, 3)), (1, 2, 4, 3)
    yield GradientConvolution(3, (2, 2), 5, kernel=5), (1, 3, 2, 2)


@pytest.mark.parametrize(
    "gain", [pytest.param(1e-3, marks=pytest.mark.slow), 1.0, pytest.param(50.0, marks=pytest.mark.slow)]
)
def test_a_step_never_brings_states_apart_whatever_the_weights(gain):
    for field, shape in steps():
        initialise(field.double(), kaiming, gain, generator=torch.Generator().manual_seed(1), biases=True)
        block = Block(ContractiveStep(field))
        assert block.residual.lipschitz_of_block() == pytest.approx(1.0, abs=1e-11)
        for _ in range(3):
            one, other = 3 * torch.randn(2, *shape, dtype=torch.float64)
            assert float((block(one) - block(other)).detach().norm() / (one - other).norm()) <= 1 + 1e-12
            assert jacobian_norm(block, one) <= 1 + 1e-12


def test_a_step_one_tenth_longer_does():
    """The control: a linear field with A = I, where the bound is sharp."""
    field = GradientField(5, activation=IDENTITY).double()
    nn.init.orthogonal_(field.linear.weight)
    step = ContractiveStep(field, iterations=30)
    x = torch.randn(1, 5, dtype=torch.float64)
    assert jacobian_norm(lambda z: z + step(z), x) == pytest.approx(1.0)
    assert jacobian_norm(lambda z: z + 1.1 * step(z), x) == pytest.approx(1.2)
    assert float(step.step().detach()) == pytest.approx(2.0)


def test_a_step_is_twice_the_field_over_the_squared_norm():
    for field, shape in steps():
        z = torch.randn(4, *shape[1:])
        norm = field.convolution.weight if isinstance(field, GradientConvolution) else field.linear.weight
        step = ContractiveStep(field, iterations=12)
        if not isinstance(field, GradientConvolution):
            exact = 2 / torch.linalg.matrix_norm(norm, 2) ** 2
            assert_close(step(z), exact * field(z), rtol=5e-3, atol=1e-5)  # 12 iterations: 0.1 % of the norm


def test_a_convolution_field_is_minus_the_gradient_of_its_potential():
    field = GradientConvolution(2, (3, 4), activation=SOFTPLUS).double()
    z = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda flat: field(flat.reshape(z.shape)).flatten())(z.flatten())
    jacobian = jacobian.detach()
    assert_close(jacobian, jacobian.mT)
    assert float(torch.linalg.eigvalsh(jacobian).max()) <= 1e-12


def test_activations_that_fall_are_refused():
    for activation in (GELU, ABSOLUTE):
        with pytest.raises(ValueError, match="never falls"):
            ContractiveStep(GradientField(3, activation=activation))
    with pytest.raises(ValueError, match="images of size"):
        GradientConvolution(1, (3, 3))(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="odd"):
        GradientConvolution(1, (3, 3), kernel=2)


def test_linear_parts_have_the_norms_that_they_say():
    assert float(torch.linalg.matrix_norm(NormedLinear(9, 4).effective_weight().detach(), 2)) <= 1 + 1e-6
    rows = UnitRows(6, 3, scale=2.0)
    assert_close(rows.effective_weight().norm(dim=1), torch.full((3,), 2.0))
    x = torch.randn(5, 6)
    assert_close(rows(x), x @ rows.effective_weight().mT + 2 * rows.bias)
    assert_close(Padded((3, 4))(torch.ones(2, 2, 4)).sum((0, 2)), torch.tensor([8.0, 8.0, 0.0]))
    with pytest.raises(ValueError, match="no larger"):
        Padded((3, 4))(torch.ones(2, 4, 4))
    assert_close(PairSort()(torch.tensor([[2.0, 1.0, -3.0, 5.0]])), torch.tensor([[1.0, 2.0, -3.0, 5.0]]))


@pytest.mark.parametrize(("shape", "options"), [
    ((1, 5, 6), {"unshuffle": 2, "filters": 5, "blocks": 2, "width": 6, "dense_blocks": 1}),
    ((3, 4, 4), {"unshuffle": 2, "filters": 2, "blocks": 1, "width": 6}),
    ((1, 4, 4), {"layers": "dense", "blocks": 3, "width": 8, "hidden": 3}),
    ((4,), {"blocks": 2, "width": 3}),
])  # fmt: skip
def test_a_net_is_one_lipschitz_up_to_its_scale(shape, options):
    net = build("contractive", shape, 3, scale=4.0, **options).double()
    x = torch.randn(2, *shape, dtype=torch.float64)
    assert net(x).shape == (2, 3)
    trace = net(x, trace=True)
    assert len(trace.steps[0]) == options["blocks"]
    jacobian = torch.func.jacrev(lambda one: net(one[None])[0])(x[0]).flatten(1)
    apart = jacobian[:, None] - jacobian[None]
    assert float(apart.detach().norm(dim=2).max()) <= 8 + 1e-9


def test_layers_that_do_not_fit_the_shape_are_refused():
    with pytest.raises(ValueError, match="convolutional for images"):
        contractive_net((4,), 2, layers="convolutional")
    with pytest.raises(ValueError, match="layers as dense"):
        contractive_net((1, 4, 4), 2, layers="square")


@pytest.mark.slow
def test_a_contractive_net_is_trained_and_looked_at_from_the_command_line(tmp_path):
    """With least action and without; the trained net still is what the library says that it is."""
    small = [
        "arch_options={filters: 4, width: 6, unshuffle: 2, blocks: 1, dense_blocks: 1}",
        "train_size=80",
        "test_size=20",
    ]
    sets = [part for each in small for part in ("--set", each)]
    for more in ([], ["--lap"]):
        out = tmp_path / f"run{len(more)}"
        train = ["train", "--dataset", "digits", "--arch", "contractive", "--epochs", "4", *more, *sets]
        assert command(*train, "--out", str(out)).code == 0
        net = regimes.load(out).model
        assert 0 < regimes.lipschitz_bound(net.double()) <= 10 * 10**0.5 * 1.001  # scale times rows of length 1
        jobs = (["ot-gap", str(out / "best.pt"), "--points", "12"], ["diagnose", str(out / "best.pt")])
        for job in jobs if more else ():
            ended = command(*job, "--out", str(tmp_path / f"{job[0]}{len(more)}"))
            assert ended.code == 0, ended.err
