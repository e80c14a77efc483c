"""A run split over machines and joined again."""

import json
import shutil
from types import SimpleNamespace

import pytest
import toy_experiment as toy
from command import command

from regimes.errors import UserError
from regimes.lab.merging import Merged, Part, merge, name_of
from regimes.lab.runs import RunFolder
from regimes.lab.sweep import rows_of
from regimes.lab.verification import conclude, verify

CONFIG = toy.Config()
PLANNED = SimpleNamespace(**{name: value for name, value in vars(toy).items() if name[:1] != "_"}, PLAN=("x", "seeds"))


@pytest.fixture
def parts(tmp_path):
    """The toy run in three parts."""
    folders = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, 1):
        assert verify(toy, "toy", CONFIG, folder, part=Part(number, 3)) is None
    return folders


def log(folder):
    """Points and rows of a folder; seconds are each run's own."""
    lines = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    return [(line["point"], json.dumps(line["rows"])) for line in lines]


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_every_call_belongs_to_one_part(of):
    for index in range(20):
        assert sum(Part(number, of).has(index) for number in range(1, of + 1)) == 1


def test_parts_are_read_as_written():
    assert Part.read("2/4") == Part(2, 4)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/0", "", "-1/2"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="such as 2/4"):
        Part.read(text)


def test_joined_parts_are_the_whole_run(parts, tmp_path):
    whole, joined = tmp_path / "whole", tmp_path / "joined"
    verify(toy, "toy", CONFIG, whole)
    assert [len(log(part)) for part in parts] == [6, 3, 3]
    assert merge(toy, "toy", parts[::-1], joined, CONFIG) == Merged(12, 12)
    assert log(joined) == log(whole)
    assert (joined / "rows.csv").read_text() == (whole / "rows.csv").read_text()
    with RunFolder.existing(joined) as folder:
        assert conclude(toy, folder).judgement.verdict == "no verdict"  # of a smoke run
        assert len(rows_of(folder).rows) == 12


def test_the_joined_run_names_every_launch(parts, tmp_path):
    merge(toy, "toy", parts, tmp_path / "joined", CONFIG)
    merge(toy, "toy", parts, tmp_path / "joined", CONFIG)  # nothing is counted twice
    own = [json.loads((part / "run.json").read_text())["launches"] for part in parts]
    launches = json.loads((tmp_path / "joined" / "run.json").read_text())["launches"]
    assert launches[:3] == [launch for one in own for launch in one]
    assert len(launches) == 4


def test_a_part_that_is_missing_is_measured_by_the_same_verify(parts, tmp_path):
    joined = tmp_path / "joined"
    assert merge(toy, "toy", parts[:2], joined, CONFIG) == Merged(9, 12)
    verify(toy, "toy", CONFIG, joined)
    assert len(log(joined)) == 12


def test_settings_that_say_what_is_measured_may_differ_where_the_experiment_says_so(parts, tmp_path):
    more = toy.Config(x=[1.0, 2.0, 4.0, 8.0, 16.0])
    with pytest.raises(ValueError, match=r"another configuration: x"):
        merge(toy, "toy", parts, tmp_path / "a", more)
    assert not (tmp_path / "a").exists()
    assert merge(PLANNED, "toy", parts, tmp_path / "a", more) == Merged(12, 15)
    with pytest.raises(ValueError, match=r"pause is 0\.0 there, 0\.1 here"):
        merge(PLANNED, "toy", parts, tmp_path / "b", toy.Config(pause=0.1))
    with pytest.raises(ValueError, match=r"x=8.0, seed=0, which is none of the merged"):
        merge(PLANNED, "toy", parts, tmp_path / "b", toy.Config(x=[1.0, 2.0, 4.0]))


def test_a_run_is_given_more_points_where_the_experiment_says_so(tmp_path):
    """As by more seeds: what is measured stands, and only the rest is measured."""
    few, more = tmp_path / "few", toy.Config(x=[1.0, 2.0, 4.0, 8.0, 16.0])
    verify(PLANNED, "toy", CONFIG, few)
    before, text = log(few), (few / "points.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"x=8\.0, seed=0, which the grid does not have: give settings that have it"):
        verify(PLANNED, "toy", toy.Config(x=[1.0, 2.0, 4.0]), few)
    with pytest.raises(UserError, match=r"another configuration: pause is 0\.0 there, 0\.1 here"):
        verify(PLANNED, "toy", toy.Config(x=more.x, pause=0.1), few)
    with pytest.raises(UserError, match="another configuration: x"):
        verify(SimpleNamespace(**vars(PLANNED), JOINT=True), "toy", more, few)
    assert (few / "points.jsonl").read_bytes() == text
    assert "16.0" not in (few / "config.yaml").read_text()
    verify(PLANNED, "toy", more, few)
    assert (few / "points.jsonl").read_bytes()[: len(text)] == text
    assert [line for line in log(few) if line in before] == before
    verify(PLANNED, "toy", more, tmp_path / "whole")
    assert log(few) == log(tmp_path / "whole")
    assert "16.0" in (few / "config.yaml").read_text()


def test_parts_may_have_their_data_in_other_folders_and_other_devices(tmp_path):
    class Placed(toy.Config):
        data_dir: str | None = None
        device: str = "cpu"

    placed = SimpleNamespace(**{**vars(toy), "Config": Placed})
    for number in (1, 2):
        verify(placed, "toy", Placed(data_dir=f"/data/{number}"), tmp_path / f"{number}", part=Part(number, 2))
    runs = [tmp_path / "1", tmp_path / "2"]
    assert merge(placed, "toy", runs, tmp_path / "all", Placed(device="cuda")) == Merged(12, 12)
    before = log(tmp_path / "1")
    verify(placed, "toy", Placed(data_dir="/elsewhere"), tmp_path / "1")  # goes on where the data lie now
    assert [line for line in log(tmp_path / "1") if line in before] == before
    with pytest.raises(UserError, match="holds another configuration: device is 'cpu' there"):
        verify(placed, "toy", Placed(device="meta"), tmp_path / "1")


def test_a_point_with_unlike_figures_is_refused(parts, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(parts[0], other)
    file = other / "points.jsonl"
    file.write_text(file.read_text().replace('"y": 1.0', '"y": 1.5', 1))
    with pytest.raises(ValueError, match=r"part1 and .*other hold unlike numbers of the point x=1.0, seed=0"):
        merge(toy, "toy", [parts[0], other], tmp_path / "joined", CONFIG)
    shutil.copytree(parts[0], tmp_path / "same")
    assert merge(toy, "toy", [parts[0], tmp_path / "same"], tmp_path / "joined", CONFIG).points == 6


def test_runs_of_other_statements_and_folders_of_none_are_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="of 'toy', not of 'lazy_rate'"):
        merge(toy, "lazy_rate", parts, tmp_path / "joined", CONFIG)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        name_of(tmp_path / "nowhere")


def test_more_parts_than_calls_are_refused(tmp_path):
    for number, parts in ((1, 13), (13, 13), (1, 10**15)):
        with pytest.raises(UserError, match=rf"12 calls of measure, too few for {parts} parts: take at most 12"):
            verify(toy, "toy", CONFIG, tmp_path / "a", part=Part(number, parts))
    joint = SimpleNamespace(**vars(PLANNED), JOINT=True)
    with pytest.raises(UserError, match=r"4 calls of measure, too few for 5 parts"):
        verify(joint, "toy", CONFIG, tmp_path / "a", part=Part(1, 5))


def test_more_parts_than_calls_leave_the_old_run_where_it_is(tmp_path):
    verify(toy, "toy", CONFIG, tmp_path / "a")
    with pytest.raises(UserError, match=r"too few for 13 parts"):
        verify(toy, "toy", CONFIG, tmp_path / "a", part=Part(1, 13), fresh=True)
    assert [folder.name for folder in tmp_path.iterdir()] == ["a"]


def test_a_run_of_one_call_is_split_over_its_points(tmp_path):
    once = SimpleNamespace(**{**vars(PLANNED), "BATCHED": ("x", "seed")})
    for number in (1, 2):
        verify(once, "toy", CONFIG, tmp_path / f"{number}", part=Part(number, 2))
        assert len(log(tmp_path / f"{number}")) == 6
        verify(once, "toy", CONFIG, tmp_path / f"{number}", part=Part(number, 2))  # measures nothing again
    verify(once, "toy", CONFIG, tmp_path / "whole")
    assert merge(once, "toy", [tmp_path / "1", tmp_path / "2"], tmp_path / "all", CONFIG) == Merged(12, 12)
    assert log(tmp_path / "all") == log(tmp_path / "whole")


def test_rows_of_unlike_statements_settings_or_data_are_not_joined(parts, tmp_path):
    file = parts[1] / "points.jsonl"
    kept = file.read_text()
    for kind, text in (("statement", "another statement"), ("config", "other settings")):
        lines = [json.loads(line) for line in kept.splitlines()]
        for line in lines:
            line["stamp"][kind] = "0" * 16
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(UserError, match=text):
            merge(toy, "toy", parts, tmp_path / "joined", CONFIG)
    file.write_text(
        "".join(json.dumps({k: v for k, v in json.loads(x).items() if k != "stamp"}) + "\n" for x in kept.splitlines())
    )
    assert merge(toy, "toy", parts, tmp_path / "joined", CONFIG).points == 12  # rows of old have no stamp


@pytest.mark.slow
def test_the_command_line_splits_and_joins(tmp_path):
    small = ("--set", "seeds=2")
    for number in (1, 2):
        out = str(tmp_path / f"{number}")
        ended = command("verify", "finite_horizon_bound", *small, "--part", f"{number}/2", "--out", out)
        assert ended.code == 0, ended.err
        assert "Join all parts" in ended.out
    lone = command("merge", str(tmp_path / "1"), "--out", str(tmp_path / "lone"))
    assert lone.code == 1  # an incomplete run is no success
    assert "Measure the rest" in lone.out
    ended = command("merge", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "all"))
    assert ended.code == 0, ended.err
    assert (tmp_path / "all" / "figure.png").exists()
    refused = command("verify", "lazy_rate", "--part", "3/2", "--out", str(tmp_path / "3"))
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert not (tmp_path / "3").exists()


def test_one_run_by_two_names_is_refused_and_nothing_is_made(parts, tmp_path):
    (tmp_path / "link").symlink_to(parts[0])
    for other in (parts[0], tmp_path / "part2" / ".." / "part1", tmp_path / "link"):
        with pytest.raises(UserError, match=r"each run can be named once.*leave one out"):
            merge(toy, "toy", [parts[0], parts[1], other], tmp_path / "joined", CONFIG)
    assert not (tmp_path / "joined").exists()
