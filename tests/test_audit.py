"""Kept results against the history of their predictions, in small repositories made for it."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import toy_experiment as toy
from command import command

from regimes.audit import audit, report
from regimes.audit.history import History, compared
from regimes.lab.verification import verify

HOME = "house/statements"
CONFIG = toy.Config(pause=1e-6)  # no smoke run
THEN, LAUNCH, LATER = (datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2, 3))


class Repository:
    """A git repository whose only statement is the toy's, committed at times that the test chooses."""

    def __init__(self, path):
        self.path = path
        self.git("init", "-q")

    def git(self, *arguments, time=THEN):
        stamp = {"GIT_AUTHOR_DATE": time.isoformat(), "GIT_COMMITTER_DATE": time.isoformat(), "HOME": str(self.path)}
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(self.path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=stamp).stdout.strip()

    def says(self, low, high, *, quantity=toy.SLOPE, time=THEN, file="toy.py"):
        """Commit the statement with this prediction; the name of the commit."""
        for old in (self.path / HOME).rglob("*.py"):
            old.unlink()
        target = self.path / HOME / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            f"from typing import NamedTuple\nfrom collections import namedtuple\n"
            f"STATEMENT = namedtuple('S', 'predictions')((({quantity!r}, ({low}, {high})),))\n# {time}\n"
        )
        self.git("add", "-A", time=time)
        self.git("commit", "-q", "-m", "x", time=time)
        return self.git("rev-parse", "HEAD")

    def history(self):
        return History(self.path, HOME)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "repository").mkdir()
    return Repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "toy"
    found = verify(toy, "toy", CONFIG, path)
    assert found.judgement.verdict == "supported"
    return path


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """Makes a run of the toy that was launched at a commit."""
    monkeypatch.setattr(
        "regimes.audit.check.experiments", SimpleNamespace(names=lambda: ["toy"], load=lambda name: toy)
    )

    def made(commit, *, changed=False, started=LAUNCH):
        path = tmp_path / "run"
        shutil.copytree(finished, path)
        launch = {"commit": commit, "uncommitted_changes": changed, "started": started.isoformat()}
        (path / "run.json").write_text(json.dumps({"name": "toy", "launches": [launch]}))
        lines = [json.loads(line) for line in (path / "points.jsonl").read_text().splitlines()]
        for line in lines:
            line["stamp"]["commit"] = commit
        (path / "points.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return made


def test_a_prediction_made_before_the_rows_passes(repository, run):
    first = repository.says(1.9, 2.1)
    (found,) = audit([run(first)], repository.history())
    assert (found.faults, found.verdict, found.since.name) == ((), "supported", first)


def test_an_audit_says_how_long_it_takes(repository, run, monkeypatch, capsys):
    monkeypatch.setattr("regimes.lab.console.SECONDS_BETWEEN_LINES", 0.0)
    path = run(repository.says(1.9, 2.1))
    assert len(audit([path, path.parent / "no run", path], repository.history())) == 2
    assert "audit: 1 of 2, " in capsys.readouterr().err


def test_an_old_result_with_a_younger_prediction_is_caught(repository, run):
    old = repository.says(1.0, 1.5)
    young = repository.says(1.9, 2.1, time=LATER)
    (found,) = audit([run(old)], repository.history())
    assert not found.passed
    assert (
        f"1 of 1 predictions are younger than the first row (2020-01-02 00:00; commit {young[:12]} of 2020-01-03"
        in (found.faults[0])
    )
    head = f"FAILED  {found.run}: supported; predictions since {young[:12]} of 2020-01-03 00:00"
    assert report(found)[0] == head


def test_other_words_another_place_and_a_neighbour_are_no_new_prediction(repository, run):
    first = repository.says(1.9, 2.1, quantity="exponent")
    repository.says(1.9, 2.1, file="theory/toy/__init__.py", time=LATER)
    (found,) = audit([run(first)], repository.history())
    assert (found.faults, found.since.name) == ((), first)
    # Whether they mean the same is for people to say, who are told.
    assert "1 of 1 predictions had other words when the first row came: 'exponent', now " in found.remarks[0]
    a, b, other = ("a", 0.0, 1.0), ("b", 0.0, 1.0), ("c", 0.0, 1.0)
    assert compared([a, b], [a, other]) == ([], [("c", "b")])
    assert compared([a, b], [a]) == (["b"], [])
    assert compared([("a", 0.0, 2.0)], [a, ("b", 0.0, 2.0)]) == (["a"], [])  # the words are the same
    assert compared([a], None) == (["a"], [])


def test_where_history_was_rewritten_the_time_of_the_launch_counts(repository, run):
    repository.says(1.9, 2.1)
    (found,) = audit([run("0" * 40)], repository.history())
    assert found.passed
    shutil.rmtree(found.run)
    (found,) = audit([run("0" * 40, started=datetime(2019, 1, 1, tzinfo=UTC))], repository.history())
    assert "younger" in found.faults[0]


def test_a_result_that_its_rows_do_not_say_is_caught(repository, run):
    path = run(repository.says(1.9, 2.1))
    result = json.loads((path / "result.json").read_text())
    result["findings"][0]["measured"][0] += 0.01
    (path / "result.json").write_text(json.dumps(result | {"verdict": "refuted"}))
    (found,) = audit([path], repository.history())
    assert found.faults[0] == "result.json says refuted, its rows say supported"
    assert "its rows give" in found.faults[1]
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(re.sub(r"pause: .*", "pause: 0.5", text))
    (found,) = audit([path], repository.history())
    assert any("settings that the rows were measured with" in fault for fault in found.faults)


def altered(path, change):
    """The result of a run, changed in place."""
    held = json.loads((path / "result.json").read_text())
    change(held)
    (path / "result.json").write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda held: held["findings"][0].update(predicted=[1.99, 2.01]), "as the prediction, the statement has"),
        (lambda held: held["findings"][0].update(origin="published"), "as the prediction, the statement has"),
        (lambda held: held["findings"].append(held["findings"][0] | {"quantity": "more"}), "the statement has none"),
        (lambda held: held.pop("verdict") and held.pop("findings"), "result.json is damaged"),
        (lambda held: held["findings"][0].pop("verdict"), "result.json is damaged"),
        (lambda held: held["findings"][0].update(measured=3), "result.json is damaged"),
        (lambda held: held.update(points=[]), "result.json is damaged"),
    ],
)
def test_a_result_with_other_predictions_or_without_its_parts_is_caught(repository, run, change, told):
    path = run(repository.says(1.9, 2.1))
    altered(path, change)
    (found,) = audit([path], repository.history())
    assert any(told in fault for fault in found.faults)


@pytest.mark.parametrize("launches", [[], [{}], [{"started": "yesterday"}], [{"started": "2020-01-01T00:00:00"}]])
def test_launches_without_a_time_are_no_bug(repository, run, launches):
    path = run(repository.says(1.9, 2.1))
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"launches": launches}))
    (found,) = audit([path], repository.history())
    assert "a launch has no time of its start" in found.faults[0]


def test_uncommitted_changes_fail_a_run(repository, run):
    (found,) = audit([run(repository.says(1.9, 2.1), changed=True)], repository.history())
    assert "uncommitted changes" in found.faults[0]


def test_without_git_and_in_a_shallow_clone_the_age_is_said_to_be_unknown(repository, run, tmp_path):
    path = run(repository.says(1.0, 1.5))
    repository.says(1.9, 2.1, time=LATER)
    url = f"file://{repository.path}"
    repository.git("clone", "-q", "--depth", "1", url, str(tmp_path / "shallow"))
    (tmp_path / "plain").mkdir()
    for root, reason in (("plain", "no git"), ("shallow", "this clone is shallow")):
        (found,) = audit([path], History(tmp_path / root, HOME))
        assert (found.passed, found.since) == (True, None)
        assert any(reason in remark for remark in found.remarks)


def test_the_command_ends_with_1_if_a_run_fails_and_with_2_without_runs(repository, run, tmp_path, monkeypatch):
    path = run(repository.says(1.9, 2.1), changed=True)
    monkeypatch.setattr("regimes.audit.check.History", repository.history)
    ended = command("audit", str(path))
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "uncommitted changes" in ended.out
    monkeypatch.chdir(tmp_path)
    assert command("audit").code == 2
    assert command("audit", str(tmp_path)).code == 2
    (tmp_path / "results").mkdir()
    shutil.move(path, tmp_path / "results" / "toy")
    record = json.loads((tmp_path / "results" / "toy" / "run.json").read_text())
    record["launches"][0]["uncommitted_changes"] = False
    (tmp_path / "results" / "toy" / "run.json").write_text(json.dumps(record))
    ended = command("audit")
    assert ended.code == 0, ended.err
    assert "The run passes." in ended.out
