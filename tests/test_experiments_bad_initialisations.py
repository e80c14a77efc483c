import pandas as pd
import pytest

from regimes.experiments.least_action import bad_initialisations
from regimes.experiments.least_action.bad_initialisations.course import LAWS, Config, advantages, measure, points
from regimes.experiments.least_action.small_nets.settings import ARMS, CONTROL, LAP, VANILLA

pytestmark = pytest.mark.slow


def table(sign=1.0, prefix="", other=CONTROL):
    """Five seeds, six starts of three laws: gains grow with transport, but the one over `other` by the sign."""
    rows = []
    for seed in range(5):
        for place, (law, gain) in enumerate((law, gain) for law in LAWS for gain in (0.1, 0.2)):
            for arm in ARMS:
                row = {"arm": arm, "law": law, "gain": gain, "seed": seed, "reached": 1.0}
                for at in ("", "equal_"):
                    slope = 0.0 if arm == LAP else sign if (at, arm) == (prefix, other) else 1.0
                    row[at + "accuracy"] = 0.7 - 0.01 * slope * place + 0.001 * seed
                    row[at + "transport"] = 10.0**place * (1.0 if arm == VANILLA else 100.0 - place)
                rows.append(row)
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in bad_initialisations.judge(rows).findings}


@pytest.mark.parametrize("prefix", ["", "equal_"])
@pytest.mark.parametrize("other", [VANILLA, CONTROL])
def test_each_prediction_on_bad_starts_can_fail_alone(prefix, other):
    assert set(verdicts(table()).values()) == {"supported"}
    found = verdicts(table(-1.0, prefix, other))
    assert found.pop(bad_initialisations.GROWTH[prefix, other]) == "refuted"
    assert set(found.values()) == {"supported"}


def test_starts_from_which_an_arm_did_not_come_to_equal_risk_are_left_out_there_alone():
    rows = table()
    rows.loc[(rows.arm == VANILLA) & (rows.law == "normal") & (rows.gain == 0.1), "reached"] = 0.0
    assert len(advantages(rows, CONTROL, "equal_")) == 25
    assert len(advantages(rows, CONTROL, "")) == 30
    assert "refuted" not in verdicts(rows).values()
    bad_initialisations.draw(rows)


def intervals(rows):
    return {finding.quantity: finding.measured for finding in bad_initialisations.judge(rows).findings}


def test_one_net_that_misses_equal_risk_does_not_make_an_interval_narrow():
    rows = table()
    rows.loc[(rows.arm == LAP) & (rows.law == "normal"), "equal_accuracy"] -= 0.5  # a law against the order
    words = bad_initialisations.GROWTH["equal_", CONTROL]
    whole = intervals(rows)[words]
    assert whole.high - whole.low > 0.5
    rows.loc[(rows.arm == LAP) & (rows.law == "orthogonal") & (rows.gain == 0.1) & (rows.seed == 1), "reached"] = 0.0
    assert intervals(rows)[words] == pytest.approx(whole, abs=0.2)


def test_more_gains_of_the_same_laws_say_nothing_of_other_laws():
    rows = table()
    rows.loc[(rows.arm == LAP) & (rows.law == "normal"), "accuracy"] -= 0.5  # a law against the order
    words = bad_initialisations.GROWTH["", CONTROL]
    more = pd.concat(
        [rows.assign(gain=rows.gain + shift, transport=rows.transport * (1 + shift)) for shift in range(4)]
    )
    few, many = intervals(rows)[words], intervals(more)[words]
    assert many.high - many.low > 0.8 * (few.high - few.low)


def test_the_gain_is_paired_with_the_cost_of_plain_training_from_the_same_start():
    found = advantages(table(), CONTROL, "").set_index(["law", "gain", "seed"]).loc[("normal", 0.2, 3)]
    assert found.advantage == pytest.approx(5.0)
    assert found.moved == pytest.approx(1e5)


def test_the_table_has_a_line_for_each_initialisation():
    lines = bad_initialisations.table(table()).set_index(["law", "gain"])
    assert len(lines) == 6
    line = lines.loc[("normal", 0.2)]
    assert line["transport cost, plain training"] == pytest.approx(1e5)
    assert line["gain over control at equal risk"] == pytest.approx(5.0)


def test_nets_of_several_starts_are_those_of_each_alone():
    config = Config(kaiming=(0.3,), orthogonal=(0.2,), normal=(0.05,), blocks=1, steps=2, most_steps=3, seeds=2)
    asked = [point for point in points(config) if point["arm"] == LAP]
    assert len(asked) == 6
    rows = measure(config, asked)
    for row, point in zip(rows, asked, strict=True):
        (alone,) = measure(config, [point])
        assert alone == pytest.approx(row, rel=1e-4)
    assert len({row["transport"] for row in rows}) == 6
