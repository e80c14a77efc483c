import pytest
import torch
from kinds_of_modules import MODELS
from torch import nn
from torch.testing import assert_close

from regimes.modules import frozen_copy, require_deterministic


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
