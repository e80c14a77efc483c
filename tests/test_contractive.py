import pytest
import torch
from command import command
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.activations import (
    ABSOLUTE,
    ERF,
    GELU,
    IDENTITY,
    LOGISTIC,
    RELU,
    SOFTPLUS,
    TANH,
    Activation,
    piecewise_linear,
)
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
from regimes.models.restricted import orthogonal


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


def sine(slopes=None):
    return Activation("sine", torch.sin, torch.cos, 1.0, 1.0, True, slopes=slopes)


def flatter():
    """The ReLU with a largest slope of less than it has."""
    return RELU._replace(name="flatter", lipschitz=0.1)


def test_activations_that_may_fall_are_refused_whatever_they_are_called():
    falling = (GELU, ABSOLUTE, sine(), sine((0.0, 1.0)), sine((1.0, 1.0)), flatter(), RELU._replace(value=torch.sin))
    for activation in falling:
        with pytest.raises(ValueError, match=r"never falls|is what it says"):
            ContractiveStep(GradientField(3, activation=activation))
    step = ContractiveStep(GradientField(1))
    step.field.activation = sine()
    with pytest.raises(ValueError, match="never falls"):
        step.lipschitz_of_block()


def test_the_sine_would_bring_states_apart():
    """Why it is refused: A = 1, b = π, where it falls."""
    field = GradientField(1, activation=sine()).double()
    nn.init.ones_(field.linear.weight)
    nn.init.constant_(field.linear.bias, torch.pi)
    one, other = torch.tensor([[0.0], [1e-4]], dtype=torch.float64).unbind()
    moved = [z[None] + 2 * field(z[None]) for z in (one, other)]
    assert float((moved[0] - moved[1]).detach().norm()) == pytest.approx(3e-4, rel=1e-3)


def test_activations_that_never_fall_are_taken():
    for activation in (RELU, LOGISTIC, ERF, piecewise_linear(0.1), piecewise_linear(0.0, 2.0), piecewise_linear(2.0)):
        field = GradientField(4, activation=activation).double()
        step = ContractiveStep(field)
        assert step.lipschitz_of_block() == pytest.approx(1.0, abs=1e-11)
        assert jacobian_norm(Block(step), torch.randn(1, 4, dtype=torch.float64)) <= 1 + 1e-12


class Louder(GradientField):
    def forward(self, z):
        return 10 * super().forward(z)


def test_fields_that_are_others_than_they_say_are_refused():
    with pytest.raises(ValueError, match="gradient field"):
        ContractiveStep(Louder(3))

    def circular(field):
        field.convolution.padding_mode = "circular"

    def strided(field):
        field.convolution = nn.Conv2d(2, 2, 3, stride=2, padding=1)

    def orthonormal(field):
        orthogonal(field.linear)

    def hook(field):
        field.linear.register_forward_hook(lambda module, x, y: 2 * y)

    for change in (circular, strided):
        step = ContractiveStep(GradientConvolution(2, (4, 4)))
        change(step.field)
        with pytest.raises(ValueError, match="has been changed"):
            step.lipschitz_of_block()
    for change in (orthonormal, hook):
        step = ContractiveStep(GradientField(3).double())
        change(step.field)
        with pytest.raises(ValueError, match="has been changed"):
            step.lipschitz_of_block()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 1e-30, 1e-21, 1e-10])
def test_small_weights_make_small_steps(size, dtype):
    """Down to none at all, with gradients, as the bound says: as A goes to 0 so does h Aᵀσ(Az + b) with bounded h."""
    for field, shape in ((GradientField(7, 4), (5, 7)), (GradientConvolution(2, (4, 3)), (5, 2, 4, 3))):
        with torch.no_grad():
            for weight in field.parameters():
                if weight.ndim > 1:
                    weight.mul_(size)
        step = ContractiveStep(field.to(dtype))
        z = torch.randn(shape, dtype=dtype)
        moved = step(z)
        moved.square().sum().backward()
        assert bool(moved.isfinite().all())
        assert all(bool(weight.grad.isfinite().all()) for weight in step.parameters())
        assert 1 <= step.lipschitz_of_block() <= 1 + 1e-5
        if size == 0:
            assert float(moved.detach().abs().max()) == 0
            assert float(step.step().detach()) == 0


@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-30, 1e-21, 1.0, 1e25])
def test_normed_maps_have_the_norm_1_at_all_sizes_of_their_weight_and_0_for_none(size):
    normed, rows = NormedLinear(4, 3), UnitRows(4, 3, scale=2.0)
    with torch.no_grad():
        normed.weight.mul_(size)
        rows.weight.mul_(size)
        norm = float(torch.linalg.matrix_norm(normed.effective_weight(), 2))
        assert norm == pytest.approx(float(size > 0), rel=1e-3)
        assert_close(rows.effective_weight().norm(dim=1), torch.full((3,), 2.0 * (size > 0)))
    for layer in (normed, rows):
        value = layer(torch.randn(5, 4))
        value.sum().backward()
        assert bool(value.isfinite().all())
        assert size < 1e-38 or bool(layer.weight.grad.isfinite().all())  # else 1/size is no number of float32
        assert regimes.lipschitz_bound(layer) == pytest.approx(
            float(torch.linalg.matrix_norm(layer.effective_weight().detach(), 2)), rel=2e-3
        )


def test_a_row_of_zeros_has_gradient_zero():
    rows = UnitRows(4, 3)
    with torch.no_grad():
        rows.weight[1] = 0
    rows(torch.randn(5, 4)).square().sum().backward()
    assert float(rows.weight.grad[1].abs().max()) == 0
    assert 0 < float(rows.weight.grad.abs().max()) < 100
    assert_close(rows.effective_weight().norm(dim=1), torch.tensor([1.0, 0.0, 1.0]))


def test_sizes_that_do_not_fit_are_refused():
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
