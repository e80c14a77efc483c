import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.data.classification import classification
from regimes.experiments.least_action import low_energy_bias as bias
from regimes.experiments.least_action.initialisations import correlations, mean_correlation
from regimes.experiments.least_action.low_energy_bias import course
from regimes.lab.config import load
from regimes.lab.grid import grid_points
from regimes.lab.intervals import Interval
from regimes.lab.ranks import rank_correlation
from regimes.models.image_nets import resnet9
from regimes.models.initialise import LAWS

TINY = bias.Config(filters=2, blocks=2, epochs=1, train_size=40, batch=20, test_size=50, kaiming=(1.0,), normal=(0.1,))


def table(transport, accuracy, start=None, train_accuracy=1.0):
    """Runs of five seeds; transport and accuracy map the place of an initialisation, 1 to 6, to its figure."""
    start = transport if start is None else start
    laws = [
        ("kaiming", 1.0),
        ("kaiming", 2.0),
        ("normal", 0.1),
        ("normal", 0.2),
        ("orthogonal", 1.0),
        ("orthogonal", 2.0),
    ]
    rows = []
    for seed in range(5):
        for place, (law, gain) in enumerate(laws, 1):
            figures = {"transport": (1 + seed) * transport(place), "test_accuracy": accuracy(place) + 0.1 * seed}
            other = {"transport_start": start(place), "relative": transport(place), "train_accuracy": train_accuracy}
            other["relative_start"] = start(place)
            rows.append({"law": law, "gain": gain, "seed": seed, **figures, **other})
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in bias.judge(rows).findings}


def test_cheap_nets_that_classify_better_support_the_statement():
    judged = bias.judge(table(lambda k: k**3, lambda k: 0.9 - 0.01 * k))
    assert judged.verdict == "supported"
    assert judged.merits[bias.BIAS] == pytest.approx(-1)
    assert judged.merits[bias.MEMORY] == pytest.approx(1)
    assert judged.merits["initialisations"] == 6


def test_a_weak_correlation_is_none_of_those_predicted():
    weak = {bias.BIAS: Interval(-0.2, -0.1), bias.MEMORY: Interval(0.1, 0.2)}
    assert [finding.verdict for finding in bias.STATEMENT.judge(weak).findings] == ["refuted", "refuted"]


def test_each_prediction_is_refuted_by_the_opposite_order():
    found = verdicts(table(lambda k: k, lambda k: 0.5 + 0.01 * k))
    assert found == {bias.BIAS: "refuted", bias.MEMORY: "supported"}
    found = verdicts(table(lambda k: k, lambda k: 0.9 - 0.01 * k, start=lambda k: 1 / k))
    assert found == {bias.BIAS: "supported", bias.MEMORY: "refuted"}


def test_an_accuracy_that_does_not_change_says_nothing():
    assert verdicts(table(lambda k: k, lambda k: 0.9))[bias.BIAS] == "inconclusive"


def test_seeds_are_compared_within_themselves():
    # A seed with more transport has the higher accuracy here: pooled over seeds the correlation would be positive.
    rows = table(lambda k: 1 + 0.01 * k, lambda k: 0.4 - 0.001 * k)
    assert rank_correlation(rows.transport, rows.test_accuracy) > 0.5
    assert bias.judge(rows).merits[bias.BIAS] == pytest.approx(-1)


def test_runs_that_did_not_fit_are_left_out_of_their_merit():
    rows = table(lambda k: k, lambda k: 0.9 - 0.01 * k)
    rows.loc[rows.gain == 2.0, "train_accuracy"] = 0.98
    merits = bias.judge(rows).merits
    assert merits["share of runs that fitted the training set"] == pytest.approx(2 / 3)
    assert merits["ρ of transport cost and test accuracy among them"] == pytest.approx(-1)
    rows["train_accuracy"] = 0.98
    assert "ρ of transport cost and test accuracy among them" not in bias.judge(rows).merits


def test_transport_is_summed_over_blocks_and_features_and_averaged_over_samples():
    data = classification("digits", train_size=30, seed=0)
    model = resnet9(data.shape, data.classes, filters=4, blocks=3).eval()
    found = course.moved(model, data, data.train)
    with torch.no_grad():
        trace = model(data.normalise(data.train.x), trace=True)
    (path,), (steps,) = trace.paths, trace.steps
    cost = sum(float((step**2).sum()) for step in steps) / 30
    ratios = [(step**2).flatten(1).sum(1) / (z**2).flatten(1).sum(1) for step, z in zip(steps, path[:-1], strict=True)]
    assert found.transport == pytest.approx(cost, rel=1e-5)  # summed in float32 here
    assert found.relative == pytest.approx(float(sum(ratio.mean() for ratio in ratios)), rel=1e-5)
    assert found.accuracy == float((trace.output.argmax(1) == data.train.labels).double().mean())


def test_a_smaller_gain_moves_less_at_the_start():
    rows = [course.run(TINY, "orthogonal", gain, 0) for gain in (0.01, 0.1, 1.0)]
    starts = [row["transport_start"] for row in rows]
    assert starts[0] < starts[1] < starts[2]


def test_the_grid_holds_every_gain_of_every_law():
    points = grid_points(bias, bias.Config())
    assert {(point["law"], point["gain"]) for point in points} == {
        *(("orthogonal", gain) for gain in (0.01, 0.1, 1.0)),
        *(("kaiming", gain) for gain in (0.3, 1.0, 2.0)),
        *(("normal", gain) for gain in (0.01, 0.1)),
    }
    assert len(points) == 8 * bias.Config().seeds


def test_a_run_has_every_law_and_kaiming_is_a_quarter_of_it():
    points = grid_points(bias, load(bias.Config, "configs/laws/low_energy_bias.yaml"))
    laws = [point["law"] for point in points if point["seed"] == 0]
    assert set(laws) == set(LAWS)
    assert (len(laws), sum(law.startswith("kaiming") for law in laws)) == (20, 5)
    assert [point["seed"] for point in points] == [seed for seed in range(3) for _ in laws]  # seed after seed


def test_a_correlation_that_one_law_makes_shows_when_that_law_is_left_out():
    rows = table(
        lambda k: 10 - k, lambda k: (0.1, 0.11, 0.93, 0.92, 0.91, 0.9)[k - 1]
    )  # all but Kaiming's the other way
    merits = bias.judge(rows).merits
    assert merits[bias.BIAS] < 0
    assert merits["ρ of transport cost and test accuracy, weakest with one law left out"] == pytest.approx(1)
    assert bias.table(rows).columns.tolist()[:3] == ["law", "gain", "train_accuracy"]


def test_the_real_size_is_mnist_and_the_smoke_run_needs_no_files():
    assert load(bias.Config, "configs/low_energy_bias.yaml").dataset == "mnist"
    assert bias.Config().dataset == "digits"


def test_the_figure_shows_every_run_and_the_correlation_without_kaiming():
    rows = table(lambda k: k, lambda k: (0.5, 0.5, 0.9, 0.8, 0.7, 0.6)[k - 1])  # Kaiming's are the first two
    low, relative, course = bias.draw(rows).axes
    assert sum(len(line.get_xdata()) for line in low.lines if line.get_markersize() == 3) == len(rows)
    assert low.get_title().endswith("without Kaiming:\n−1.00 [−1.00, 1.00]")  # two laws leave all open
    assert relative.get_title() == low.get_title()  # made up to be the same
    assert course.get_xscale() == course.get_yscale() == "log"
    name = "ρ of transport cost and test accuracy without Kaiming's initialisations"
    assert bias.judge(rows).merits[name] == pytest.approx(-1)


def test_the_figure_has_a_mark_for_each_law_and_a_colour_for_each_gain():
    rows = table(lambda k: k, lambda k: 0.1 * k)
    laws, gains = bias.draw(rows).legends
    assert [len(legend.get_texts()) for legend in (laws, gains)] == [rows.law.nunique(), rows.gain.nunique()]
    assert len({handle.get_marker() for handle in laws.legend_handles}) == rows.law.nunique() > 1
    assert len({tuple(handle.get_color()) for handle in gains.legend_handles}) == rows.gain.nunique() > 1


def test_a_run_measures_every_point():
    points = grid_points(bias, TINY)[:1]
    (row,) = bias.measure(TINY, points)
    assert 0 <= row["test_accuracy"] <= 1
    assert row["transport"] > 0
    assert row["transport_start"] > 0


def test_the_mean_over_seeds_of_all_tables_at_once_is_that_of_one_rank_correlation_after_the_other():
    draw = np.random.default_rng(3)
    x, y = draw.integers(4, size=(5, 3, 6)), draw.normal(size=(5, 3, 6))
    x[0, 1] = 2  # a constant seed is left out
    expected = [
        np.nanmean([rank_correlation(*pair) for pair in zip(*pairs, strict=True)]) for pairs in zip(x, y, strict=True)
    ]
    assert_close(mean_correlation(x, y), np.array(expected))


def test_hand_picked_initialisations_are_resampled_as_the_seeds_are():
    rows = table(lambda k: k, lambda k: 0.9 - 0.01 * k if k < 6 else 0.95)  # one start of six breaks the order
    found = correlations(rows, "transport", "test_accuracy")
    assert found.value == pytest.approx(rank_correlation([1, 2, 3, 4, 5, 6], [5, 4, 3, 2, 1, 6]))
    assert found.interval.high - found.interval.low > 0.5  # all seeds agree: over these alone there is no width
    fewer = rows[~((rows.seed == 0) & (rows.gain == 0.2))]
    whole = correlations(fewer, "transport", "test_accuracy")
    assert whole.estimate.repetitions == 5
    expected = (4 * found.value + rank_correlation([1, 2, 3, 5, 6], [5, 4, 3, 1, 6])) / 5
    assert whole.value == pytest.approx(expected)
    assert whole.interval == pytest.approx(found.interval, abs=0.1)  # a seed that lacks a start makes it no narrower
