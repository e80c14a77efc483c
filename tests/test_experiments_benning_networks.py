import math

import pandas as pd
import pytest

from regimes.data.plane import PLANE
from regimes.experiments.control.benning_networks import HARD, draw, judge, table
from regimes.experiments.control.benning_networks.config import NET, ODENET, RESIDUAL, SIMPLEX

pytestmark = pytest.mark.slow


def made_up(accuracy=None, steps=None, datasets=tuple(PLANE), seeds=10):
    """Rows as the paper describes them, but for what is given by (data set, net)."""
    usual = {net: [0.25] * 4 for net in (NET, *RESIDUAL)}
    usual |= {ODENET: [2.0, -1.5, 1.0, -0.5], SIMPLEX: [0.7, 0.0, 0.0, 0.3]}
    rows = []
    for dataset in datasets:
        for net in (NET, *RESIDUAL):
            for seed in range(seeds):
                level = (accuracy or {}).get((dataset, net), 0.7 if net == NET else 0.95)
                moved = level + 0.004 * math.sin(5.0 * seed + 0.1 * len(net))
                for iteration in (0, 10):
                    row = {"dataset": dataset, "net": net, "seed": seed, "iteration": iteration, "last": iteration > 0}
                    row |= {"loss": 0.1, "fresh_loss": 0.1, "accuracy": moved, "fresh_accuracy": moved, "trials": 11}
                    if row["last"]:
                        found = (steps or {}).get((dataset, net), usual[net])
                        row |= {f"step_{layer}": each for layer, each in enumerate(found)}
                        row["net_at_end"] = str([0.5] * (7 * 4 + 3))
                    rows.append(row)
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_what_the_paper_describes_supports_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("broken", "where"), [
    ({"accuracy": {("donut2d", NET): 0.94}}, "donut2d: fresh accuracy, least accurate residual net − Net"),
    ({"accuracy": {("squares2d", SIMPLEX): 0.90}}, "squares2d: fresh accuracy, ODENet + simplex − ResNet"),
    ({"accuracy": {("spiral2d", ODENET): 0.99}}, "spiral2d: fresh accuracy, ODENet − ResNet"),
    ({"steps": {("donut1d", ODENET): [5.0, 0.1, 0.1, 0.1]}}, "donut1d: share of ODENets with a negative step"),
    ({"steps": {("donut2d", ODENET): [0.1, -0.1, 0.1, 0.1]}},
     "donut2d: deviation of ODENet's steps over its layers, in steps of the start"),
    ({"steps": {("spiral2d", SIMPLEX): [0.5, 0.2, 0.3, 0.0]}}, "spiral2d: share of projected steps that are zero"),
])  # fmt: skip
def test_each_observation_can_be_refuted_alone(broken, where):
    found = verdicts(made_up(**broken))
    assert found.pop(where) == "refuted"
    assert set(found.values()) == {"supported"}


def test_a_part_of_the_data_sets_is_judged_and_drawn_and_the_rest_is_not_measured():
    rows = made_up(datasets=("donut2d",))
    found = verdicts(rows)
    assert {each for name, each in found.items() if name.startswith("donut2d")} == {"supported"}
    assert {each for name, each in found.items() if not name.startswith("donut2d")} == {"not measured"}
    assert len(table(rows)) == 4
    assert len(draw(rows).axes) == 6
    part = rows[rows.net == NET]
    assert set(verdicts(part).values()) == {"not measured"}
    draw(part)
    assert len(table(part)) == 1


def test_the_table_has_the_shares_of_steps_below_and_at_zero():
    shown = table(made_up()).set_index(["data", "net"])
    assert shown.loc[("donut1d", ODENET), "steps < 0"] == 0.5
    assert shown.loc[("donut1d", SIMPLEX), "steps = 0"] == 0.5
    assert set(HARD) < set(PLANE)
