import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.models.build import build
from regimes.models.initialise import (
    LAWS,
    initialise,
    kaiming,
    kaiming_uniform,
    lecun,
    normal,
    orthogonal,
    truncated,
    uniform,
    xavier,
)


def weights(layer, law, gain=1.0, seed=0, **options):
    return initialise(layer, law, gain, generator=generator(seed), **options).weight.detach()


def within_five_errors(weight, deviation):
    """Mean 0 and variance of a normal law within five standard errors."""
    count = weight.numel()
    assert abs(weight.mean().item()) < 5 * deviation / math.sqrt(count)
    assert abs(weight.var().item() / deviation**2 - 1) < 5 * math.sqrt(2 / count)


@pytest.mark.parametrize("gain", [1.0, 0.01])
@pytest.mark.parametrize(
    ("layer", "fan_out"),
    [
        (lambda: nn.Linear(300, 200), 200),
        (lambda: nn.Conv2d(30, 60, 3), 60 * 9),
        (lambda: nn.Conv2d(30, 60, 3, groups=5), 60 * 9),  # as torch counts it: all outputs, whatever the groups
        (lambda: nn.Conv1d(50, 80, 3), 80 * 3),
    ],
)
def test_kaiming_has_variance_two_over_the_outputs(layer, fan_out, gain):
    within_five_errors(weights(layer(), kaiming, gain), gain * math.sqrt(2 / fan_out))


def test_xavier_has_variance_two_over_the_inputs_and_outputs():
    within_five_errors(weights(nn.Linear(300, 200), xavier, 1.3), 1.3 * math.sqrt(2 / 500))
    within_five_errors(weights(nn.Conv2d(30, 60, 3), xavier), math.sqrt(2 / (90 * 9)))


def test_lecun_has_variance_one_over_the_inputs():
    within_five_errors(weights(nn.Linear(300, 200), lecun, 1.3), 1.3 * math.sqrt(1 / 300))
    within_five_errors(weights(nn.Conv2d(30, 60, 3), lecun), math.sqrt(1 / (30 * 9)))


@pytest.mark.parametrize(("law", "deviation"), [(uniform, 0.3), (kaiming_uniform, 0.3 * math.sqrt(2 / 200))])
def test_uniform_weights_have_the_variance_of_normal_ones_and_end_at_root_three_deviations(law, deviation):
    found = weights(nn.Linear(300, 200), law, 0.3)
    within_five_errors(found, deviation)
    assert 0.999 * math.sqrt(3) * deviation < found.abs().max() <= math.sqrt(3) * deviation * (1 + 1e-6)


def test_truncated_weights_are_normal_ones_within_two_deviations():
    found = weights(nn.Linear(300, 200), truncated, 0.3)
    within_five_errors(found, 0.3 * math.sqrt(0.7737413))  # 1 − 4 φ(2)/(2 Φ(2) − 1)
    assert 0.59 < found.abs().max() <= 0.6


@pytest.mark.parametrize("gain", [5.0, 0.01])
def test_the_normal_law_has_the_gain_as_its_deviation(gain):
    within_five_errors(weights(nn.Linear(300, 200), normal, gain), gain)
    within_five_errors(weights(nn.Conv2d(30, 60, 3), normal, gain), gain)


@pytest.mark.parametrize(("rows", "columns"), [(7, 12), (12, 7), (5, 5)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns(rows, columns):
    weight = weights(nn.Linear(columns, rows, dtype=torch.float64), orthogonal, 0.01)
    gram = weight @ weight.T if rows <= columns else weight.T @ weight
    assert_close(gram, 1e-4 * torch.eye(min(rows, columns), dtype=torch.float64))
    kernel = weights(nn.Conv2d(2, 5, 3, dtype=torch.float64), orthogonal, 2.0).flatten(1)
    assert_close(kernel @ kernel.T, 4 * torch.eye(5, dtype=torch.float64))


def test_biases_are_zero_or_drawn():
    layer = nn.Linear(10, 5000)
    weights(layer, kaiming, 3.0)
    assert torch.equal(layer.bias.detach(), torch.zeros(5000))
    weights(layer, kaiming, 3.0, biases=True)
    within_five_errors(layer.bias.detach(), 3.0)  # N(0, gain²), whatever the law of the weights


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4)])
def test_normalisations_become_the_identity(norm):
    with torch.no_grad():
        norm.weight.fill_(3)
        norm.bias.fill_(2)
    if isinstance(norm, nn.BatchNorm2d):
        norm(torch.randn(8, 4, 2, 2))
    weights(norm, normal, 0.1)
    assert torch.equal(norm.weight.detach(), torch.ones(4))
    assert torch.equal(norm.bias.detach(), torch.zeros(4))
    if isinstance(norm, nn.BatchNorm2d):
        assert torch.equal(norm.running_mean, torch.zeros(4))
        assert torch.equal(norm.running_var, torch.ones(4))
        assert norm.num_batches_tracked == 0


def test_normalisations_without_weights_keep_to_having_none_and_start_with_fresh_statistics():
    norms = nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.InstanceNorm2d(4))
    norms(torch.randn(3, 4, 2, 2) + 5)
    initialise(norms, normal, generator=generator(0))
    assert list(norms.parameters()) == []
    assert torch.equal(norms[0].running_mean, torch.zeros(4))


@pytest.mark.parametrize("law", LAWS.values())
def test_the_generator_alone_decides(law):
    def drawn(seed, noise):
        torch.manual_seed(noise)
        model = build("resnet9", (1, 8, 8), 3, filters=4, blocks=2)  # torch's own weights depend on the noise
        initialise(model, law, 0.5, generator=generator(seed))
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    assert torch.equal(drawn(1, 10), drawn(1, 20))
    assert not torch.equal(drawn(1, 10), drawn(2, 10))


def test_the_global_random_numbers_are_not_touched():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Conv2d(2, 2, 3))
    before = torch.get_rng_state()
    initialise(model, orthogonal, generator=generator(0), biases=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("law", LAWS.values())
def test_the_memory_format_does_not_matter(law):
    first = weights(nn.Conv2d(3, 4, 3), law)
    second = weights(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), law)
    assert second.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, second)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_does_not_matter():
    model = nn.Linear(5, 4)
    assert torch.equal(weights(nn.Linear(5, 4).cuda(), kaiming).cpu(), weights(model, kaiming))


def test_the_model_comes_back_and_stays_trainable():
    model = nn.Sequential(nn.Linear(3, 4))
    assert initialise(model, kaiming, generator=generator(0)) is model
    assert model[0].weight.requires_grad
    assert model[0].weight.is_leaf


def test_attention_and_norms_by_root_mean_square_are_drawn_anew():
    net = nn.ModuleList([nn.RMSNorm(4), nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 2, kdim=3, vdim=5)])
    with torch.no_grad():
        for each in net.parameters():
            each.fill_(7)
    initialise(net, orthogonal, generator=generator(0))
    assert_close(net[0].weight, torch.ones(4))
    for part in (*net[1].in_proj_weight.chunk(3), net[1].out_proj.weight, net[2].q_proj_weight):
        assert_close(part @ part.T, torch.eye(6))
    assert_close(net[2].k_proj_weight.T @ net[2].k_proj_weight, torch.eye(3))
    assert float(net[1].in_proj_bias.detach().abs().max()) == 0
    initialise(net, normal, generator=generator(0), biases=True)
    assert float(net[1].in_proj_bias.detach().abs().min()) > 0
