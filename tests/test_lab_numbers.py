"""Numbers with intervals, group by group: what verdict, table and figure share."""

import math

import numpy as np
import pandas
import pytest
from torch.testing import assert_close

from regimes.lab import numbers
from regimes.lab.intervals import POSITIVE, REAL, SHARE
from regimes.lab.numbers import Number
from regimes.lab.report import Interval, Prediction, Statement
from regimes.lab.statistics import geometric_mean_interval, loglog_slope, mean_interval, share_interval, slope_error

ALPHA = np.repeat([1.0, 10.0, 100.0], 3)
SEED = np.tile([0, 1, 2], 3)
LOSS = (1 + SEED) * ALPHA**-1.5 * (1 + 0.1 * np.sin(ALPHA + SEED))
ROWS = pandas.DataFrame({"alpha": ALPHA, "seed": SEED, "loss": LOSS, "loss_error": 1e-3 * LOSS})
STATEMENT = Statement("c.", "[s]", (Prediction("loss", Interval.at_most(1.0), "derived"),))


def test_the_numbers_are_those_of_the_statistics():
    assert numbers.mean([1.0, 2.0, 4.0]) == (*mean_interval([1.0, 2.0, 4.0]), 0.0)
    assert numbers.geometric_mean([1.0, 2.0, 4.0]) == (*geometric_mean_interval([1.0, 2.0, 4.0]), 0.0)
    found = numbers.slope(ROWS.alpha, ROWS.loss, ROWS.seed, ROWS.loss_error)
    assert found == (
        *loglog_slope(ALPHA, LOSS, groups=SEED.tolist()),
        slope_error(ALPHA, LOSS, 1e-3 * LOSS, groups=SEED.tolist()),
    )


def test_of_all_values_the_ends_are_exact():
    values, errors = [3.0, 1.0, 2.0], [0.1, 0.3, 0.2]
    assert numbers.largest(values, errors) == Number(3.0, Interval(3.0, 3.0), 0.3)
    assert numbers.smallest(values) == Number(1.0, Interval(1.0, 1.0))
    assert numbers.extent(values, errors) == Number(2.0, Interval(1.0, 3.0), 0.3)


def test_a_value_that_is_not_known_is_not_passed_over():
    for number in (numbers.extent, numbers.largest, numbers.smallest):
        assert math.isnan(number([1.0, math.nan]).interval.high)


@pytest.mark.parametrize("within", [REAL, POSITIVE, SHARE])
def test_the_mean_of_what_is_infinite_is_not_known(within):
    number = numbers.mean([0.5, math.inf], within=within)
    assert np.isnan([number.value, *number.interval]).all()


@pytest.mark.parametrize("odd", [0.0, -1e-17, math.inf, math.nan])
def test_what_has_no_logarithm_is_not_known_and_costs_no_other_number(odd):
    steep = numbers.slope([1.0, 2.0] * 3, [1.0, 2.0, odd, 2.0, 1.0, 2.0], [0, 0, 1, 1, 2, 2])
    for number in (numbers.geometric_mean([1.0, odd, 2.0]), steep):
        assert np.isnan([number.value, *number.interval]).all()
        (finding,) = numbers.judged(STATEMENT, {"loss": number}).findings
        assert (finding.verdict, finding.reason) == ("inconclusive", "the number is not known")


@pytest.mark.parametrize(
    "number", [numbers.mean, numbers.geometric_mean, numbers.largest, numbers.smallest, numbers.extent]
)
def test_no_values_make_no_number(number):
    assert number([]) is None


def test_a_slope_leaves_out_seeds_with_a_single_place():
    cut_short = ROWS.iloc[:-1]
    one_more = pandas.concat([cut_short, pandas.DataFrame({"alpha": [1.0], "seed": [9], "loss": [5.0]})])
    expected = numbers.slope(cut_short.alpha, cut_short.loss, cut_short.seed)
    assert numbers.slope(one_more.alpha, one_more.loss, one_more.seed) == expected
    single = ROWS[ROWS.alpha == 1.0]
    assert numbers.slope(single.alpha, single.loss, single.seed) is None


@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_a_few_equal_numbers_have_no_spread_that_could_decide(count):
    (finding,) = numbers.judged(STATEMENT, {"loss": numbers.mean([0.5] * count)}).findings
    assert finding.verdict == ("inconclusive" if count == 2 else "supported")
    assert ("gave the same number" in finding.reason) == (count < 6)


def test_each_group_has_its_number_and_groups_without_one_are_left_out():
    found = numbers.each(ROWS, "alpha", lambda some: numbers.mean(some.loss[some.alpha > 1]))
    assert list(found) == [10.0, 100.0]
    assert_close(found[10.0].value, float(LOSS[3:6].mean()))


def test_several_columns_group_by_tuples_in_the_order_asked_for():
    backwards = ROWS.iloc[::-1]
    by_both = numbers.each(backwards, ["alpha", "seed"], lambda some: numbers.mean(some.loss))
    assert list(by_both)[:2] == [(1.0, 0), (1.0, 1)]
    as_they_come = numbers.each(backwards, "alpha", lambda some: numbers.mean(some.loss), sort=False)
    assert list(as_they_come) == [100.0, 10.0, 1.0]


def test_the_end_of_an_axis_is_there_only_where_it_is_the_one_that_is_meant():
    assert numbers.at_lowest(ROWS, "alpha", 1.0).alpha.tolist() == [1.0] * 3
    assert numbers.at_highest(ROWS, "alpha", 50.0).alpha.tolist() == [100.0] * 3
    middle = ROWS[ROWS.alpha == 10]
    assert numbers.at_lowest(middle, "alpha", 1.0).empty
    assert numbers.at_highest(middle, "alpha", 50.0).empty
    assert numbers.at_lowest(ROWS[:0], "alpha", 1.0).empty


def test_the_judgement_rests_on_interval_and_error_and_merits_are_values():
    number = Number(0.5, Interval(0.4, 0.6), 0.01)
    judgement = numbers.judged(STATEMENT, {"loss": number}, {"loss": number, "runs": 3.0, "absent": None})
    assert judgement.verdict == "supported"
    assert judgement.findings[0].measured == number.interval
    assert judgement.findings[0].error == 0.01
    assert dict(judgement.merits) == {"loss": 0.5, "runs": 3.0}
    blurred = numbers.judged(STATEMENT, {"loss": Number(0.5, Interval(0.4, 0.6), 0.05)})
    assert blurred.verdict == "inconclusive"


def test_cells_hold_the_value_and_its_interval_and_are_empty_without_a_number():
    assert numbers.cells("loss", Number(0.5, Interval(0.4, 0.6))) == {"loss": 0.5, "loss, 95 %": "[0.4, 0.6]"}
    one_seed = Number(0.5, Interval(-math.inf, math.inf))
    assert numbers.cells("loss", one_seed) == {"loss": 0.5, "loss, 95 %": ""}
    assert numbers.cells("loss", None) == {"loss": "", "loss, 95 %": ""}


def test_differences_are_paired_by_seed_and_need_both():
    first = pandas.DataFrame({"seed": [0, 0, 1, 2], "x": [1.0, 3.0, 5.0, 9.0]})
    second = pandas.DataFrame({"seed": [3, 1, 0], "x": [7.0, 1.0, 1.0]})
    found = numbers.paired(numbers.by_seed(first, "x"), numbers.by_seed(second, "x"), lambda a, b: a - b)
    assert_close(found.tolist(), [1.0, 4.0])


@pytest.mark.parametrize(
    ("repetitions", "bounded", "drawn"), [(1, False, False), (2, True, False), (3, True, True), (None, True, True)]
)
def test_an_interval_is_drawn_from_three_repetitions_on(repetitions, bounded, drawn):
    number = numbers.largest([1.0]) if repetitions is None else numbers.mean([1.0, 2.0, 4.0][:repetitions])
    assert (number.bounded, number.drawn) == (bounded, drawn)


def test_an_interval_with_one_end_is_not_bounded():
    assert not Number(1.0, Interval(0.0, math.inf)).bounded
    assert numbers.cells("x", Number(1.0, Interval(0.0, math.inf)))["x, 95 %"] == ""


def test_the_value_of_an_extent_is_the_median_and_that_of_a_seed_the_mean():
    assert numbers.extent([1.0, 2.0, 9.0]).value == 2.0
    rows = pandas.DataFrame({"seed": [0, 0, 0, 1], "loss": [1.0, 2.0, 9.0, 5.0]})
    assert numbers.by_seed(rows, "loss").tolist() == [4.0, 5.0]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_worst_of_numbers_is_unknown_if_one_of_them_is(place):
    known = [numbers.mean([1.0, 2.0]), numbers.mean([5.0, 6.0])]
    assert numbers.worst([*known, None]) is known[1]
    assert numbers.worst(known, lambda one: -one.value) is known[0]
    found = numbers.worst([*known[:place], numbers.mean([1.0, math.nan]), *known[place:]])
    assert found is not None
    assert math.isnan(found.value)
    assert numbers.worst([None]) is None


def test_the_extreme_of_numbers_hides_no_smaller_one_that_is_less_well_known():
    firm, loose = numbers.mean([-0.2, -0.1, -0.15, -0.12]), numbers.mean([-2.0, 1.0, -1.5, 0.5])
    largest = numbers.extreme([firm, None, loose])
    assert firm is not None
    assert loose is not None
    assert largest is not None
    assert loose.value < firm.value == largest.value
    assert tuple(largest.interval) == (firm.interval.low, loose.interval.high)
    assert largest.estimate.at(0.99).high == loose.estimate.at(0.99).high > loose.interval.high
    smallest = numbers.extreme([firm, loose], sign=-1.0)
    assert smallest is not None
    assert (smallest.value, *smallest.interval) == (loose.value, loose.interval.low, firm.interval.high)
    unknown = numbers.extreme([firm, numbers.mean([1.0, math.nan])])
    assert unknown is not None
    assert math.isnan(unknown.value)
    assert numbers.extreme([None]) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_mean_of_a_seed_is_unknown_if_one_of_its_values_is(place):
    rows = pandas.DataFrame({"seed": [0, 0, 0, 1], "loss": [1.0, 2.0, 9.0, 5.0]})
    rows.loc[place, "loss"] = math.nan
    assert numbers.by_seed(rows, "loss").tolist() == pytest.approx([math.nan, 5.0], nan_ok=True)


def test_a_pair_with_an_unknown_value_is_unknown_and_a_seed_without_its_pair_is_left_out():
    first, second = pandas.Series({0: 1.0, 1: math.nan, 2: 3.0}), pandas.Series({0: 4.0, 1: 4.0, 3: 4.0})
    assert numbers.paired(first, second, lambda a, b: a - b).tolist() == pytest.approx([-3.0, math.nan], nan_ok=True)


def test_a_share_is_unknown_if_one_of_its_trials_is():
    values = pandas.Series([1.0, -1.0, 2.0])
    assert numbers.share(values > 0, values).estimate.value == 2 / 3
    assert numbers.share([True, True]).interval == share_interval(2, 2).interval
    assert numbers.share([]) is None
    for found in (numbers.share(values.mask(values < 0) > 0, values.mask(values < 0)), numbers.share([1.0, math.nan])):
        assert math.isnan(found.value)
        assert math.isnan(found.interval.low)
        assert found.estimate.repetitions > 1


def test_copies_within_a_group_do_not_narrow_the_interval_of_a_share():
    hits, seeds = np.array([1, 1, 0, 1, 0]), np.arange(5)
    once = numbers.share(hits)
    for copies in (2, 13):
        found = numbers.share(np.tile(hits, copies), groups=np.tile(seeds, copies))
        for level in (0.95, 0.99):
            assert tuple(found.estimate.at(level)) == pytest.approx(tuple(once.estimate.at(level)))
        assert found.estimate.repetitions == 5
        assert numbers.share(np.tile(hits, copies)).interval.inside(once.interval)  # without groups they do
    assert numbers.share(np.ones(260), groups=np.arange(260) % 20).interval == share_interval(20, 20).interval


def test_the_share_over_groups_is_the_mean_of_theirs_whatever_the_labels_are():
    found = numbers.share([1, 0, 0, 0, 1], groups=["b", "b", "b", "b", "a"])
    assert (found.value, found.interval) == (0.625, share_interval(1.25, 2).interval)
    assert numbers.share([1, math.nan, 1], groups=[0, 0, 1]).estimate.repetitions == 2
    with pytest.raises(ValueError, match="a group for each hit"):
        numbers.share([1, 0], groups=[1])


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_the_interval_over_groups_covers_however_the_hits_of_a_group_hang_together(common):
    """Each hit of a group is the group's own with the probability `common`, else drawn for itself."""
    rng = np.random.default_rng(0)
    groups, share, covered = np.repeat(np.arange(40), 6), 0.8, []
    for _ in range(400):
        own, shared = rng.random(240) < share, (rng.random(40) < share)[groups]
        low, high = numbers.share(np.where(rng.random(240) < common, shared, own), groups=groups).interval
        covered.append(low <= share <= high)
    assert np.mean(covered) > 0.95 - 5 * math.sqrt(0.05 * 0.95 / 400)
