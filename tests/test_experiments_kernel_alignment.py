from itertools import permutations

import pandas as pd
import pytest
import torch

from regimes.experiments.lazy.kernel_alignment import LABELS, RATE, RISE, STAYS, draw, judge, table
from regimes.experiments.lazy.kernel_alignment.runs import chance, measure
from regimes.experiments.lazy.scaled_settings import Config, points
from regimes.tangent.laziness import cka


def made_up(*, rise=0.1, stays=0.0, shuffled=0.0, power=-1.0, reached=1.0):
    """A table that obeys: rises of 0.1 at α = 1 alone, drifts like 1/α."""
    rows = []
    for seed in range(6):
        jitter = 1 + 0.02 * seed
        for labels, alpha in [("true", 1.0), ("true", 100.0), ("true", 300.0), ("true", 1000.0), ("shuffled", 1.0)]:
            risen = {"shuffled": shuffled}.get(labels, rise if alpha == 1 else stays if alpha == 1000 else 0.0)
            rows.append({"labels": labels, "alpha": alpha, "seed": seed, "ratio": 0.05, "steps": 100.0,
                         "reached": reached, "drift": 3 * jitter * alpha ** (power + 0.002 * seed),
                         **{f"{part}_before": 0.2 * jitter for part in ("train", "held")},
                         **{f"{part}_after": 0.2 * jitter + risen * jitter for part in ("train", "held")},
                         "held_before_chance": 0.02, "held_after_chance": 0.02})  # fmt: skip
    return pd.DataFrame(rows)


def test_rows_that_obey_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("broken", "change"), [
    (STAYS, {"stays": 0.03}), (STAYS, {"stays": -0.03}), (LABELS, {"shuffled": 0.08}),
    (RATE, {"power": -2.0}), (RATE, {"power": -0.5}),
])  # fmt: skip
def test_each_prediction_is_refuted_alone(broken, change):
    found = {finding.quantity: finding.verdict for finding in judge(made_up(**change)).findings}
    assert found.pop(broken) == "refuted"
    assert set(found.values()) == {"supported"}


def test_a_kernel_that_hardly_turns_refutes_the_rise():
    found = {finding.quantity: finding.verdict for finding in judge(made_up(rise=0.02, shuffled=-0.06)).findings}
    assert found.pop(RISE) == "refuted"
    assert set(found.values()) == {"supported"}


def test_runs_that_did_not_come_to_the_loss_do_not_count():
    rows = pd.concat([made_up(), made_up(rise=-0.5, reached=0.0)])
    judgement = judge(rows)
    assert judgement.verdict == "supported"
    assert judgement.merits["runs that did not come to the loss"] == 30
    assert judge(made_up(reached=0.0)).verdict == "not measured"


@pytest.mark.parametrize(("scales", "absent"), [
    ((100, 1000), {RISE, LABELS}), ((1, 3), {STAYS, RATE}), ((3, 30), {RISE, STAYS, LABELS, RATE}),
])  # fmt: skip
def test_without_a_small_or_a_large_scale_their_predictions_are_not_measured(scales, absent):
    rows = made_up(rise=0.1, stays=0.0)
    at = {1: rows[rows.alpha == 1], 1000: rows[(rows.alpha == 1000)], 100: rows[rows.alpha == 100]}
    at |= {3: at[1].assign(alpha=3.0), 30: at[1].assign(alpha=30.0)}
    small, large = (at[scale] for scale in scales)
    found = {one.quantity: one.verdict for one in judge(pd.concat([small, large[large.labels == "true"]])).findings}
    assert {name for name, verdict in found.items() if verdict == "not measured"} == absent
    assert "refuted" not in found.values()


def test_table_and_figure_have_all_scales_and_the_shuffled_labels():
    shown = table(made_up())
    assert shown["α"].tolist() == [1.0, 100.0, 300.0, 1000.0, 1.0]
    assert shown["rise"].tolist() == pytest.approx([0.105, 0, 0, 0, 0])
    assert len(draw(made_up()).axes) == 2


def test_chance_is_the_mean_alignment_over_all_orders_of_the_labels():
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([[1.0], [1.0], [-1.0], [1.0], [-1.0]]).double()
    kernel = x @ x.T
    orders = [y[list(order)] for order in permutations(range(5))]
    mean = torch.stack([cka(kernel, other @ other.T) for other in orders]).mean()
    assert chance(kernel, y) == pytest.approx(float(mean))


@pytest.mark.slow
def test_alignments_are_those_of_the_true_labels_before_and_after():
    config = Config(alpha=(1.0,), seeds=2, samples=12, held_out=15, width=6, ratio=0.3)
    planned = points(config)
    rows = measure(config, planned)
    assert {row["reached"] for row in rows} == {1.0}
    for seed in (0, 1):
        mine = [row for row, point in zip(rows, planned, strict=True) if point["seed"] == seed]
        assert mine[0]["held_before"] == mine[1]["held_before"]
        assert mine[0]["held_after"] != mine[1]["held_after"]
    from regimes.experiments.lazy.scaled_images import task

    one = task("digits", 12, 15, 6, 0)
    held = one.kernel()[12:, 12:]
    assert rows[0]["held_before"] == pytest.approx(float(cka(held, one.y_held @ one.y_held.T)))
