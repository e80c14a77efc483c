"""The verdict on trainings by a loss of the caller's own: nets of known regime, agreement with the built-in losses."""

from copy import deepcopy
from math import nan

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, huber_loss, mse_loss, poisson_nll_loss
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.models.scaling import Centred
from regimes.tangent.diagnosis import kernels
from regimes.tangent.diagnosis.diagnose import OPTIONAL, diagnose
from regimes.tangent.diagnosis.judgement import Limits, judge_run
from regimes.tangent.diagnosis.readings import Reading
from regimes.tangent.diagnosis.targets import constant_risk, targets_of
from regimes.tangent.diagnosis.tracker import Tracker

X = torch.randn(30, 4, generator=generator(1), dtype=torch.float64)
OTHERS = torch.randn(20, 4, generator=generator(2), dtype=torch.float64)
Y = (X[:, :1] * X[:, 1:2]).tanh()
LABELS = (X[:, 0] > 0).long()
ONES = LABELS.double()[:, None]  # 0 and 1
SIGNS = 2 * ONES - 1
SHUFFLED = torch.randperm(30, generator=generator(4))
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def half(outputs, y):
    return (outputs - y).square().sum(1).mean() / 2


def hinge(outputs, y):
    return (1 - outputs * y).clamp(min=0).mean()


def net(outputs=1, seed=0, width=30):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, outputs)).double()


def trained(risk, y, alpha, steps, *, lr=0.3, dtype=torch.float64, outputs=1):
    model = Centred(net(outputs), alpha).to(dtype)
    start, x = deepcopy(model), X.to(dtype)
    y = y.to(dtype) if y.is_floating_point() else y
    optimiser = torch.optim.SGD(model.parameters(), lr / alpha**2)
    for _ in range(steps):
        optimiser.zero_grad()
        risk(model(x), y).backward()
        optimiser.step()
    return start, model, x, y


def judged(*case, **options):
    return diagnose(*case, omit=OPTIONAL, **options)


@pytest.mark.slow
@PRECISIONS
@pytest.mark.parametrize(
    ("risk", "y"), [(bce, ONES), (hinge, SIGNS), (huber_loss, SIGNS), (nn.SoftMarginLoss(), SIGNS)]
)
def test_a_large_scale_is_lazy_and_a_small_one_is_not_by_any_loss(risk, y, dtype):
    lazy = trained(risk, y, 100.0, 100, dtype=dtype)
    found = judged(*lazy, risk=risk)
    assert found.verdict == "lazy", found.judged.words
    start, end, x, target = lazy
    for reading, model in (("risk_start", start), ("risk_end", end)):
        assert_close(found.readings[reading].value, float(risk(model(x), target).detach()), rtol=1e-5, atol=1e-6)
    other = judged(start, end, x, target[SHUFFLED], risk=risk)
    assert other.verdict == "cannot tell"
    assert "has not fallen surely" in other.judged.words
    assert "risk=" not in other.judged.words
    assert judged(*trained(risk, y, 0.3, 600, dtype=dtype), risk=risk).verdict == "not lazy"


@pytest.mark.slow
@PRECISIONS
def test_the_tangent_model_of_a_lazy_net_agrees_with_it_by_a_loss_of_any_size(dtype):
    asked = {"held_out": OTHERS.to(dtype), "omit": OPTIONAL - {"tangent_disagreement"}}
    case = trained(bce, ONES, 100.0, 300, dtype=dtype)
    found = [
        diagnose(*case, risk=lambda f, y, size=size: size * bce(f, y), **asked).readings["tangent_disagreement"]
        for size in (1.0, 1e-4, 1e4)
    ]
    for reading in found:
        assert reading.high < 0.01, reading
    rich = diagnose(*trained(bce, ONES, 0.3, 600, dtype=dtype), risk=bce, **asked).readings["tangent_disagreement"]
    assert rich.low > 0.3


@pytest.mark.slow
def test_the_half_square_by_hand_gives_the_numbers_of_the_half_square():
    case = trained(half, Y, 1.0, 100)
    plain, own = (diagnose(*case, held_out=OTHERS, risk=risk) for risk in (None, half))
    assert own.judged.words == plain.judged.words
    for name, reading in plain.readings.items():
        mine = own.readings[name]
        if name == "kappa":
            assert "ask regimes.lazy_criterion" in mine.reason
        elif reading.value is None:
            assert mine.reason == reading.reason
        elif name == "tangent_disagreement":  # by small steps, and not by the flow itself
            assert_close(mine.value, reading.value, rtol=0.01, atol=0)
        else:
            assert_close(mine[:3], reading[:3], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_cross_entropy_with_labels_is_what_is_taken_without_a_risk(dtype):
    case = trained(cross_entropy, LABELS, 30.0, 100, outputs=2)
    plain = diagnose(*case, held_out=OTHERS)
    own = diagnose(*case[:3], LABELS.to(dtype), held_out=OTHERS, risk=cross_entropy)
    assert own.judged.words == plain.judged.words
    assert own.layers == plain.layers
    assert own.readings["kappa"].value > 0
    for name, reading in plain.readings.items():
        assert own.readings[name]._replace(seconds=0) == reading._replace(seconds=0), name


@pytest.mark.slow
def test_labels_with_a_loss_of_ones_own_are_aligned_as_classes():
    case = trained(cross_entropy, LABELS, 30.0, 100, outputs=2)
    names = ("alignment_start", "alignment_end", "risk_end", "tangent_disagreement")
    plain, own = (
        diagnose(*case, held_out=OTHERS, omit={"kappa", "layers"}, risk=risk).readings
        for risk in (None, nn.CrossEntropyLoss())
    )
    for name in names[:3]:
        assert_close(own[name][:3], plain[name][:3], rtol=1e-12, atol=1e-14)
    assert_close(own[names[3]].value, plain[names[3]].value, rtol=0, atol=5e-3)


def test_targets_as_numbers_are_those_of_y():
    given = {"classes": LABELS, "places": LABELS + 2, "bits": LABELS.bool(), "rows": torch.ones(30, 2, 3)}
    values = {name: targets_of(y, 2, half, torch.float32).values for name, y in given.items()}
    assert torch.equal(values["classes"], nn.functional.one_hot(LABELS).double())
    assert torch.equal(values["places"], (LABELS + 2).double()[:, None])
    assert torch.equal(values["bits"], ONES)
    assert values["rows"].shape == (30, 6)
    assert targets_of(LABELS, 1, half, torch.float32).values.shape == (30, 1)


@PRECISIONS
def test_a_loss_is_given_outputs_in_the_precision_of_the_model_and_y_as_it_is(dtype):
    seen = set()

    def watched(outputs, y):
        seen.add((outputs.dtype, y.dtype, outputs.shape[1]))
        return half(outputs, y.to(outputs.dtype))

    judged(net().to(dtype), net(seed=1).to(dtype), X.to(dtype), LABELS.to(torch.int16)[:, None], risk=watched)
    assert seen == {(dtype, torch.int16, 1)}
    assert targets_of(ONES, 1, half, torch.bfloat16).own.dtype == torch.float32


def unpaired(outputs, y):
    return (1 - outputs * y).clamp(min=0).mean()  # (n, 1) against (n,): all with all


def uneven(outputs, y):
    return cross_entropy(outputs, y, weight=torch.tensor([1.0, 5.0], dtype=outputs.dtype))


@pytest.mark.parametrize(
    ("risk", "y", "outputs", "words"),
    [
        (bce, ONES[:, 0], 1, r"takes outputs \(30, 1\) and targets \(30,\) of torch.float64; binary_cross"),
        (mse_loss, ONES[:, 0], 1, "mse_loss ends in: Using a target size"),
        (huber_loss, ONES[:, 0], 1, "huber_loss ends in: Using a target size"),
        (unpaired, SIGNS[:, 0], 1, r"mean over samples.* pass y\[:, None\]"),
        (lambda f, y: half(f, y[:29]), ONES, 1, "<lambda> ends in: "),
        (lambda f, y: f.nothing, ONES, 1, "<lambda> ends in: "),
        (nn.BCEWithLogitsLoss(reduction="none"), ONES, 1, r"one number, a mean over samples.*got shape \(30, 1\)"),
        (lambda f, y: 1.0, ONES, 1, "as a tensor; got float"),
        (nn.BCEWithLogitsLoss(reduction="sum"), ONES, 1, "this one is a sum"),
        (uneven, LABELS, 2, r"mean over samples: on 30 of them .* reduction='none'"),
        (lambda f, y: half(f, y - y.mean(0)), ONES, 1, "mean over samples"),
        (bce, ONES * nan, 1, "finite; on the outputs of model_0 it is nan"),
        (lambda f, y: ((f > 0) != y).double().mean(), ONES, 1, "can be differentiated by the outputs"),
        (nn.BCEWithLogitsLoss, ONES, 1, "risk as a function; got the class"),
        (cross_entropy, LABELS + 1, 2, "labels from 0 to 1"),
    ],
)
def test_losses_that_cannot_be_judged_are_refused_in_one_line(risk, y, outputs, words):
    with pytest.raises(ValueError, match=words) as caught:
        judged(net(outputs), net(outputs, seed=1), X, y, risk=risk)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("y", [LABELS, 2 * LABELS - 1, LABELS.bool()])
def test_labels_for_one_output_point_to_the_loss(y):
    with pytest.raises(ValueError, match=r"Pass y as numbers .* or risk=, the loss of the training"):
        judged(net(), net(seed=1), X, y)


def test_a_comparison_of_all_with_all_is_found_where_all_outputs_are_equal():
    model = Centred(net(), 1.0)  # 0 at the start
    with pytest.raises(ValueError, match=r"its derivative by the output of one .* pass y\[:, None\]"):
        Tracker(model, X, SIGNS[:, 0], risk=unpaired)


def test_a_loss_may_squeeze_write_to_outputs_and_hold_weights_and_gradients_may_be_off():
    size = nn.Parameter(torch.ones((), dtype=torch.float64))

    def rude(outputs, y):
        return size * outputs.squeeze().sub_(y).square().mean() / 2

    start, end, before = net(), net(seed=1), SIGNS[:, 0].clone()
    found = judged(start, end, X, before, risk=rude)
    with torch.no_grad():
        assert judged(start, end, X, before, risk=rude).judged.words == found.judged.words
    assert size.grad is None
    assert torch.equal(before, SIGNS[:, 0])
    assert_close(found.readings["risk_end"].value, float(half(end(X), SIGNS).detach()))


@pytest.mark.parametrize(
    ("risk", "y", "least"),
    [
        (bce, ONES, None),
        (hinge, SIGNS, None),
        (poisson_nll_loss, ONES + 1, None),
        (lambda f, y: nn.functional.binary_cross_entropy(f, y), ONES, None),  # takes shares only
        (half, Y, float((Y - Y.mean()).square().mean() / 2)),
    ],
)
def test_the_best_constant_is_found(risk, y, least):
    targets = targets_of(y, 1, risk, torch.float64)
    shares = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)[:, None]
    if least is None:
        grid = torch.linspace(0.001, 0.999, 999) if "<lambda>" in str(risk) else torch.linspace(-3, 3, 6001)
        least = min(float(risk(torch.full_like(y, float(c)), y)) for c in grid)
    assert_close(constant_risk(targets, shares, shares), least, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_what_a_constant_fits_as_well_gives_no_verdict():
    wild, fitted = net(), net(seed=3)
    with torch.no_grad():
        wild[2].weight.mul_(-100.0)  # so wrong that its risk falls surely
        fitted[2].weight.mul_(0.01)
    found = judged(wild, fitted, X, ONES, risk=bce)
    assert found.verdict == "cannot tell"
    assert "no better than a constant does" in found.judged.words
    same = judged(wild, fitted, X, torch.ones_like(ONES), risk=bce)
    assert "the targets are the same at all points" in same.judged.words


def test_a_loss_below_0_has_to_fall_by_a_share_of_its_size():
    start, end = Reading(-1.0, -1.01, -0.99), Reading(-1.05, -1.06, -1.04)
    readings = {"linearisation_gap": Reading(0.01, 0.009, 0.011), "risk_start": start, "risk_end": end}
    assert judge_run(readings, 100, "", Limits()).deciding == "risk_fall"
    assert judge_run(readings | {"risk_end": Reading(-1.2)}, 100, "", Limits()).verdict == "lazy"
    found = judged(net(), net(seed=1), X, ONES, risk=lambda f, y: half(f, y) - 10).readings["risk_start"]
    assert found.low < found.value < found.high < 0


@pytest.mark.slow
def test_kernels_are_probed_where_targets_have_another_shape_than_outputs(monkeypatch):
    def spread(outputs, y):
        return ((outputs[:, 0] - y).square() / outputs[:, 1].exp() + outputs[:, 1]).mean() / 2

    monkeypatch.setattr(kernels, "EXACT", 10)
    found = diagnose(net(2), net(2, seed=1), X, Y[:, 0], risk=spread, omit={"kappa", "layers"}).readings
    assert found["kernel_drift"].value > 0
    assert "not the shape of the outputs" in found["alignment_end"].reason


@pytest.mark.slow
def test_a_tracker_follows_a_training_by_a_loss_of_ones_own():
    model = net(width=200).float()
    x, y = X.float(), ONES.float()
    tracker = Tracker(model, x, y, risk=bce)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(20):
        optimiser.zero_grad()
        bce(model(x), y).backward()
        optimiser.step()
        if step % 10 == 9:
            tracker(step)
    assert [row["step"] for row in tracker.rows] == [9, 19]
    assert_close(tracker.rows[-1]["risk_end"], float(bce(model(x), y).detach()))
    assert tracker.last.verdict in ("lazy", "not lazy"), tracker.last.judged.words


@pytest.mark.slow
def test_numbers_without_a_loss_are_told_of_it():
    case = trained(bce, ONES, 100.0, 300)
    found = judged(*case[:3], -case[3])
    assert "risk= (in Python) if its loss was not the half square" in found.judged.words
