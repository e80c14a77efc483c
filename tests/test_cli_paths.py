"""Paths as people have them: the home folder, odd names, folders that cannot be read or written, full disks."""

import errno
import os
import shlex
from pathlib import Path

import pytest
import toy_experiment as toy
from command import command

from regimes import experiments
from regimes.errors import UserError
from regimes.lab import files, locks
from regimes.lab.config import load
from regimes.lab.runs import RunFolder
from regimes.paths import home, typed
from regimes.training.config import TrainConfig

NAMES = ("-dash", "--out", "a b", "two\nlines", "東京 ä", 'it\'s "quoted"', "$HOME;`x`", "*", ".hidden", "tab\there")
FEW = ("--set", "x=[1,2]", "--set", "seeds=1")


@pytest.fixture(autouse=True)
def toy_statement(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments, "load", lambda name: toy)
    monkeypatch.setattr(experiments, "names", lambda: ["toy"])
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")


def no_figure(monkeypatch):
    monkeypatch.setattr(toy, "draw", lambda rows: 1 / 0)  # told in the output; it costs nothing


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(name, monkeypatch):
    no_figure(monkeypatch)
    ended = command("verify", "toy", *FEW, "--out", name)
    assert (ended.code, ended.err) == (0, "")
    assert Path(name, "result.json").exists()
    assert command("judge", "--", name).code == 0
    assert (Path("x") / shlex.split(typed(name))[0]).resolve() == Path("x", name).resolve()
    assert not typed(name).startswith("-")


def test_the_home_folder_is_meant_by_a_tilde_in_every_path(tmp_path, monkeypatch):
    no_figure(monkeypatch)
    place = tmp_path / "home"
    place.mkdir()
    (place / "a.yaml").write_text("x: [1, 2]\nseeds: 1\n")
    assert command("verify", "toy", "--config", "~/a.yaml", "--out", "~/run").code == 0
    assert (place / "run" / "rows.csv").exists()
    assert command("judge", "~/run").code == 0
    assert command("merge", "~/run", "--out", "~/whole").code == 0
    assert (place / "whole" / "rows.csv").exists()
    assert "has no run.json" not in command("audit", "~/run").err
    assert f"{place}/a.pt does not exist" in command("ot-gap", "~/a.pt").err
    (place / "b.yaml").write_text("data_dir: ~/data\n")
    for arguments in (["--data-dir", "~/data"], ["--set", "data_dir=~/data"], ["--config", "~/b.yaml"]):
        for job in ("train", "lazy-vs-meanfield"):
            assert f"data_dir: {place}/data" in " ".join(command(job, *arguments, "--print-config").out.split())
    assert load(TrainConfig, overrides=["data_dir=./~"]).data_dir == Path("~")  # a folder of that name
    with RunFolder.existing("~/run") as folder:
        assert folder.path == place / "run"
    assert not Path("~").exists()


def test_the_home_folder_of_nobody_is_a_mistake():
    ended = command("verify", "toy", "--out", "~nobody-of-this-name/run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "home folder" in ended.err
    with pytest.raises(UserError, match="home folder"):
        home("~nobody-of-this-name")


def test_a_null_character_is_no_path():
    ended = command("verify", "toy", "--out", "a\0b")
    assert (ended.code, "null character" in ended.err) == (2, True)


def refuse(number, only=lambda path: True):
    """A function of a path that fails as the system does."""

    def fail(path, *_, **__):
        if only(str(path)):
            raise OSError(number, os.strerror(number), str(path))
        return None

    return fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG])
def test_a_folder_that_cannot_be_made_or_locked_is_told_in_one_line(number, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse(number))
        ended = command("verify", "toy", *FEW, "--out", "run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "cannot make the folder run" in ended.err
    with monkeypatch.context() as patch:
        patch.setattr(locks, "take_lock", refuse(number))
        patch.setattr("regimes.lab.runs.take_lock", refuse(number))
        ended = command("verify", "toy", *FEW, "--out", "run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert os.strerror(number) in ended.err


@pytest.mark.parametrize("command_line", [("judge", "run"), ("audit", "run"), ("merge", "run", "--out", "b")])
def test_a_run_that_cannot_be_read_is_told_in_one_line(command_line, monkeypatch):
    no_figure(monkeypatch)
    assert command("verify", "toy", *FEW, "--out", "run").code == 0
    reading = Path.read_text

    def closed(path, *args, **more):
        if path.name in ("run.json", "config.yaml"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return reading(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", closed)
    ended = command(*command_line)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "Permission denied" in ended.err


@pytest.mark.parametrize("content", ["", "[]", "{", "3"])
@pytest.mark.parametrize("file", ["run.json", "result.json"])
def test_the_audit_tells_a_damaged_file_in_words(file, content, monkeypatch):
    no_figure(monkeypatch)
    assert command("verify", "toy", *FEW, "--out", "run").code == 0
    Path("run", file).write_text(content)
    ended = command("audit", "run")
    assert "bug" not in ended.err
    assert f"{file} is damaged" in ended.out + ended.err
    assert ended.code == (2 if file == "run.json" else 1)


@pytest.mark.parametrize("step", range(7))
def test_a_disk_that_fills_up_at_any_write_is_told_and_the_same_command_goes_on(step, monkeypatch):
    no_figure(monkeypatch)
    count, sync = [0], os.fsync

    def full(descriptor):
        count[0] += 1
        if count[0] > 2 * step:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = command("verify", "toy", *FEW, "--out", "run")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "No space left on device" in ended.err
    assert "cannot write run/" in ended.err
    assert [file for file in Path("run").iterdir() if file.name.endswith(".part")] == []
    assert command("verify", "toy", *FEW, "--out", "run").code == 0
    assert Path("run", "result.json").exists()


def test_pages_are_whole_when_the_disk_is_full(monkeypatch):
    page = Path("README.md")
    page.write_text("<!-- results -->\n<!-- /results -->\n")
    before = page.read_text()
    monkeypatch.setattr(experiments, "cards", lambda: {})
    monkeypatch.setattr(files.os, "fsync", refuse(errno.ENOSPC))
    ended = command("report", "--readme")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "cannot write README.md" in ended.err
    assert page.read_text() == before
