"""The verdict on a training run: nets of known regime, three hard cases, and broken models, which have none."""

from copy import deepcopy
from math import inf, nan

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import regimes
from regimes.activations import RELU, TANH
from regimes.conventions import generator
from regimes.models.mlp import MLP
from regimes.models.scaling import Centred
from regimes.tangent.diagnosis import kernels
from regimes.tangent.diagnosis.diagnose import OPTIONAL, diagnose
from regimes.tangent.diagnosis.features import Activities, activity, low_rank_measure, richness
from regimes.tangent.diagnosis.gaps import Outputs
from regimes.tangent.diagnosis.judgement import Limits, judge_run
from regimes.tangent.diagnosis.pair import make_pair
from regimes.tangent.diagnosis.readings import Cost, NotMeasured, Reading, of_points, read, root_ratio
from regimes.tangent.laziness import cka

X = torch.randn(30, 4, generator=generator(1), dtype=torch.float64)
Y = (X[:, :1] * X[:, 1:2]).tanh()
OTHERS = torch.randn(20, 4, generator=generator(2), dtype=torch.float64)
LABELS = (X[:, 0] > 0).long()


def descend(model, lr, steps, *, weight_decay=0.0, x=X, y=Y, groups=None, risk=None):
    start = deepcopy(model)
    optimiser = torch.optim.SGD(groups or model.parameters(), lr, weight_decay=weight_decay)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (model(x) - y).square().sum(1).mean() / 2 if risk is None else risk(model(x), y)
        loss.backward()
        optimiser.step()
    return start, model


def net(width=30, seed=0, outputs=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, outputs)).double()


def judged(start, end, x=X, y=Y, **options):
    return diagnose(start, end, x, y, omit=OPTIONAL - {"layers"}, **options)


def wide(width=512, depth=2, activation=RELU):
    return MLP([4, *[width] * (depth - 1), 1], activation=activation, generator=generator(3))


def trained(alpha=1.0, lr=0.2, steps=100):
    return descend(Centred(net(), alpha), lr / alpha**2, steps)


@pytest.mark.slow
def test_a_large_scale_is_lazy_and_a_small_one_is_not():
    assert judged(*trained(100.0)).verdict == "lazy"
    found = judged(*trained(0.3, steps=200))
    assert found.verdict == "not lazy"
    assert found.judged.deciding == "linearisation_gap"
    assert found.judged.words.startswith("not lazy: the linearisation gap ")
    assert "is above 0.1" in found.judged.words


@pytest.mark.slow
def test_a_model_that_is_linear_in_its_weights_is_lazy_however_far_it_moves():
    y = 5 * X[:, :1] + 1
    found = judged(*descend(nn.Linear(4, 1).double(), 0.1, 100, y=y), y=y)
    assert found.verdict == "lazy"
    assert found.readings["linearisation_gap"].value < 1e-12


@pytest.mark.slow
def test_weight_decay_moves_the_kernel_of_a_lazy_net_and_it_is_lazy_all_the_same():
    start, end = descend(wide(), 0.2, 400, weight_decay=2e-3)
    found = diagnose(start, end, X, Y, omit=OPTIONAL - {"kernel_drift", "kernel_cka"})
    assert found.readings["kernel_drift"].low > 0.2
    assert found.readings["kernel_cka"].value > 0.99
    assert found.readings["linearisation_gap"].low > 0.1
    assert found.readings["gap_after_decay"].high < 0.1
    assert found.verdict == "lazy"
    assert "with weight decay set apart" in found.judged.words
    assert judged(start, end, decay=False).verdict == "not lazy"


@pytest.mark.slow
def test_beyond_the_exact_size_kernels_are_probed(monkeypatch):
    pair = trained(0.5)
    names = {"kernel_drift", "kernel_cka", "alignment_start", "alignment_end"}
    exact = diagnose(*pair, X, Y, omit=OPTIONAL - names)
    assert not exact.notes
    monkeypatch.setattr(kernels, "EXACT", 10)
    found = diagnose(*pair, X, Y, omit=OPTIONAL - names)
    assert "random probes" in found.notes[0]
    for name in names - {"kernel_drift"}:  # one output, and as many probes as dimensions: the same numbers
        assert_close(found.readings[name].value, exact.readings[name].value, atol=1e-6, rtol=0)
    assert 0.2 < found.readings["kernel_drift"].value / exact.readings["kernel_drift"].value < 5  # of centred kernels


@pytest.mark.slow
def test_passes_that_several_readings_share_count_once(monkeypatch):
    names = {"kernel_drift", "kernel_cka", "alignment_start", "alignment_end"}
    units = {"activation_flips", "richness_start", "richness_end"}

    def passes(omit):
        found = diagnose(net(), net(seed=1), X, Y, omit=OPTIONAL - names - units | omit).readings
        return [sum(found[name].passes for name in group) for group in (names, units)]

    assert passes(set()) == passes({"kernel_drift", "activation_flips"}) == [2 * (1 + 1), 2]
    monkeypatch.setattr(kernels, "EXACT", 10)
    monkeypatch.setattr(kernels, "PROBES", 8)
    pair, counted = make_pair(net(), net(seed=1), X), []
    both = kernels.probed(pair, 30, Y, generator(0), 2**29)
    assert sum(each.passes for each in both[:2]) > 2 * 8
    counted = [kernels.estimated(name, both).passes for name in sorted(names)]
    assert counted == [sum(each.passes for each in both[:2]), 0, 0, 0]


@pytest.mark.slow
def test_weight_decay_does_not_make_a_rich_net_lazy():
    assert judged(*descend(Centred(net(), 0.5), 0.4, 600, weight_decay=1e-3)).verdict == "not lazy"


@pytest.mark.slow
def test_decay_that_removes_large_outputs_does_not_make_what_was_learned_beside_it_lazy():
    model = wide(width=64)
    with torch.no_grad():
        for value in model.parameters():
            value *= 0.3
    small, end = descend(model, 0.3, 1500)
    large = deepcopy(small)
    with torch.no_grad():
        for value in large.parameters():
            value *= 12
    assert judged(small, end).verdict == "not lazy"
    assert judged(large, end).verdict == "not lazy"


@pytest.mark.slow
def test_a_rich_net_that_fits_wrong_targets_is_not_lazy():
    wrong = Y[torch.randperm(len(Y), generator=generator(5))]
    start, end = descend(Centred(net(), 0.3), 2.0, 1000, y=wrong)
    assert (end(X) - Y).square().mean() > 0.5 * Y.square().mean()  # no good at the task itself
    assert judged(start, end, y=wrong).verdict == "not lazy"


@pytest.mark.slow
def test_a_deep_net_that_is_lazy_in_all_layers_but_one_is_not_lazy_and_the_layer_is_named():
    model = wide(width=128, depth=4, activation=TANH)
    fast = model.weights[1]
    groups = [{"params": [p for p in model.parameters() if p is not fast], "lr": 0.02}, {"params": [fast], "lr": 60.0}]
    found = judged(*descend(model, 0.0, 150, groups=groups))
    assert found.verdict == "not lazy"
    assert "it comes of one layer, weights.1" in found.judged.words
    assert {layer.name: layer.gap > 0.1 for layer in found.layers} == {f"weights.{n}": n == 1 for n in range(4)}
    slow = descend(wide(width=128, depth=4, activation=TANH), 0.02, 150)
    assert max(layer.gap for layer in judged(*slow).layers) < 0.1


def test_the_gap_of_a_quadratic_model_is_its_second_order_term():
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[1.0], [2.0], [0.5], [-1.0]], dtype=torch.float64))

        def forward(self, x):
            return (x @ self.w).square()

    start, end = Square(), Square()
    with torch.no_grad():
        end.w.add_(0.3)
    change = end(X) - start(X)
    beyond = (X @ (end.w - start.w)).square()
    found = judged(start, end, y=end(X).detach())
    assert_close(found.readings["linearisation_gap"].value, float((beyond.norm() / change.norm()).detach()))


@pytest.mark.slow
def test_every_number_is_measured_with_its_interval_and_its_cost():
    found = diagnose(*trained(), X, Y, held_out=OTHERS)
    missing = {name: reading.reason for name, reading in found.readings.items() if reading.value is None}
    assert set(missing) == {"gap_after_decay", "richness_start"}  # nothing shrank; a centred net starts at 0
    for name, reading in found.readings.items():
        if name not in (*missing, "weight_motion"):
            assert reading.low <= reading.value <= reading.high, name
        assert reading.seconds >= 0
    assert found.readings["linearisation_gap"].passes == 3
    assert found.points == 30
    assert found.parameters == 4 * 30 + 30 + 30 + 1
    assert str(found).startswith(found.judged.words)


@pytest.mark.slow
def test_the_tangent_model_of_a_lazy_net_agrees_with_it_and_that_of_a_rich_one_does_not():
    lazy, rich = (
        diagnose(*pair, X, Y, held_out=OTHERS, omit=OPTIONAL - {"tangent_disagreement"}).readings
        for pair in (trained(100.0), trained(0.3, lr=0.3, steps=600))
    )
    assert lazy["tangent_disagreement"].high < 0.05
    assert rich["tangent_disagreement"].low > 0.1


@pytest.mark.slow
def test_labels_are_judged_by_cross_entropy():
    start, end = descend(Centred(net(outputs=2), 30.0), 1e-3, 60, y=LABELS, risk=nn.functional.cross_entropy)
    found = diagnose(start, end, X, LABELS, held_out=OTHERS)
    assert found.verdict == "lazy"
    assert_close(found.readings["risk_end"].value, float(nn.functional.cross_entropy(end(X), LABELS).detach()))
    assert found.readings["tangent_disagreement"].value < 0.1
    assert 0 < found.readings["kappa"].low <= found.readings["kappa"].value <= found.readings["kappa"].high < 1


@pytest.mark.slow
def test_the_decay_that_is_set_apart_never_lengthens_weights():
    pair = make_pair(*descend(net(), 0.3, 200), X)
    from regimes.tangent.diagnosis.gaps import decayed_start

    shrunk, least = decayed_start(pair)
    assert least <= 1
    for name, value in shrunk.items():
        assert value.norm() <= pair.w_0[name].norm()


@pytest.mark.slow
def test_batch_norm_is_measured_as_in_training_on_the_points_as_one_batch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)).double()
    start, end = descend(model, 0.1, 100)
    with torch.no_grad():
        as_trained = (deepcopy(start)(X), deepcopy(end)(X))
    start, end = start.eval(), end.eval()
    pair = make_pair(start, end, X)
    assert_close(pair.outputs(pair.w_0), as_trained[0])
    assert_close(pair.outputs(pair.w_T, end=True), as_trained[1])
    small = {name: 1e-6 * value for name, value in pair.moved.items()}
    there = pair.outputs({name: value + small[name] for name, value in pair.w_0.items()})
    assert_close(pair.step(pair.w_0, [small])[0], there - as_trained[0], rtol=1e-4, atol=1e-12)  # a difference quotient
    found = diagnose(start, end, X, Y, held_out=OTHERS)
    assert "Batch norms" in found.notes[0]
    assert "batch norm mixes the samples" in found.readings["tangent_disagreement"].reason
    assert found.verdict == "not lazy"


def test_without_motion_there_is_nothing_to_tell():
    found = judged(net(), net())
    assert found.verdict == "cannot tell"
    assert "the weights have not moved" in found.judged.words


@pytest.mark.slow
def test_targets_that_were_not_trained_on_give_no_verdict():
    for pair in (trained(100.0), trained(0.3, steps=300)):
        found = judged(*pair, y=-Y)
        assert found.verdict == "cannot tell"
        assert "has not fallen surely" in found.judged.words


def test_a_training_that_has_hardly_begun_is_not_called_lazy():
    start, end = Reading(1.0, 0.99, 1.01), Reading(0.95, 0.94, 0.96)
    readings = {"linearisation_gap": Reading(0.01, 0.009, 0.011), "risk_start": start, "risk_end": end}
    found = judge_run(readings, 100, "", Limits())
    assert found.verdict == "cannot tell"
    assert found.deciding == "risk_fall"
    assert judge_run(readings | {"risk_end": Reading(0.8)}, 100, "", Limits()).verdict == "lazy"


@pytest.mark.slow
def test_few_points_give_no_verdict():
    start, end = trained(100.0)
    for few in (1, 7):
        assert judged(start, end, X[:few], Y[:few]).verdict == "cannot tell"


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return self.inner(x - x.mean(0))


def with_nan(model):
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = nan
    return model


def pairs():
    dropout = nn.Sequential(nn.Dropout(), net())
    tanh, relu = net(), nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 1)).double()
    frozen = net(seed=1).requires_grad_(False)
    return {
        "NaN weights": (net(), with_nan(net(seed=1)), "finite parameter '0.weight' of model_T"),
        "train mode": (dropout, dropout, "model.eval"),
        "batch statistics": (nn.BatchNorm1d(4).double(), nn.BatchNorm1d(4).double(), "model.eval"),
        "mixed samples": (Mixing(), Mixing(), "maps each sample by itself"),
        "half precision": (net().half(), net(seed=1).half(), "float32 or float64"),
        "two precisions": (net(), net(seed=1).float(), "is in torch.float64 and in torch.float32"),
        "two widths": (net(), net(width=31), "one network before and after"),
        "two activations": (tanh, relu, "their code or settings differ"),
        "two kinds": (net(), nn.Linear(4, 1).double(), "one network before and after"),
        "frozen weights that moved": (net().requires_grad_(False), frozen, "frozen weights"),
        "scripted": (*(torch.jit.script(net(seed=seed)) for seed in (0, 1)), "a model of Python modules"),
        "inputs that do not fit": (net().append(nn.Linear(1, 1).double()), net(), "one network"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", pairs())
def test_broken_models_are_refused_in_words(case):
    start, end, words = pairs()[case]
    with pytest.raises(ValueError, match=words):
        judged(start, end)


def test_masks_may_hold_minus_infinity_and_no_other_buffer_may():
    start, end = net(), net(seed=1)
    for model in (start, end):
        model.register_buffer("mask", torch.tensor([-inf, 0.0]))
    make_pair(start, end, X)
    for odd in (inf, nan):
        start.mask[0] = odd
        with pytest.raises(ValueError, match="finite buffer 'mask' of model_0"):
            make_pair(start, end, X)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y[:, [0, 0]], "1 a sample"),
        (X, LABELS, "an output for each class"),
        (X, Y * nan, "finite y"),
        (X * nan, Y, "finite x"),
        (X[:, :3], Y, "samples that fit"),
    ],
)
def test_samples_that_do_not_fit_are_refused_in_words(x, y, words):
    with pytest.raises(ValueError, match=words):
        judged(*trained(), x, y)


@pytest.mark.slow
def test_targets_that_a_constant_fits_as_well_give_no_verdict():
    wild = 10 * (X[:, 1:2] + 0.3)
    start, end = descend(net(), 0.05, 400, y=Y, x=X)
    with torch.no_grad():
        start[2].weight.mul_(100.0)  # so wild that its risk falls whatever the targets are
    for y in (Y[torch.randperm(30, generator=generator(6))], wild / 20, torch.zeros_like(Y)):
        found = judged(start, end, y=y)
        assert found.verdict == "cannot tell", found.judged.words
    assert judged(start, end, y=Y, decay=False).verdict != "cannot tell"


@pytest.mark.slow
def test_labels_that_were_not_trained_on_give_no_verdict():
    start, end = descend(net(outputs=2), 0.3, 200, y=LABELS, risk=nn.functional.cross_entropy)
    with torch.no_grad():
        start[2].weight.mul_(30.0)
    assert judged(start, end, y=LABELS).verdict != "cannot tell"
    other = LABELS[torch.randperm(30, generator=generator(4))]
    assert judged(start, end, y=other).verdict == "cannot tell"


@pytest.mark.slow
def test_weights_frozen_after_the_training_count_as_trained():
    start, end = trained(100.0)
    assert judged(start, end.requires_grad_(False)).verdict == "lazy"


@pytest.mark.slow
def test_the_models_of_the_caller_stay_as_they_are():
    start, end = (module.float() for module in trained(100.0))
    before = [deepcopy(module.state_dict()) for module in (start, end)]
    judged(start, end, X.float(), Y.float())
    for module, state in zip((start, end), before, strict=True):
        for name, value in module.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_collapsed_features_are_rich_and_random_ones_are_not():
    outputs = torch.nn.functional.one_hot(torch.arange(30) % 3, 3).double()
    assert low_rank_measure(outputs * 2 + 1, outputs) < 1e-12
    assert low_rank_measure(torch.randn(30, 200, dtype=torch.float64), outputs) > 0.3
    assert_close(low_rank_measure(torch.eye(30, dtype=torch.float64), outputs), 1 - (2 / 29) ** 0.5)


def test_richness_is_one_less_the_alignment_with_the_projector():
    phi, f = torch.randn(12, 7, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([torch.ones(12, 1, dtype=torch.float64), f], 1)).Q
    assert_close(low_rank_measure(phi, f), 1 - float(cka(phi @ phi.T, basis @ basis.T)))


def test_a_kernel_that_is_only_scaled_has_alignment_one():
    root = torch.randn(9, 9, dtype=torch.float64)
    kernel = root @ root.T
    assert_close(cka(kernel, 3 * kernel + 2), torch.ones((), dtype=torch.float64))
    assert cka(kernel, torch.diag(torch.arange(9.0, dtype=torch.float64))) < 0.9


def test_an_interval_over_half_subsamples_has_the_width_of_the_standard_error():
    values = torch.randn(400, dtype=torch.float64, generator=generator(7)).square() + 1
    found = root_ratio(values.square(), torch.ones_like(values), generator(8), 1)
    squares = values.square()
    error = float(squares.std() / len(values) ** 0.5) / (2 * found.value)
    assert 0.7 < (found.high - found.low) / (2 * 1.96 * error) < 1.3  # 200 halves


def test_an_interval_that_holds_the_threshold_gives_no_verdict():
    readings = {"linearisation_gap": Reading(0.1, 0.08, 0.12), "risk_start": Reading(1.0), "risk_end": Reading(0.1)}
    assert judge_run(readings, 100, "", Limits()).verdict == "cannot tell"
    for gap, verdict in ((0.05, "lazy"), (0.2, "not lazy")):
        readings["linearisation_gap"] = Reading(gap, 0.9 * gap, 1.1 * gap)
        assert judge_run(readings, 100, "", Limits()).verdict == verdict
    assert judge_run(readings, 100, "", Limits(linearisation_gap=0.5)).verdict == "lazy"


GAP = Reading(0.01, 0.009, 0.011)
FALLEN = {"risk_start": Reading(1.0), "risk_end": Reading(0.1)}


@pytest.mark.parametrize(
    "change",
    [
        {"linearisation_gap": Reading(nan, nan, nan)},
        {"linearisation_gap": Reading(0.01, nan, nan)},
        {"linearisation_gap": Reading(0.01, nan, 0.02)},
        {"linearisation_gap": Reading(0.2, 0.15, nan)},
        {"linearisation_gap": Reading(0.01)},
        {"linearisation_gap": Reading(nan, nan, nan), "gap_after_decay": Reading(nan, nan, nan)},
        {"risk_start": Reading(nan)},
        {"risk_end": Reading(nan)},
        {"risk_start": Reading(None, reason="it came out as NaN or infinite")},
        {"risk_start": Reading(inf), "risk_end": Reading(inf)},
    ],
)
def test_no_verdict_comes_of_nan(change):
    assert judge_run({"linearisation_gap": GAP, **FALLEN}, 100, "", Limits()).verdict == "lazy"
    assert judge_run({"linearisation_gap": GAP, **FALLEN} | change, 100, "", Limits()).verdict == "cannot tell"


def test_a_gap_that_is_nan_does_not_hide_one_that_is_known():
    readings = {"linearisation_gap": Reading(nan, nan, nan), "gap_after_decay": GAP, **FALLEN}
    assert judge_run(readings, 100, "", Limits()).deciding == "gap_after_decay"


@pytest.mark.parametrize("limit", [nan, inf, 0.0, -1.0, "a", None, True])
@pytest.mark.parametrize("name", Limits._fields)
def test_limits_that_are_none_are_refused(name, limit):
    limits = Limits(**{name: limit})
    with pytest.raises(ValueError, match=f"judge_run needs the limit {name}"):
        judge_run({"linearisation_gap": GAP, **FALLEN}, 100, "", limits)
    with pytest.raises(ValueError, match=f"diagnose needs the limit {name}"):
        diagnose(net(), net(), X, Y, limits=limits)


class Gated(nn.Module):
    """A net with a gate, a temperature and a length, each one number, and a clip that nothing reaches."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 8).double(), nn.Linear(8, 1).double()
        self.gate, self.scale = (nn.Parameter(torch.tensor(0.3, dtype=torch.float64)) for _ in range(2))

    def forward(self, x):
        hidden = torch.tanh(self.inner(x)) * torch.sigmoid(self.gate) * nn.functional.softplus(self.scale)
        return self.outer(hidden.clamp(-50, 50)) * self.scale.clamp(max=4.0).exp()


def test_functions_of_a_single_number_are_no_activations():
    seen = activity(Gated(), X, 1)
    assert [each.shape for each in seen.preactivations] == [(30, 8)]
    assert seen.features.shape == (30, 8)


@pytest.mark.slow
def test_a_net_with_gates_is_diagnosed_and_its_clip_hides_no_kappa():
    found = diagnose(*descend(Gated(), 0.1, 60), X, Y, omit={"tangent_disagreement", "layers"})
    for name in ("activation_flips", "richness_end", "kappa"):
        assert found.readings[name].value is not None, found.readings[name]
    relu = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    bent = diagnose(*descend(relu, 0.1, 60), X, Y, omit=OPTIONAL - {"kappa"}).readings["kappa"]
    assert bent.value is None
    assert "bends smoothly" in bent.reason
    assert not bent.reason.endswith("...")


@pytest.mark.parametrize(
    ("function", "counts"),
    [
        (torch.relu, True),
        (lambda z: z.clone().relu_(), True),
        (lambda z: z.clamp(min=0), True),
        (lambda z: z.clamp_min(0.0), True),
        (lambda z: z.clamp(0, 6), True),
        (nn.functional.hardtanh, True),
        (lambda z: z.clamp(max=5.0), False),
        (lambda z: z.clamp(-5, 5), False),
        (torch.abs, False),
        (lambda z: torch.maximum(z, z / 2), False),
        (lambda z: nn.functional.max_pool1d(z[:, None], 2)[:, 0], False),
    ],
)
def test_only_activations_can_flip(function, counts):
    class Net(nn.Module):
        def forward(self, x):
            return function(x)

    assert len(activity(Net(), X, 4).preactivations) == counts


def test_what_stands_in_the_way_of_a_look_at_the_units_is_the_reason_of_these_readings_alone(monkeypatch):
    def broken(*_):
        raise RuntimeError("no look")

    monkeypatch.setattr("regimes.tangent.diagnosis.features.activity", broken)
    found = diagnose(net(), net(seed=1), X, Y, omit=OPTIONAL - {"activation_flips", "richness_end"})
    assert found.readings["activation_flips"].reason == found.readings["richness_end"].reason == "no look"
    assert found.readings["linearisation_gap"].value > 0


@pytest.mark.parametrize(("of_one_class", "interval"), [(30, True), (6, True), (1, False)])
def test_a_half_that_holds_one_class_hides_no_alignment(of_one_class, interval):
    labels = (torch.arange(60) < of_one_class).double()[:, None]
    root = torch.randn(60, 5, dtype=torch.float64, generator=generator(9)) + labels
    kernel, outer = root @ root.mT, labels @ labels.mT
    found = read(lambda: kernels.target_alignment(kernel, labels, Cost(1), generator(0)))
    assert_close(found.value, float(cka(kernel, outer)))
    assert (found.low is not None) == interval
    if interval:
        assert found.low <= found.value <= found.high
    seen = activity(net(), torch.randn(60, 4, dtype=torch.float64), 1)
    rich = read(lambda: richness(Activities(seen, seen, Cost(2)), labels, generator(0)))
    assert rich.value is not None
    assert (rich.low is not None) == interval


def test_only_what_cannot_be_measured_on_all_points_is_missing():
    def measure(some):
        if len(some) == 20:
            raise NotMeasured("on all points")
        return 1.0

    found = read(lambda: of_points(measure, 20, generator(0), 1, low=0.0))
    assert found.reason == "on all points"
    labels = torch.zeros(60, 1, dtype=torch.float64)
    assert (
        "the same at all points"
        in read(lambda: kernels.target_alignment(torch.eye(60), labels, Cost(1), generator(0))).reason
    )


def test_a_half_in_which_nothing_has_moved_leaves_the_others_their_interval():
    above, below = torch.ones(40), torch.zeros(40)
    below[:4] = 1.0  # one half in twenty is without any of them, and 0 / 0
    found = root_ratio(above * (below > 0), below, generator(0), 1)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.slow
def test_outputs_that_do_not_change_have_no_gap():
    same = Outputs(torch.ones(9, 1), torch.ones(9, 1))
    assert not same.change.any()
    model, other = net(), net()
    with torch.no_grad():
        for each in (model, other):
            each[2].weight.zero_()
        other[0].weight.add_(1.0)  # moves nothing that is seen
    assert "the outputs on these points have not changed" in judged(model, other).judged.words


def test_diagnose_is_public_and_explained():
    assert regimes.diagnose is diagnose
    assert len(diagnose.__doc__) > 200
