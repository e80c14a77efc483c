"""Numbers of a net that has diverged (NaN) decide nothing: what is made of them is not known."""

import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regimes import experiments
from regimes.experiments.control.benning_networks import numbers as benning
from regimes.experiments.control.benning_networks.config import SIMPLEX
from regimes.experiments.lazy.planes import crossing, exponents_over
from regimes.experiments.lazy.unbalanced_layers import LINEAR, peak
from regimes.experiments.mean_field.complexity.numbers import thresholds
from regimes.experiments.mean_field.deleted_blocks.numbers import departure_share, in_number
from regimes.lab.numbers import slope

RESULTS = Path(__file__).parent.parent / "results"


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
    rows = pd.DataFrame({"activation": LINEAR, "imbalance": [-1.0, 0.0, 1.0], "seed": 0, "drift": [1.0, 3.0, 2.0]})
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
    rows = rows.assign(stuck=[True, True, False], risk=1.0, success=rows.geodesic > 1, excess=1.0)
    rows = rows.assign(proved=rows.success, value=1.0, lower=0.5, seed=[0, 1, 2], problem="relu 2-d")
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


# Of these NaN says that a net did not arrive where others were measured: it is left out, and counted.
LEFT_OUT = {"propagation_of_chaos", "sparse_deconvolution", "spurious_minima"}
JUDGED = [
    name
    for name, theory in experiments.homes().items()
    if theory != "least_action" and name not in LEFT_OUT and (RESULTS / name / "rows.csv").exists()
]


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGED)
def test_no_number_of_a_kept_result_comes_out_of_a_row_without_numbers(name, monkeypatch):
    monkeypatch.setattr("regimes.experiments.lazy.criterion_predicts.ranks.RESAMPLES", 50)
    experiment, rows = experiments.load(name), pd.read_csv(RESULTS / name / "rows.csv")
    numbers = [
        column
        for column in rows.select_dtypes("float").columns
        if column not in {*experiment.GRID, "seed", "reached", "trained", "stopped"}
    ]
    lost = rows.copy()
    lost.loc[len(rows) // 2, numbers] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = experiment.judge(rows), experiment.judge(lost)
    found = {finding.quantity: finding.value for finding in after.findings} | dict(after.merits)
    held = {finding.quantity: finding.value for finding in before.findings} | dict(before.merits)
    assert {name: (held[name], value) for name, value in found.items() if value == value and value != held[name]} == {}
