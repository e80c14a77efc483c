"""Numbers of a net that has diverged (NaN) decide nothing: what is made of them is not known."""

import math

import numpy as np
import pandas as pd
import pytest

from regimes import experiments
from regimes.experiments.control.benning_networks import numbers as benning
from regimes.experiments.control.benning_networks.config import SIMPLEX
from regimes.experiments.lazy.planes import crossing, exponents_over
from regimes.experiments.lazy.unbalanced_layers import LINEAR, peak
from regimes.experiments.least_action.initialisations import correlations
from regimes.experiments.least_action.least_action_is_ot.trends import Ends, gap_ratio
from regimes.experiments.least_action.low_data.comparison import tuned
from regimes.experiments.least_action.narrower_intervals.ratios import largest
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.settings import ARMS
from regimes.experiments.mean_field.complexity.numbers import thresholds
from regimes.experiments.mean_field.deleted_blocks.numbers import departure_share, in_number, largest_rise, rise
from regimes.lab.numbers import slope


def plane():
    """A column that grows like the root of the width at each point."""
    rows = [
        {"s": s, "a": a, "seed": seed, "width": width, "feature": width**0.5}
        for s in (0.0, 1.0)
        for a in (0.0, 0.5)
        for seed in (0, 1)
        for width in (10, 100, 1000)
    ]
    return pd.DataFrame(rows)


def test_an_exponent_over_a_width_that_is_not_known_is_not_known_and_one_without_it_is_left_out():
    rows = plane()
    rows.loc[4, "feature"] = math.nan
    found = exponents_over(rows.drop(index=7), ("s", "a"), "feature")
    assert found.loc[(0.0, 0.0)].tolist() == pytest.approx([0.5, math.nan], nan_ok=True)
    assert (0.0, 0.5, 0) not in found.index
    assert len(found) == 7


def test_a_line_with_an_unknown_point_has_no_crossing():
    places = np.array([0.0, 1.0, 2.0, 3.0])
    assert crossing(places, np.array([-1.0, -1.0, 1.0, 1.0])) == 1.5
    assert math.isnan(crossing(places, np.array([math.nan, -1.0, 1.0, 1.0])))


def test_an_unknown_departure_is_not_said_to_be_none():
    rows = pd.DataFrame({"layers": 8, "deleted": 1, "departure": [1e-3, math.nan], "change": 1.0, "seed": [0, 1]})
    assert math.isnan(departure_share(rows, 8).value)
    assert departure_share(rows.fillna(0.0), 8).value == 0.0


def test_an_unknown_risk_is_not_left_out_of_the_exponent():
    rows = pd.DataFrame(
        [{"layers": 16, "deleted": k, "seed": seed, "train_risk": 1.0 + k} for seed in (0, 1) for k in (0, 1, 2, 4)]
    )
    assert in_number(rows, "train_risk").value == pytest.approx(1.0)
    rows.loc[5, "train_risk"] = math.nan
    assert math.isnan(in_number(rows, "train_risk").value)


def test_a_diverged_net_has_neither_negative_steps_nor_steps_that_are_not():
    rows = pd.DataFrame(
        {"dataset": "donut2d", "net": "ODENet", "seed": [0, 1], "last": True, "step_0": [-1.0, math.nan]}
    )
    rows["step_1"] = [0.5, math.nan]
    assert benning.negative(rows[:1], "donut2d").value == 1.0
    assert math.isnan(benning.negative(rows, "donut2d").value)
    assert benning.zeros(rows[:1].replace({"net": {"ODENet": SIMPLEX}}), "donut2d").value == 0.0
    assert math.isnan(benning.zeros(rows.replace({"net": {"ODENet": SIMPLEX}}), "donut2d").value)


def test_a_width_from_which_on_losses_are_small_is_not_known_where_one_of_them_is_not():
    rows = pd.DataFrame(
        {"seed": [0] * 3 + [1] * 3, "width": [8, 16, 32] * 2, "loss": [1.0, 0.1, 0.1, 1.0, 0.1, math.nan]}
    )
    assert thresholds(rows, 0.5) == pytest.approx([16.0, math.nan], nan_ok=True)


def test_the_largest_drift_is_not_at_a_known_balance_where_one_of_them_is_not_known():
    rows = pd.DataFrame({"activation": LINEAR, "imbalance": [-1.0, 0.0, 1.0], "seed": 0, "stopped": 1.0})
    rows["drift"] = [1.0, 3.0, 2.0]
    assert peak(rows).value == 0.0
    rows.loc[2, "drift"] = math.nan
    assert math.isnan(peak(rows).value)


@pytest.mark.parametrize("name", ["convexity", "spurious_minima", "sparse_deconvolution", "diversity"])
def test_a_share_of_runs_of_which_one_is_not_known_is_not_known(name):
    shares = {
        "convexity": ("", "violations"),
        "spurious_minima": (".numbers", "share"),
        "sparse_deconvolution": (".shares", "share"),
        "diversity": (".numbers", "share"),
    }
    from importlib import import_module

    place, function = shares[name]
    share = getattr(import_module(f"{experiments.load(name).__name__}{place}"), function)
    rows = pd.DataFrame({"one": 1.0, "other": 1.0, "geodesic": [2.0, 2.0, 0.5]})
    rows = rows.assign(stuck=[True, True, False], risk=[1.0, 1.0, 0.0], success=rows.geodesic > 1, excess=1.0)
    rows = rows.assign(proved=rows.success, value=1.0, lower=0.5, first=1.0, seed=[0, 1, 2], problem="relu 2-d")
    rows["global"] = rows.success
    of = (rows, "geodesic") if name == "convexity" else (rows,)
    assert share(*of).value == pytest.approx(2 / 3)
    for column in ("geodesic", "risk", "excess", "value"):
        rows.loc[2, column] = math.nan
    assert math.isnan(share(*of).value)


def test_the_worst_rate_along_a_flow_is_not_known_where_one_of_them_is_not():
    from regimes.experiments.control.contraction_bound import _worst

    excess, error = pd.Series([1.0, math.nan, 2.0]), pd.Series([0.0, 0.0, 0.1])
    assert _worst(excess.fillna(0.0), error) == (2.0, (2.0, 2.0), 0.1)
    assert math.isnan(_worst(excess, error).value)
    assert math.isnan(_worst(excess.fillna(0.0), error.where(error > 0)).error)


def test_a_slope_over_places_of_which_one_is_not_known_is_not_known():
    rows = pd.DataFrame({"x": [1.0, 2.0, 4.0] * 2, "y": [1.0, 2.0, 4.0] * 2, "seed": [0] * 3 + [1] * 3})
    assert slope(rows.x, rows.y, rows.seed).value == pytest.approx(1.0)
    rows.loc[4, "x"] = math.nan
    assert math.isnan(slope(rows.x, rows.y, rows.seed).value)


def starts(**columns):
    """Runs of five seeds from four initialisations, one number each."""
    places = [(seed, gain) for seed in range(5) for gain in (1.0, 2.0, 3.0, 4.0)]
    rows = [{"law": "normal", "gain": gain, "seed": seed, "cost": gain, "accuracy": gain} for seed, gain in places]
    return pd.DataFrame(rows).assign(**columns)


def test_a_rank_correlation_over_runs_of_which_one_is_not_known_is_not_known():
    rows = starts()
    assert correlations(rows, "cost", "accuracy").value == pytest.approx(1.0)
    rows.loc[3, "cost"] = math.inf  # the largest, as it was
    assert correlations(rows, "cost", "accuracy").value == pytest.approx(1.0)
    rows.loc[3, "cost"] = math.nan
    found = correlations(rows, "cost", "accuracy")
    assert math.isnan(found.value + found.interval.low)
    assert correlations(rows, "accuracy", "gain").value == pytest.approx(1.0)


def small_nets():
    """Accuracies of five seeds of each arm."""
    rows = [{"arm": arm, "seed": seed, "reached": 1.0, "x": 1 + seed / 9} for arm in ARMS for seed in range(5)]
    rows = pd.DataFrame(rows)
    return rows.assign(equal_x=rows.x * (1 + (rows.arm == "lap") * rows.seed))


def test_arms_are_paired_by_the_seeds_that_both_were_run_with_and_one_that_is_not_known_is_not_left_out():
    rows = small_nets()
    rows.loc[rows.arm == "lap", "equal_x"] *= 2
    known = contrasts.ratio(rows[rows.seed > 0], "equal_x", "control").value
    rows.loc[0, "reached"] = 0.0  # of plain training, so that it has one pair less
    assert len(contrasts.pairs(rows, "equal_x", "vanilla")[0]) == 4
    assert contrasts.ratio(rows[~((rows.arm == "lap") & (rows.seed == 0))], "equal_x", "control").value == known
    rows.loc[7, "equal_x"] = math.nan  # of least action
    assert math.isnan(contrasts.ratio(rows, "equal_x", "control").value)
    assert math.isnan(contrasts.difference(rows, "equal_x", "vanilla").value)


def test_a_ratio_of_variances_with_a_size_that_is_not_known_is_not_the_largest_of_the_others():
    rows = pd.concat([small_nets().assign(train_size=size, accuracy=lambda some: some.equal_x) for size in (50, 80)])
    rows = rows.reset_index(drop=True)
    assert largest(rows, "accuracy", "vanilla")[1].value > 1
    rows.loc[(rows.train_size == 50) & (rows.arm == "vanilla") & (rows.seed == 2), "accuracy"] = math.nan
    size, found = largest(rows, "accuracy", "vanilla")
    assert (size, math.isnan(found.value)) == (50, True)
    assert largest(rows, "accuracy", "control")[1].value > 1


def test_the_best_rate_is_not_known_where_a_validation_accuracy_is_not():
    rows = pd.DataFrame([
        {"method": "vanilla", "arm": arm, "seed": seed, "train_size": 50, "validation": best, "held_out": best}
        for arm, best in (("vanilla", 0.4), ("vanilla_lr0.1", 0.6))
        for seed in range(3)
    ])  # fmt: skip
    assert tuned(rows, "vanilla", 50).held_out.tolist() == [0.6] * 3
    rows.loc[0, "validation"] = math.nan
    assert tuned(rows, "vanilla", 50).held_out.isna().all()


def test_the_largest_weight_that_keeps_the_accuracy_is_not_known_where_an_accuracy_is_not():
    rows = [
        {"problem": "circles", "scheme": "fixed", "kind": "end", "weight": weight, "seed": seed, "accuracy": right}
        for weight, right in ((0.0, 1.0), (0.1, 1.0), (0.3, 0.99), (1.0, 0.7))
        for seed in range(2)
    ]
    rows = pd.DataFrame(rows).assign(gap=0.1, gap_null=0.2)
    assert set(Ends.read(rows).usable(("circles",)).weight) == {0.3}
    rows.loc[4, "accuracy"] = math.nan  # at weight 0.3
    found = Ends.read(rows).usable(("circles",))
    assert (len(found), found[["weight", "gap", "gap_null"]].isna().all(axis=None)) == (2, True)
    rows.loc[0, "gap"] = math.nan  # at weight 0
    assert gap_ratio(Ends.read(rows).told()).value != 1.0


def test_the_rise_by_a_deletion_is_not_known_where_one_error_is_not():
    rows = pd.DataFrame(
        {"seed": [0, 0, 1, 1, 2, 2], "deleted": [0, 1] * 3, "test_error": [1.0, 2.0, 1.0, 3.0, 2.0, 2.5]}
    )
    assert (rise(rows).value, largest_rise(rows).value) == pytest.approx((3.5 / 3, 3.5 / 3))
    rows.loc[3, "test_error"] = math.nan
    assert math.isnan(rise(rows).value)
    assert math.isnan(largest_rise(rows).value)
