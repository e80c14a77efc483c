"""Rows that have lost a field, or hold another kind of value than was measured, are told by line, row and field."""

import json
import math

import pytest
import toy_experiment as toy

from regimes.errors import UserError
from regimes.lab.fields import fields_of, read_table
from regimes.lab.grid import grid_points
from regimes.lab.log import LOG, PointLog, Record, read_log
from regimes.lab.runs import RunFolder
from regimes.lab.sweep import rows_of, to_csv
from regimes.lab.verification import conclude, verify

RECORDS = [
    Record(
        {"x": float(x), "seed": seed}, [{"y": 0.5 * x, "n": 3, "gap": math.nan, "best": None, "label": "a"}] * 2, 0.5
    )
    for x in (1, 2)
    for seed in (0, 1)
]
NEW, WITH_TABLE, ALONE = "a log of now", "an old log beside rows.csv", "an old log alone"
EDITS = {
    "a field is lost": (lambda row: row.pop("y"), "field 'y' is missing", (NEW, WITH_TABLE, ALONE)),
    "a number is not one": (lambda row: row.update(y=math.nan), "field 'y' is not a number", (NEW, WITH_TABLE)),
    "a number is none": (lambda row: row.update(y=None), "field 'y' is none, and a number", (NEW, WITH_TABLE)),
    "a number is a text": (lambda row: row.update(y="much"), "field 'y' is a text", (NEW, WITH_TABLE, ALONE)),
    "a number is true": (lambda row: row.update(n=True), "field 'n' is true or false", (NEW, WITH_TABLE)),
    "a text is a number": (lambda row: row.update(label=3), "field 'label' is a number", (NEW, WITH_TABLE, ALONE)),
    "a field is a list": (lambda row: row.update(y=[1.0]), "field 'y' holds a list", (NEW, WITH_TABLE, ALONE)),
    "a field is new": (lambda row: row.update(extra=1), "field 'extra' was never measured", (NEW,)),
}


def put(folder, kind, records=RECORDS):
    """A log, and what may tell how it was."""
    log = PointLog(folder)
    log.append(records)
    log.close()
    if kind != NEW:
        edit(folder, lambda line: line.pop("fields"), every=True)
    if kind == WITH_TABLE:
        (folder / "rows.csv").write_text(to_csv(records))


def edit(folder, change, every=False):
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    for line in lines if every else lines[2:3]:
        change(line)
    (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, (*_, kinds) in EDITS.items() for kind in kinds])
def test_an_altered_row_is_told_by_line_row_and_field(tmp_path, name, kind):
    change, text, _ = EDITS[name]
    put(tmp_path, kind)
    assert len(read_log(tmp_path).records) == 4
    edit(tmp_path, lambda line: change(line["rows"][1]))
    with pytest.raises(UserError, match=rf"points.jsonl is damaged: line 3 \(x=2.0, seed=0\), row 2: {text}") as caught:
        read_log(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [NEW, WITH_TABLE])
def test_a_lost_row_is_told(tmp_path, kind):
    put(tmp_path, kind)
    edit(tmp_path, lambda line: line["rows"].pop())
    with pytest.raises(UserError, match=r"line 3 .* has 1 rows, and 2 were measured"):
        read_log(tmp_path)


@pytest.mark.parametrize("kind", [NEW, WITH_TABLE, ALONE])
def test_another_number_of_the_same_kind_is_read(tmp_path, kind):
    put(tmp_path, kind)
    edit(tmp_path, lambda line: line["rows"][1].update(y=7, n=1e300, label="b"))
    assert read_log(tmp_path).records[2].rows[1]["y"] == 7


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda line: line.pop("seconds"), "line 3 is no finished point: it lacks 'seconds'"),
        (lambda line: line.pop("rows"), "line 3 is no finished point: it lacks 'rows'"),
        (lambda line: line.pop("point"), "line 3 is no finished point: it lacks 'point'"),
        (lambda line: line.update(seconds=math.nan), "line 3 is no finished point"),
        (lambda line: line.update(seconds="1"), "line 3 is no finished point"),
        (lambda line: line["point"].update(x=1.0), "line 3 holds the point of line 1 again"),
    ],
)
def test_a_line_without_its_parts_is_told(tmp_path, change, text):
    put(tmp_path, NEW)
    edit(tmp_path, change)
    with pytest.raises(UserError, match=text):
        read_log(tmp_path)


def test_rows_of_several_kinds_and_odd_points_are_no_damage(tmp_path):
    odd = [
        RECORDS[0]._replace(rows=[{"y": 1.0}, {"path": 1, "z": math.inf}, {"path": 2, "z": 0.5}]),
        RECORDS[1]._replace(rows=[{"y": math.nan, "note": "diverged"}]),
        RECORDS[2]._replace(rows=[]),
    ]
    put(tmp_path, NEW, odd)
    assert [len(record.rows) for record in read_log(tmp_path).records] == [3, 1, 0]
    assert fields_of(odd[0].rows)[1] == [2, {"path": "number", "z": "number"}]


def test_a_point_that_the_grid_does_not_have_is_not_judged(tmp_path):
    config = toy.Config(seeds=2)
    verify(toy, "toy", config, tmp_path / "run")
    edit(tmp_path / "run", lambda line: line["point"].update(seed=7))
    with pytest.raises(UserError, match=r"x=2\.0, seed=7, which the grid does not have"):
        rows_of(tmp_path / "run", grid_points(toy, config))


def test_a_field_that_no_row_has_is_named_by_the_judgement(tmp_path):
    verify(toy, "toy", toy.Config(seeds=2), tmp_path / "run")
    edit(tmp_path / "run", lambda line: (line.pop("fields"), line["rows"][0].pop("y")), every=True)
    (tmp_path / "run" / "rows.csv").unlink()
    with RunFolder.existing(tmp_path / "run") as folder, pytest.raises(UserError, match="have no field 'y'"):
        conclude(toy, folder)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda text: text[: text.rindex(",")], "line 9 has 6 of 7 fields, from 'label' on"),
        (lambda text: text.replace("0.5", "0.5,1", 1), "line 2 has 8 of 7 fields"),
        (lambda text: text.replace("0.5", "half", 1), "line 2: field 'y' is a text"),
        (lambda text: text + '"', "rows.csv is damaged"),
    ],
)
def test_a_damaged_table_is_told_by_line_and_field(tmp_path, damage, text):
    (tmp_path / "rows.csv").write_text(damage(to_csv(RECORDS)))
    with pytest.raises(UserError, match=text):
        read_table(tmp_path / "rows.csv")


def test_a_whole_table_is_read_exactly(tmp_path):
    (tmp_path / "rows.csv").write_text(to_csv(RECORDS))
    assert to_csv([Record({}, read_table(tmp_path / "rows.csv"), 0.0)]) == to_csv(RECORDS)
