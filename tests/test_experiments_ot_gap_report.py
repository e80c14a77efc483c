"""Table, sentences and result.json of ot-gap from made-up numbers: one map a column, or the seeds of one recipe."""

import json
from pathlib import Path

import pytest
from torch.testing import assert_close

from regimes.errors import UserError
from regimes.jobs.ot_gap.config import refuse_twice
from regimes.jobs.ot_gap.evidence import judged
from regimes.jobs.ot_gap.groups import grouped, mean, paired, recipe
from regimes.jobs.ot_gap.report import result, screen_tables, table, words
from regimes.lab.hashed import File
from regimes.lab.intervals import Interval
from regimes.lab.report import to_json
from regimes.transport.pairing import Gap

POWER = {
    "departed": [],
    "gap_sees": {"rotation": 0.25, "noise": 0.05},
    "brenier_sees": {"rotation": 0.02},
    "points": 50,
    "dim": 6,
}
STOPPED = {"certified": False, "cost_ot": None, "gap": None, "relative_gap": None, "gap_high": 0.4}
IMAGE = {
    **{"image_asymmetry": 0.2, "image_asymmetry_se": 0.01, "image_min_eigenvalue": 0.1, "image_size": 1.0},
    **{"image_points": 50, "image_probes": 8, "image_excluded": 0},
}


def numbers(relative=0.0, **changes):
    """A map that passes everything, then changed."""
    passing = {
        "label": "net/last",
        "checkpoint": "runs/net/last.pt",
        "recipe": "a",
        "seed": 0,
        "stage": 0,
        "stages": 1,
        "lap": False,
        "cost_network": 2.0,
        "cost_ot": 2.0 * (1 - relative),
        "gap": 2.0 * relative,
        "relative_gap": relative,
        "gap_low": 2.0 * relative,
        "gap_high": 2.0 * relative + 1e-12,
        "cost_ot_high": 2.0 * (1 - relative),
        "dual_value": 2.0 * (1 - relative) - 1e-12,
        "max_violation": 1e-12,
        "certified": True,
        "worst_cycle": 100.0 * relative,
        "worst_cycle_length": 3,
        "points": 50,
        "dim": 6,
        "p": 2.0,
        "inputs": 6,
        "accuracy": 0.9,
        "brenier_asymmetry": 1e-8,
        "brenier_asymmetry_se": 1e-9,
        "min_eigenvalue": 0.2,
        "brenier_size": 1.0,
        "brenier_points": 50,
        "brenier_probes": 8,
        "brenier_excluded": 0,
        "brenier_missing": None,
        **dict.fromkeys(IMAGE),
        "straightness": 0.99,
        "action": 2.2,
        "action_over_cost_ot": 1.1,
        "cost_network_over_cost_ot": 1.0,
        "lipschitz": 1.5,
        "inverse_lipschitz": 2.0,
        "block_step_length": [0.5, 1.0],
        "block_asymmetry": [1e-9, None],
        "power": POWER,
        "power_line": "with 50 points in d = 6 the gap sees noise from 0.05",
    }
    return {**passing, **changes}


def seeds(*accuracies, name="net", **changes):
    """Maps of one recipe, a seed each."""
    return [
        numbers(
            **{"accuracy": accuracy, "seed": seed, "recipe": name, **changes},
            label=f"{name}/seed{seed}/last",
            checkpoint=f"runs/{name}/seed{seed}/last.pt",
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def test_groups_trained_in_modules_are_not_called_risk_alone():
    modules = {"module_wise": 2, "movement_step": 0.5}
    groups = grouped([*seeds(0.8, 0.9, name="m", **modules), *seeds(0.8, 0.9, name="l", lap=True)])
    assert [group.label for group in groups] == ["minimising movement in 2 modules", "least action"]
    plain = grouped([*seeds(0.8, 0.9, name="m", module_wise=2), *seeds(0.8, 0.9, name="r")])
    assert [group.label for group in plain] == ["risk alone in 2 modules", "risk alone"]


def rows(found):
    return {row["quantity"]: row for row in table(grouped(found))}


def test_a_stopped_solve_shows_brackets_and_no_cost():
    shown = rows([numbers(**STOPPED)])
    assert shown["exact OT cost"]["net/last"] == "in [2, 2]"
    assert shown["relative gap"]["net/last"] == "in [0, 0.2]"
    assert shown["certificate"]["net/last"] == "none: stopped early"


def test_the_power_is_told_where_there_is_no_gap():
    assert words(grouped([numbers()]))[1] == "net/last: with 50 points in d = 6 the gap sees noise from 0.05."
    assert len(words(grouped([numbers(0.1)]))) == 1


def test_the_table_has_a_column_a_map_and_no_row_without_a_number():
    other = numbers(0.1, label="other", recipe="b", **IMAGE)
    assert "Brenier asymmetry, image of encoder" not in rows([numbers()])
    both = rows([numbers(), other])
    assert both["Brenier asymmetry, image of encoder"] == {
        "quantity": "Brenier asymmetry, image of encoder",
        "net/last": "",
        "other": "0.2 ± 0.01",
    }
    assert both["cycle that saves most"]["other"] == "10 over 3 points"


def test_the_result_lists_every_map_with_its_verdict():
    found = result(grouped([numbers(), numbers(0.5, label="other", recipe="b")]))
    assert found["verdict"] == {"net/last": "optimal as far as these tests see", "other": "not optimal"}
    assert [one["exact_evidence"] for one in found["checkpoints"]] == ["no gap", "gap"]
    assert "groups" not in found


def test_seeds_of_one_recipe_are_one_column_with_means_and_intervals():
    (group,) = grouped(seeds(0.8, 0.9, 1.0))
    assert (group.label, group.seeds) == ("risk alone", (0, 1, 2))
    shown = rows(seeds(0.8, 0.9, 1.0))
    found = mean(group, lambda f: f["accuracy"], Interval(0.0, 1.0))
    assert found.interval.low < 0.8 < found.interval.high < 1.0  # Student's 0.9 ± 4.303 · 0.1/√3 would leave [0, 1]
    assert shown["accuracy on these points"]["risk alone"] == f"0.9 {found.interval}"
    assert shown["verdict"]["risk alone"] == "optimal as far as these tests see"
    assert shown["points × features"]["risk alone"] == "50 × 6"
    mixed = seeds(0.8, 0.9)
    mixed[1] |= {"relative_gap": 0.5, "gap_low": 1.0}
    assert "not optimal (1 of 2)" in rows(mixed)["verdict"]["risk alone"]
    found = result(grouped(mixed))
    assert_close(found["groups"]["risk alone"]["accuracy on these points"]["mean"], 0.85)
    assert json.loads(to_json(found))["groups"]["risk alone"]["seeds"] == [0, 1]


def test_two_recipes_are_compared_seed_by_seed():
    # The seeds scatter by far more than the recipes differ.
    plain, lap = seeds(0.5, 0.7, 0.9), seeds(0.41, 0.6, 0.79, name="lap", lap=True, action=1.1)
    groups = grouped([*plain, *lap])
    assert [group.label for group in groups] == ["risk alone", "least action"]
    found = paired(*groups, lambda f: f["accuracy"], Interval(-1.0, 1.0))
    assert_close(found.value, -0.1)
    assert found.interval.high < -0.06
    assert_close(paired(*groups, lambda f: f["action"], None).value, 0.5)
    said = words(groups)[-1]
    assert said.startswith("least action against risk alone, paired over 3 seeds, 95 % intervals: accuracy -0.1 [")
    assert "action × 0.5" in said
    assert words(groups, brief=True) == [f"{group.label}: {counted(group)}." for group in groups] + [said]
    assert "(two are few)" in words(grouped([*plain[:2], *lap[:2]]))[-1]


def test_each_asymmetry_is_compared_with_its_own_kind():
    plain = seeds(0.5, 0.7, brenier_asymmetry=0.1, **IMAGE)
    lap = seeds(0.6, 0.8, name="lap", lap=True, brenier_asymmetry=0.4, **IMAGE | {"image_asymmetry": 0.05})
    said = words(grouped([*plain, *lap]))[-1]
    assert "Brenier asymmetry, image of encoder × 0.25" in said
    assert "Brenier asymmetry, all directions × 4" in said
    without = seeds(0.6, 0.8, name="lap", lap=True, brenier_asymmetry=0.4)
    said = words(grouped([*plain, *without]))[-1]
    assert "image of encoder" not in said
    assert "Brenier asymmetry, all directions × 4" in said


def counted(group):
    return f"optimal as far as these tests see at {len(group.members)} of {len(group.members)} seeds"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lap": True, "growth": 0.5}, "least action against risk alone, paired over 2 seeds"),
        ({"lr": 0.2}, "(they differ in lr as well), paired over 2 seeds"),
        ({"dataset": "donut2d"}, "were trained on other samples (dataset differ)"),
    ],
)
def test_what_two_groups_differ_in_beside_the_objective_is_told(changes, told):
    plain = {"dataset": "digits", "lr": 0.1, "lap": False, "growth": 1.0}
    found = [
        *seeds(0.9, 0.8, name="plain", recipe="a", settings=plain),
        *seeds(0.8, 0.7, name="other", recipe="b", lap=True, settings=plain | changes),
    ]
    said = words(grouped(found))
    assert told in said[-1]
    assert bool(result(grouped(found))["paired"]) == ("paired" in told)


def test_one_seed_in_common_compares_nothing():
    groups = grouped([*seeds(0.5, 0.7), *seeds(0.6, name="lap", lap=True)])
    assert paired(*groups, lambda f: f["accuracy"], Interval(-1.0, 1.0)) is None
    assert not any("paired" in sentence for sentence in words(groups))


def test_a_number_that_a_seed_lacks_has_no_mean_and_no_ratio_is_made_of_zero():
    some = seeds(0.5, 0.7)
    some[1] |= STOPPED
    assert rows(some)["exact OT cost"]["risk alone"] == "not known at every seed"
    one, other = grouped([*seeds(0.0, 0.7), *seeds(0.5, 0.7, name="lap", lap=True)])
    assert paired(one, other, lambda f: f["accuracy"], None) is None


def test_runs_that_differ_in_more_than_the_seed_are_told_apart():
    settings = {"dataset": "digits", "seed": 0, "lr": 0.1, "device": "cpu", "data_dir": None, "seeds": 1}
    assert recipe(settings) == recipe({**settings, "seed": 1, "data_dir": "elsewhere", "seeds": 3})
    assert recipe(settings) != recipe({**settings, "lr": 0.2})
    twins = [numbers(), numbers(label="again", checkpoint="runs/again/last.pt")]  # one recipe, one seed, twice
    assert [group.label for group in grouped(twins)] == ["net/last", "again"]
    assert len(grouped([numbers(), numbers(seed=1, checkpoint="runs/net/best.pt")])) == 2  # other weights
    a, b = grouped([*seeds(0.5, 0.7, name="a"), *seeds(0.5, 0.7, name="b")])
    assert (a.label, b.label) == ("a/seed*/last", "b/seed*/last")


def test_a_screen_holds_fewer_rows_than_the_folder():
    groups = grouped([*seeds(0.5, 0.7, 0.9), *seeds(0.4, 0.6, 0.8, name="lap", lap=True)])
    alone = numbers(label="train-mnist-resnet9-lap-n300/last", recipe="c", checkpoint="c", **IMAGE)
    wide = grouped([alone, *seeds(0.5, 0.7, name="a"), *seeds(0.5, 0.7, name="b")])
    for some in (groups, wide):
        for short in screen_tables(some):
            assert len(short) < len(table(some))
            lines = [{key: max(map(len, text.split("\n"))) for key, text in row.items()} for row in short]
            widths = [max(len(part) for part in key.split("\n")) for key in short[0]]
            widths = [max(width, *(line[key] for line in lines)) for width, key in zip(widths, short[0], strict=True)]
            assert sum(widths) + 2 * len(widths) <= 80


@pytest.mark.parametrize("second", ["runs/a/last.pt", "runs/a/../a/last.pt"])
def test_a_checkpoint_that_is_named_twice_is_told_in_one_line(second):
    files = [File(path="runs/a/last.pt", sha256="1"), File(path=second, sha256="1")]
    with pytest.raises(UserError, match="is named twice: leave one out") as told:
        refuse_twice(files)
    assert len(str(told.value)) < 120
    with pytest.raises(UserError, match=r"runs/a/last.pt and copy.pt hold the same weights"):
        refuse_twice([files[0], File(path="copy.pt", sha256="1")])


def test_what_an_earlier_version_measured_is_judged_as_then():
    """The kept result, without what later versions measure besides."""
    held = json.loads((Path(__file__).parents[1] / "results" / "ot_gap" / "result.json").read_text(encoding="utf-8"))
    for numbers in held["checkpoints"]:
        without = {name: value for name, value in numbers.items() if name not in Gap._field_defaults}
        assert judged(without).verdict == numbers["verdict"]
