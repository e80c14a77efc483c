from copy import deepcopy

import pytest
import torch
from kinds_of_modules import Mixing
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.testing import assert_close

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.models.scaling import Centred


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True, dtype=torch.float64)

    def forward(self, x):
        return self.cells(x)[0][:, -1]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False, dtype=torch.float64)
        self.second = nn.Linear(3, 3, bias=False, dtype=torch.float64)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


MODELS = {
    "dense": (lambda: MLP([3, 5, 2], activation=RELU, generator=generator(0)), (4, 3)),
    "convolution": (
        lambda: (
            nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
            .double()
            .eval()
        ),
        (4, 1, 6, 6),
    ),
    "recurrent": (Recurrent, (4, 5, 3)),
    "tied": (Tied, (4, 3)),
    "attention": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dtype=torch.float64).eval(),
        (4, 5, 4),
    ),
}


def move(model: nn.Module, size: float = 0.1) -> None:
    with torch.no_grad():
        for value in model.parameters():
            value += size * torch.randn(value.shape, dtype=value.dtype)


@pytest.fixture(params=MODELS)
def case(request):
    build, shape = MODELS[request.param]
    return build(), torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", ["dense", "convolution", "tied"])
def test_the_start_is_exactly_zero(name):
    build, shape = MODELS[name]
    output = Centred(build(), 1e7)(torch.randn(shape, dtype=torch.float64))
    assert torch.equal(output, torch.zeros_like(output))


def test_the_output_is_zero_and_then_the_scaled_change(case):
    model, x = case
    before = model(x).detach()
    centred = Centred(model, 7.0)
    assert_close(centred(x), torch.zeros_like(before), rtol=0, atol=1e-14)  # fused cells round differently without grad
    move(model)
    assert (model(x) - before).abs().max() > 1e-3  # the move is seen
    assert_close(centred(x), 7.0 * (model(x) - before))


def test_only_the_model_is_trained(case):
    model, x = case
    centred = Centred(model, 3.0)
    assert [id(p) for p in centred.parameters()] == [id(p) for p in model.parameters()]
    move(model)
    start = {name: value.clone() for name, value in centred.start.state_dict().items()}
    centred(x).square().sum().backward()
    torch.optim.SGD(centred.parameters(), 0.1).step()
    for name, value in centred.start.state_dict().items():
        assert_close(value, start[name], rtol=0, atol=0)


def test_state_dict_and_deepcopy_carry_the_start(case):
    model, x = case
    build = Centred(deepcopy(model), 3.0)
    move(model)
    centred = Centred(model, 3.0)
    move(model)
    assert_close(deepcopy(centred)(x), centred(x))
    build.load_state_dict(centred.state_dict())
    assert_close(build(x), centred(x))


@pytest.mark.parametrize("outer", [lambda net: net, nn.Sequential])
def test_the_state_of_another_alpha_is_refused_and_one_without_alpha_taken(outer):
    nets = [outer(Centred(nn.Linear(2, 1), alpha)) for alpha in (0.1, 3.0, 3.0)]
    state = nets[1].state_dict()
    with pytest.raises(ValueError, match=r"state of its own alpha, 0\.1; got that of alpha=3"):
        nets[0].load_state_dict(state)
    nets[2].load_state_dict(state)
    x = torch.randn(4, 2)
    assert_close(nets[2](x), nets[1](x), rtol=0, atol=0)
    old = {name: value for name, value in state.items() if not name.endswith("_extra_state")}
    assert len(old) == len(state) - 1
    nets[0].load_state_dict(old)
    assert_close(nets[0](x) / 0.1, nets[1](x) / 3.0)


def test_it_moves_to_another_dtype_with_its_start(case):
    model, x = case
    centred = Centred(model, 1.0)
    move(model)
    expected = centred(x).detach()
    moved = deepcopy(centred).float()
    assert {value.dtype for value in moved.start.state_dict().values()} <= {torch.float32, torch.int64}
    assert_close(moved(x.float()), expected.float(), rtol=1e-4, atol=1e-4)  # float32


def test_functional_call_sees_new_parameters(case):
    model, x = case
    centred = Centred(model, 2.0)
    new = {name: value.detach() + 0.1 for name, value in centred.named_parameters()}
    expected = deepcopy(centred)
    with torch.no_grad():
        for name, value in expected.named_parameters():
            value.copy_(new[name])
    assert_close(functional_call(centred, new, (x,)), expected(x))


def test_an_ensemble_is_its_members_under_vmap():
    nets = [Centred(MLP([3, 5, 2], activation=RELU, generator=generator(seed)), 2.0) for seed in range(3)]
    for net in nets:
        move(net.model)
    params, buffers = stack_module_state(nets)
    x = torch.randn(4, 3, dtype=torch.float64)
    together = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))(params, buffers)
    assert_close(together, torch.stack([net(x) for net in nets]))


def test_the_gradient_of_the_scaled_objective_does_not_depend_on_alpha_at_a_zero_start():
    """∇[R(αh)/α²] = (1/α)·Dhᵀ∇R: at h = 0 it is Dhᵀ∇R(0)/α, so α·gradient is the same for all α."""
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    gradients = []
    for alpha in (1.0, 10.0):
        centred = Centred(MLP([3, 5, 2], activation=RELU, generator=generator(0)), alpha)
        loss = (centred(x) - y).square().sum(1).mean() / 2 / alpha**2
        gradients.append(alpha * torch.autograd.grad(loss, next(iter(centred.parameters())))[0])
    assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha as a finite number above 0; got "):
        Centred(nn.Linear(2, 1), alpha)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm1d(3), "statistics of the batch: call model.eval"),
        (nn.Dropout(0.5), "draws random numbers: call model.eval"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "track_running_stats=True"),
        (nn.RReLU(), "draws random numbers"),
        (nn.LSTM(3, 3, 2, dropout=0.5), "draws random numbers"),
    ],
)
def test_layers_that_are_no_function_of_one_sample_are_refused_with_their_name(layer, reason):
    with pytest.raises(ValueError, match=rf"layer '1' \({type(layer).__name__}\) .*{reason}"):
        Centred(nn.Sequential(nn.Linear(3, 3), layer), 1.0)


def test_eval_mode_is_accepted_and_a_later_train_mode_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    centred = Centred(model, 1.0)
    x = torch.randn(5, 3)
    assert torch.equal(centred(x), torch.zeros(5, 3))
    centred.train()
    with pytest.raises(ValueError, match="Centred needs a model that maps each sample by itself"):
        centred(x)


def test_dropout_with_probability_zero_is_no_dropout():
    outputs = Centred(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0)), 1.0).train()(torch.randn(2, 3))
    assert torch.equal(outputs, torch.zeros(2, 3))


def test_a_model_that_mixes_samples_is_refused_at_its_first_batch():
    with pytest.raises(ValueError, match="Centred needs a model that maps each sample by itself"):
        Centred(Mixing(), 2.0)(torch.randn(4, 3))


@pytest.mark.parametrize("alpha", [1e300, 1e39, 1e-44, 1e-300])
def test_a_scale_that_the_precision_cannot_hold_is_refused(alpha):
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"Centred needs an alpha that float32 can hold, .*; got .*, or model\.double"):
        Centred(nn.Linear(3, 2), alpha)(x)
    if 1e-300 < alpha < 1e300:
        assert not Centred(nn.Linear(3, 2).double(), alpha)(x.double()).any()
