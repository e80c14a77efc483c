import pytest
import torch
from kinds_of_modules import MODELS
from torch import nn
from torch.testing import assert_close

from regimes.modules import FirstBatch, frozen_copy, require_deterministic, require_separate_samples


@pytest.fixture(params=MODELS)
def case(request):
    build, shape = MODELS[request.param]
    return build().double().eval(), torch.randn(shape, dtype=torch.float64)


def test_a_frozen_copy_is_the_model_without_parameters(case):
    model, x = case
    copy = frozen_copy(model)
    assert list(copy.parameters()) == []
    assert set(copy.state_dict()) == set(model.state_dict())
    assert_close(copy(x), model(x).detach())


def test_a_frozen_copy_does_not_follow_the_model(case):
    model, x = case
    copy, before = frozen_copy(model), model(x).detach()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1)
    assert_close(copy(x), before)


def test_shared_parameters_stay_shared():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    copy = frozen_copy(model)
    assert copy[0].weight is copy[1].weight


def test_modules_of_every_kind_are_deterministic_in_eval_mode(case):
    require_deterministic(case[0], "this")


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(3), nn.Dropout2d(), nn.AlphaDropout(), nn.MultiheadAttention(4, 2, 0.1)]
)
def test_noise_and_batch_statistics_are_refused_in_train_mode_only(layer):
    with pytest.raises(ValueError, match=f"^this needs a model .* layer 'inner' \\({type(layer).__name__}\\)"):
        require_deterministic(nn.ModuleDict({"inner": layer}), "this")
    require_deterministic(nn.ModuleDict({"inner": layer}).eval(), "this")


def test_instance_norm_is_per_sample_unless_it_keeps_statistics():
    require_deterministic(nn.InstanceNorm1d(3), "this")
    with pytest.raises(ValueError, match="updates its running statistics"):
        require_deterministic(nn.InstanceNorm1d(3, track_running_stats=True), "this")


def test_a_spectral_norm_that_learns_is_refused():
    for norm in (nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm):
        layer = norm(nn.Linear(3, 3))
        with pytest.raises(ValueError, match="improves its spectral norm at each call"):
            require_deterministic(layer, "this")
        require_deterministic(layer.eval(), "this")


def test_modules_of_every_kind_keep_samples_apart(case):
    model, x = case
    require_separate_samples(model, x, "this")
    require_separate_samples(model, x[:1], "this")
    require_separate_samples(model.float(), x.float(), "this")


MIXING = {
    "the mean of the batch": lambda x: x - x.mean(0),
    "a small share of the mean": lambda x: x + 1e-3 * x.mean(0),
    "the next sample": lambda x: x.roll(1, 0),
    "the sample before": lambda x: x.roll(-1, 0),
    "the order turned round": lambda x: x.flip(0),
    "sums so far": lambda x: x.cumsum(0),
    "sums from here on": lambda x: x.flip(0).cumsum(0).flip(0),
    "a softmax over the batch": lambda x: x.softmax(0),
    "the largest": lambda x: x - x.amax(0),
    "divided by the largest of all": lambda x: x / x.abs().max(),
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixed_samples_are_found(name, n, dtype):
    with pytest.raises(ValueError, match=r"this needs a model that maps each sample by itself.*other samples"):
        require_separate_samples(MIXING[name], torch.randn(n, 5, dtype=dtype), "this")


def test_the_sample_that_holds_the_largest_entry_does_not_hide_a_division_by_it():
    x = torch.randn(6, 5)
    x[0, 0] = 9.0
    with pytest.raises(ValueError, match=r"maps each sample by itself.*other samples"):
        require_separate_samples(MIXING["divided by the largest of all"], x, "this")


@pytest.mark.parametrize("x", [torch.ones(6, 3), torch.zeros(1, 3), torch.ones(6, 3).cumsum(0)])
def test_mixed_samples_are_found_among_equal_ones(x):
    with pytest.raises(ValueError, match="maps each sample by itself"):
        require_separate_samples(lambda x: x - x.mean(0), x, "this")


@pytest.mark.parametrize("layer", [nn.TransformerEncoderLayer(4, 2, 8), nn.LSTM(4, 3), nn.MultiheadAttention(4, 2)])
def test_a_sequence_layer_with_the_batch_at_the_wrong_axis_is_found(layer):
    def call(x):
        y = layer.eval()(x, x, x) if isinstance(layer, nn.MultiheadAttention) else layer.eval()(x)
        return (y[0] if isinstance(y, tuple) else y).mean(1)

    with pytest.raises(ValueError, match="batch_first=True"):
        require_separate_samples(call, torch.randn(6, 5, 4), "this")


def test_samples_of_tokens_can_be_looked_at():
    embed = nn.Embedding(7, 3)
    x = torch.tensor([[1, 2], [3, 4], [1, 2]])
    require_separate_samples(lambda x: embed(x).mean(1), x, "this")
    with pytest.raises(ValueError, match="maps each sample by itself"):
        require_separate_samples(lambda x: embed(x).mean(0)[:1].expand(len(x), 2, 3), x, "this")
    require_separate_samples(lambda x: embed(x).mean(1), x[:1], "this")  # there is no other sample to put beside it


def test_noise_inside_a_forward_is_found_and_rounding_is_not_mixing():
    x = torch.randn(6, 3)
    with pytest.raises(ValueError, match="same output each time"):
        require_separate_samples(lambda x: nn.functional.dropout(x, 0.5, training=True), x, "this")
    require_separate_samples(lambda x: x * (1 + 1e-7 * torch.rand(())), x, "this")


@pytest.mark.parametrize("wrong", [lambda x: x.reshape(-1), lambda x: x.mean(), lambda x: [x], lambda x: x[:1]])
def test_an_output_without_a_row_for_each_sample_is_refused(wrong):
    with pytest.raises(ValueError, match="a row for each sample; four samples gave"):
        require_separate_samples(wrong, torch.randn(6, 3), "this")


def test_the_first_batch_of_two_is_looked_at_and_no_other():
    first, calls = FirstBatch(), []

    def call(x):
        calls.append(len(x))
        return x

    assert not first.look(call, torch.randn(1, 3), "this")
    assert first.look(call, torch.randn(2, 3), "this")
    assert calls == [4, 4, 4, 4]
    assert not first.look(call, torch.randn(2, 3), "this")
    assert calls == [4, 4, 4, 4]


def test_the_first_batch_waits_inside_a_transform():
    first = FirstBatch()

    def forward(x):
        first.look(lambda y: y, x, "this")
        return x

    torch.func.vmap(forward)(torch.randn(3, 4, 2))
    assert not first.seen


def test_a_frozen_lstm_uses_its_buffers_alone():
    copy = frozen_copy(nn.LSTM(3, 2, batch_first=True))
    assert not copy(torch.randn(4, 5, 3))[0].requires_grad


def test_a_frozen_copy_has_no_backward_hooks():
    model, calls = nn.Linear(3, 2), []
    model.register_full_backward_hook(lambda *_: calls.append(1))
    x = torch.randn(4, 3, requires_grad=True)
    frozen_copy(model)(x).sum().backward()
    assert calls == []
    model(x).sum().backward()
    assert calls == [1]
