import pandas as pd
import pytest

from regimes.experiments.lazy.after_kernel import (
    AFTER_RATE,
    BETTER,
    ERRORS,
    LABELS,
    NEAR,
    NET_RATE,
    draw,
    judge,
    measure,
    table,
)
from regimes.experiments.lazy.scaled_settings import Config, points


def made_up(*, after=0.9, shuffled=1.0, near=0.3, error=0.0, powers=(-1.0, -1.0), reached=1.0):
    """A table that obeys: the after kernel gains a tenth at α = 1, and only with true labels."""
    rows = []
    for seed in range(6):
        jitter = 1 + 0.02 * seed
        for labels, alpha in [("true", 1.0), ("true", 100.0), ("true", 300.0), ("true", 1000.0), ("shuffled", 1.0)]:
            gain = shuffled if labels == "shuffled" else after if alpha == 1 else 1.0
            power_after, power_net = (power + 0.002 * seed for power in powers)
            rows.append({"labels": labels, "alpha": alpha, "seed": seed, "ratio": 0.05, "reached": reached,
                         "start_square": jitter, "after_square": gain * (1 + 0.001 * seed) * jitter,
                         "net_square": jitter, "start_error": 0.1, "after_error": 0.1 * jitter,
                         "net_error": 0.1 * jitter + error, "after_start": alpha**power_after,
                         "net_start": alpha**power_net, "net_after": near * jitter})  # fmt: skip
    return pd.DataFrame(rows)


def test_rows_that_obey_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("broken", "change"), [
    (BETTER, {"after": 1.1, "shuffled": 1.3}), (NEAR, {"near": 0.8}), (ERRORS, {"error": 0.05}),
    (ERRORS, {"error": -0.05}), (LABELS, {"shuffled": 0.8}), (AFTER_RATE, {"powers": (-2.0, -1.0)}),
    (NET_RATE, {"powers": (-1.0, -0.5)}),
])  # fmt: skip
def test_each_prediction_is_refuted_alone(broken, change):
    found = {finding.quantity: finding.verdict for finding in judge(made_up(**change)).findings}
    assert found.pop(broken) == "refuted"
    assert set(found.values()) == {"supported"}


def test_runs_that_did_not_come_to_the_loss_do_not_count():
    judgement = judge(pd.concat([made_up(), made_up(after=2.0, reached=0.0)]))
    assert judgement.verdict == "supported"
    assert judgement.merits["runs that did not come to the loss"] == 30
    assert judge(made_up(reached=0.0)).verdict == "not measured"


def test_without_the_mean_field_scale_nothing_is_said_of_it():
    rows = made_up(near=0.9)
    found = {one.quantity: one.verdict for one in judge(rows[rows.alpha >= 100]).findings}
    assert {name for name, verdict in found.items() if verdict == "not measured"} == {BETTER, NEAR, ERRORS, LABELS}
    assert found[AFTER_RATE] == "supported"


def test_the_difference_from_the_start_kernel_stands_beside_that_from_the_after_kernel():
    rows = made_up(error=0.01).assign(start_error=0.05)
    small = rows[(rows.alpha == 1) & (rows.labels == "true")]
    shown = judge(rows).merits["smallest α: error of the net less that of the start kernel"]
    assert shown == pytest.approx(small.net_error.mean() - 0.05)


def test_table_and_figure_have_all_scales_and_the_shuffled_labels():
    shown = table(made_up())
    assert shown["α"].tolist() == [1.0, 100.0, 300.0, 1000.0, 1.0]
    assert shown["mean square, after over start"].iloc[0] == pytest.approx(0.9, rel=0.01)
    assert len(draw(made_up()).axes) == 2


@pytest.mark.slow
def test_shuffled_labels_move_the_net_but_not_the_fit_with_the_kernel_at_the_start():
    config = Config(alpha=(1.0,), seeds=2, samples=12, held_out=15, width=6, ratio=0.3)
    planned = points(config)
    rows = measure(config, planned)
    for seed in (0, 1):
        true, shuffled = (row for row, point in zip(rows, planned, strict=True) if point["seed"] == seed)
        assert true["net_square"] < shuffled["net_square"]
        assert true["start_square"] == pytest.approx(shuffled["start_square"], rel=0.2)  # losses differ by a step
