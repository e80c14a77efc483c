import pandas as pd
import pytest

from regimes.experiments.least_action import overfitting_width
from regimes.experiments.least_action.overfitting_width.course import Config, measure, slope
from regimes.experiments.least_action.small_nets.settings import ARMS, CONTROL, LAP, VANILLA

pytestmark = pytest.mark.slow
WIDTHS = (8, 16, 32)


def table(overfits=0.2, gain=2.0, column="accuracy", other=CONTROL):
    """Made-up rows of five seeds: gains grow by 2 points a doubling, but in one comparison by `gain`."""
    rows = []
    for seed in range(5):
        wobble = 1 + 0.02 * (seed - 2)
        for doublings, width in enumerate(WIDTHS):
            for arm in ARMS:
                row = {"width": width, "arm": arm, "seed": seed, "reached": 1.0, "train_risk": 0.1}
                row["risk"] = 0.8 + overfits * wobble * doublings
                for name in ("accuracy", "equal_accuracy"):
                    own = gain if (name, arm) == (column, other) else 2.0
                    row[name] = 0.7 - (0.0 if arm == LAP else own * wobble * doublings / 100)
                rows.append(row)
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in overfitting_width.judge(rows).findings}


@pytest.mark.parametrize("column", ["accuracy", "equal_accuracy"])
@pytest.mark.parametrize("other", [VANILLA, CONTROL])
def test_each_prediction_on_gains_can_fail_alone(column, other):
    assert set(verdicts(table()).values()) == {"supported"}
    found = verdicts(table(gain=-1.0, column=column, other=other))
    assert found.pop(overfitting_width.GROWS[column, other]) == "refuted"
    assert set(found.values()) == {"supported"}


def test_the_prediction_that_wider_nets_overfit_more_can_fail_alone():
    found = verdicts(table(overfits=-0.2))
    assert found.pop(overfitting_width.OVERFITS) == "refuted"
    assert set(found.values()) == {"supported"}
    overfitting_width.draw(table())


def test_the_table_has_at_equal_risk_the_means_of_the_nets_that_reached_it():
    rows = table()
    missed = (rows.arm == VANILLA) & (rows.width == 8) & (rows.seed > 1)
    rows.loc[missed, ["reached", "equal_accuracy"]] = [0.0, 0.0]
    rows.loc[(rows.arm == CONTROL) & (rows.width == 16), "reached"] = 0.0
    found = overfitting_width.table(rows).set_index(["width", "arm"])
    assert found.equal_accuracy[8, VANILLA] == pytest.approx(0.7)
    assert found.reached[8, VANILLA] == 0.4
    assert found.accuracy[8, VANILLA] == pytest.approx(0.7)
    assert pd.isna(found.equal_accuracy[16, CONTROL])


def test_slopes_are_per_doubling_and_paired_by_seed():
    number = slope(overfitting_width.gains(table(), CONTROL, "accuracy"))
    assert number.value == pytest.approx(2.0)
    assert number.estimate.repetitions == 5
    assert slope(overfitting_width.gains(table(), CONTROL, "accuracy").loc[[8]]) is None


def test_the_width_is_that_of_the_states_and_data_are_the_same():
    config = Config(blocks=1, steps=1, most_steps=1, equal_risk=1e-9, seeds=2)
    few, many = (measure(config, [{"width": width, "arm": CONTROL, "seed": 0}])[0] for width in (4, 64))
    assert few["train_risk"] != many["train_risk"]
    assert few["reached"] == many["reached"] == 0.0
    assert few["steps"] == few["equal_steps"] == 1.0
