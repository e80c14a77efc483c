import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.lazy import lazy_cnn as cnn
from regimes.experiments.lazy.lazy_cnn import course
from regimes.lab.config import load
from regimes.lab.grid import grid_points
from regimes.tangent.laziness import tangent_distance
from regimes.tangent.linearize import linearize

TINY = cnn.Config(train_size=64, test_size=30, width=2, gain=1.5, epochs=1, batch=16)
DOUBLE = torch.float64


def table(test, stability, distance, distance_float32, train=None):
    """Five seeds at three scales; the figures are functions of log10 α."""
    rows = []
    for seed in range(5):
        for precision, values, far in (
            ("float64", (1.0, 1e3, 1e7), distance),
            ("float32", (1.0, 1e7), distance_float32),
        ):
            for alpha in values:
                decade = math.log10(alpha)
                accuracies = {
                    "test_accuracy": test(decade) + 0.002 * seed,
                    "train_accuracy": (train or test)(decade) + 0.003 * seed,
                }
                tangents = {f"tangent_{name}": value for name, value in accuracies.items()}
                rows.append(
                    {"seed": seed, "precision": precision, "alpha": alpha, "motion": 1 / alpha}
                    | accuracies
                    | tangents
                    | {"stability": stability(decade), "distance": far(decade) * (1 + 0.01 * seed)}
                )
    return pd.DataFrame(rows)


def falls(decade):
    return 0.9 - 0.04 * decade


def settles(decade):
    return 1 - 0.3 * 10**-decade


def vanishes(decade):
    return 0.5 * 10**-decade


def stays(decade):
    return 0.5


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in cnn.judge(rows).findings}


def test_a_net_that_becomes_its_tangent_model_supports_the_statement():
    judged = cnn.judge(table(falls, settles, vanishes, stays))
    assert judged.verdict == "supported"
    assert judged.merits["test accuracy, smallest α"] == pytest.approx(0.904)
    assert judged.merits["test accuracy, largest α"] == pytest.approx(0.624)


@pytest.mark.parametrize(
    ("rows", "quantities"),
    [
        (table(lambda k: 0.5 + 0.04 * k, settles, vanishes, stays), {cnn.TEST, cnn.TRAIN}),
        (table(falls, settles, vanishes, stays, train=lambda k: 0.5 + 0.04 * k), {cnn.TRAIN}),
        (table(falls, lambda k: 0.9 + 0.001 * k, vanishes, stays), {cnn.STABLE}),
        (table(falls, lambda k: 1 - 1e-5 * k, vanishes, stays), {cnn.RISE}),
        (table(falls, settles, stays, stays), {cnn.TANGENT}),
        (table(falls, settles, vanishes, vanishes), {cnn.FLOAT32}),
    ],
)
def test_each_prediction_is_refuted_by_its_opposite(rows, quantities):
    assert {name for name, verdict in verdicts(rows).items() if verdict == "refuted"} == quantities


def test_distances_are_geometric_means_and_the_other_numbers_arithmetic_ones():
    rows = table(falls, settles, vanishes, stays)
    last = (rows.precision == "float64") & (rows.alpha == 1e7)
    rows.loc[last, "distance"] = [1e-4, 1e-5, 1e-6, 1e-5, 1e-5]
    for column in ("test_accuracy", "tangent_test_accuracy", "stability"):
        rows.loc[last, column] = [0.1, 0.2, 0.3, 0.4, 0.9]
    judged = cnn.judge(rows)
    found = {finding.quantity: finding.value for finding in judged.findings}
    assert found[cnn.TANGENT] == pytest.approx(1e-5)
    for name in ("test accuracy, largest α", "test accuracy, tangent model", "stability, largest α"):
        assert judged.merits[name] == pytest.approx(0.38)


def test_differences_are_paired_by_seed():
    rows = table(lambda k: 0.5 - 0.001 * k, settles, vanishes, stays)
    rows["test_accuracy"] += 0.1 * rows.seed  # the seeds differ much more than the scales
    assert verdicts(rows)[cnn.TEST] == "supported"


def test_the_figure_shows_the_paired_differences_that_are_judged():
    rows = table(falls, settles, vanishes, stays)
    judged = {finding.quantity: finding for finding in cnn.judge(rows).findings}
    accuracy, stability, distance = cnn.draw(rows).axes
    shown = {drawn.get_label(): drawn.lines[0].get_ydata()[-1] for drawn in accuracy.containers}
    assert shown["test, float64"] == pytest.approx(100 * judged[cnn.TEST].value)
    assert shown["training, float64"] == pytest.approx(100 * judged[cnn.TRAIN].value)
    assert stability.containers[0].lines[0].get_ydata()[-1] == pytest.approx(100 * judged[cnn.STABLE].value)
    assert distance.containers[1].lines[0].get_ydata()[-1] == pytest.approx(judged[cnn.FLOAT32].value)


def test_without_a_second_scale_or_float32_their_predictions_are_not_measured():
    rows = table(falls, settles, vanishes, stays)
    found = verdicts(rows[(rows.precision == "float64") & (rows.alpha == 1e7)])
    missing = {cnn.RISE, cnn.TEST, cnn.TRAIN, cnn.FLOAT32}
    assert {name for name, verdict in found.items() if verdict == "not measured"} == missing
    cnn.draw(rows[rows.precision == "float64"])


def test_without_usual_training_or_the_limit_their_predictions_are_not_measured():
    rows = table(falls, lambda k: 0.9 + 0.001 * k, stays, vanishes)  # at α = 1000 all would be refuted
    small = cnn.judge(rows[rows.alpha < 1e7])
    assert small.verdict == "not measured"
    found = verdicts(rows[rows.alpha > 1])
    missing = {cnn.RISE, cnn.TEST, cnn.TRAIN}
    assert {name for name, verdict in found.items() if verdict == "not measured"} == missing


def test_a_seed_that_is_not_finished_does_not_count():
    rows = table(falls, settles, vanishes, stays)
    unfinished = rows[(rows.seed < 4) | ((rows.alpha == 1) & (rows.precision == "float64"))]
    judged = cnn.judge(unfinished)
    assert judged == cnn.judge(rows[rows.seed < 4])
    assert judged.merits["seeds"] == 4


def test_a_training_that_diverged_proves_nothing():
    rows = table(falls, settles, vanishes, stays)
    rows.loc[(rows.seed == 1) & (rows.alpha == 1e7), ["test_accuracy", "distance"]] = math.nan
    found = verdicts(rows)
    assert found[cnn.TEST] == found[cnn.TANGENT] == "inconclusive"


def test_the_risk_is_the_mean_over_outputs_over_alpha_squared():
    output = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert_close(course.mean_square(10.0)(output, torch.tensor([0, 1])), torch.tensor((0 + 4 + 0 + 1) / 4 / 100))


def test_every_scale_and_precision_starts_from_the_same_weights_and_from_zero():
    first = course.centred(TINY, course.data(TINY, 1, DOUBLE), 1.0, 1, DOUBLE)
    second = course.centred(TINY, course.data(TINY, 1, torch.float32), 1e7, 1, torch.float32)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a.detach(), b.detach().double())
    x = torch.randn(3, 1, 8, 8, dtype=DOUBLE)
    assert torch.equal(first(x).detach(), torch.zeros(3, 10, dtype=DOUBLE))


def test_preactivations_are_what_the_relus_see():
    model = course.centred(TINY, course.data(TINY, 0, DOUBLE), 1.0, 0, DOUBLE).model
    x = torch.randn(3, 1, 8, 8, dtype=DOUBLE)
    found = course.preactivations(model, x)
    assert [layer.shape[1] for layer in found] == [2 * 64, 4 * 16, 8 * 4, 8 * 4, 16, 16, 16, 16]
    assert_close(
        found[1], model.encoder[3](torch.nn.functional.max_pool2d(found[0].view(3, 2, 8, 8).relu(), 2)).flatten(1)
    )


def test_stability_is_one_at_the_start_and_counts_the_units_that_flip():
    parts = course.data(TINY, 0, DOUBLE)
    model = course.centred(TINY, parts, 1.0, 0, DOUBLE)
    assert course.stability(model, parts) == 1.0
    with torch.no_grad():
        model.model.encoder[0].weight[0].neg_()  # biases are 0: every sign of the first channel of the first layer
    x = parts.normalise(parts.test.x)
    now, start = (course.preactivations(net, x) for net in (model.model, model.start))
    by_hand = [((a > 0) == (b > 0)).double().mean() for a, b in zip(now, start, strict=True)]
    assert by_hand[0] == 0.5
    assert_close(course.stability(model, parts), float(sum(by_hand) / 8))
    with torch.no_grad():
        model.model.encoder[0].weight.fill_(math.nan)
    assert math.isnan(course.stability(model, parts))
    assert math.isnan(course.see(model, parts).test_accuracy)


def test_the_scaled_net_trains_to_its_tangent_model_and_the_usual_one_does_not():
    parts = course.data(TINY, 0, DOUBLE)
    tangent = linearize(course.centred(TINY, parts, 1.0, 0, DOUBLE))
    course.train(tangent, parts, TINY, 1.0, 0)
    goal, distances = course.see(tangent, parts).outputs, []
    for alpha in (1.0, 1e8):
        model = course.centred(TINY, parts, alpha, 0, DOUBLE)
        course.train(model, parts, TINY, alpha, 0)
        distances.append(float(tangent_distance(course.see(model, parts).outputs, goal)))
    assert distances[0] > 0.01
    assert distances[1] < 1e-5


def test_a_row_holds_what_the_trained_model_shows():
    (point, *_) = grid_points(cnn, TINY)
    assert point == {"seed": 0, "precision": "float64", "alpha": 1.0}
    (row,) = cnn.measure(TINY, [point])
    parts = course.data(TINY, 0, DOUBLE)
    model = course.centred(TINY, parts, 1.0, 0, DOUBLE)
    course.train(model, parts, TINY, 1.0, 0)
    with torch.no_grad():
        right = (model(parts.normalise(parts.test.x)).argmax(1) == parts.test.labels).double().mean()
    assert row["test_accuracy"] == float(right)
    assert row["stability"] == course.stability(model, parts)
    moved = sum((a - b).square().sum() for a, b in zip(model.model.parameters(), model.start.buffers(), strict=True))
    norm = sum(b.square().sum() for b in model.start.buffers())
    assert_close(row["motion"], float((moved / norm).detach().sqrt()))


def test_the_published_size_is_the_published_one():
    config = load(cnn.Config, Path(__file__).parent.parent / "configs" / "published" / "lazy_cnn.yaml")
    assert (config.width, config.epochs, config.batch, config.rate, config.decay) == (64, 70, 128, 1.0, 1 / 3)
    assert (config.train_size, config.test_size, config.augment) == (None, None, True)
    assert config.alpha == tuple(10.0**k for k in range(8))


def test_a_missing_graphics_card_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' needs a CUDA graphics card"):
        cnn.measure(TINY.model_copy(update={"device": "cuda"}), [{"seed": 0, "precision": "float64", "alpha": 1.0}])
