import errno
import fcntl
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regimes.errors import UserError
from regimes.lab.config import Settings, load
from regimes.lab.files import write_whole
from regimes.lab.provenance import command_line, git_state, provenance, same_code, uncommitted_diff
from regimes.lab.runs import RunFolder, default_folder
from regimes.lab.stamps import job_stamp
from regimes.launch import forget_leftovers


class Inner(Settings):
    step: float = 0.1


class Config(Settings):
    width: int = 3
    inner: Inner = Inner()


def finished_run(path: Path, **values) -> Path:
    with RunFolder.open(path, "fall", Config(**values)) as folder:
        folder.write("rows.csv", "width\n3\n")
    return path


def refusal(path: Path, config: Settings | None = None, name: str = "fall") -> str:
    before = sorted(path.rglob("*")) if path.is_dir() else []
    with pytest.raises((ValueError, OSError)) as caught:
        RunFolder.open(path, name, config or Config())
    assert not path.is_dir() or sorted(path.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_folder_holds_the_resolved_configuration_and_the_provenance(tmp_path):
    path = tmp_path / "runs" / "fall"
    with RunFolder.open(path, "fall", Config(width=5)) as folder:
        assert load(Config, path / "config.yaml") == Config(width=5)
        assert folder.config == {"width": 5, "inner": {"step": 0.1}}
    run = json.loads((path / "run.json").read_text())
    assert run["name"] == "fall"
    assert run["launches"][0]["wall_seconds"] >= 0
    assert {"commit", "versions", "device", "command", "started"} <= run["launches"][0].keys()
    assert not (path / ".lock").exists()


def test_the_same_configuration_takes_the_run_up_again(tmp_path):
    path = finished_run(tmp_path / "a")
    with RunFolder.open(path, "fall", Config()) as folder:
        assert (path / "rows.csv").exists()
        folder.begin()
        folder.begin()
        assert folder.record()["launches"] == 2


def test_a_launch_that_adds_nothing_is_not_recorded(tmp_path):
    path = finished_run(tmp_path / "a")
    RunFolder.open(path, "fall", Config()).close()
    assert len(json.loads((path / "run.json").read_text())["launches"]) == 1


def test_another_configuration_is_refused_by_its_first_differing_key(tmp_path):
    path = finished_run(tmp_path / "a")
    text = refusal(path, Config(inner=Inner(step=0.2)))
    assert "inner.step is 0.1 there, 0.2 here" in text
    assert "--out" in text
    assert "--fresh" in text


def test_a_setting_that_the_old_run_did_not_have_is_a_difference(tmp_path):
    class Grown(Config):
        depth: int = 2

    assert "depth is nothing there, 2 here" in refusal(finished_run(tmp_path / "a"), Grown())


def test_a_run_of_another_experiment_is_refused(tmp_path):
    assert "a run of 'fall', not of 'rise'" in refusal(finished_run(tmp_path / "a"), name="rise")


def test_a_folder_without_results_takes_any_configuration(tmp_path):
    with RunFolder.open(tmp_path / "a", "fall", Config()):
        pass
    with RunFolder.open(tmp_path / "a", "rise", Config(width=9)) as folder:
        assert folder.record()["launches"] == 1
    assert load(Config, tmp_path / "a" / "config.yaml").width == 9


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    assert "thesis.tex" in refusal(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    assert "is a file" in refusal(file)
    assert "cannot make the folder" in refusal(file / "below")


def test_fresh_moves_the_old_run_aside_and_deletes_nothing(tmp_path):
    path = finished_run(tmp_path / "a")
    for width in (4, 5):
        with RunFolder.open(path, "fall", Config(width=width), fresh=True) as folder:
            folder.write("rows.csv", f"width\n{width}\n")
    kept = {name: (tmp_path / name / "rows.csv").read_text() for name in ("a", "a.1", "a.2")}
    assert kept == {"a": "width\n5\n", "a.1": "width\n3\n", "a.2": "width\n4\n"}


def test_fresh_follows_a_link_and_leaves_the_folder_that_one_is_in(tmp_path, monkeypatch):
    real = tmp_path / "real"
    with RunFolder.open(real, "fall", Config()):
        (real / "rows.csv").write_text("x\n", encoding="utf-8")
    (tmp_path / "link").symlink_to(real)
    with RunFolder.open(tmp_path / "link", "fall", Config(), fresh=True) as folder:
        assert not (folder.path / "rows.csv").exists()
    assert (tmp_path / "real.1" / "rows.csv").exists()
    assert (tmp_path / "link" / "run.json").exists()
    monkeypatch.chdir(real)
    with pytest.raises(UserError, match="the folder that you are in"):
        RunFolder.open(".", "fall", Config(), fresh=True)
    assert real.is_dir()


def test_fresh_does_not_move_what_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        RunFolder.open(tmp_path, "fall", Config(), fresh=True)
    assert (tmp_path / "thesis.tex").exists()


def test_two_writers_cannot_share_a_folder(tmp_path):
    path = finished_run(tmp_path / "a")
    with RunFolder.open(path, "fall", Config()):
        for attempt in (
            lambda: RunFolder.open(path, "fall", Config()),
            lambda: RunFolder.open(path, "fall", Config(), fresh=True),
            lambda: RunFolder.existing(path),
        ):
            with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
                attempt()
    RunFolder.open(path, "fall", Config()).close()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path = finished_run(tmp_path / "a")
    lock, calls = fcntl.flock, []

    def removed_first(descriptor, how):
        if not calls:
            (path / ".lock").unlink()  # as the owner before does when it ends between our opening and locking
        calls.append(how)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with RunFolder.open(path, "fall", Config()), pytest.raises(ValueError, match="in use"):
        RunFolder.open(path, "fall", Config())
    assert len(calls) >= 3


def test_a_killed_writer_leaves_the_folder_free(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from regimes.lab.runs import RunFolder\n"
        "from regimes.lab.config import Settings\n"
        "class Config(Settings):\n    width: int = 3\n"
        "folder = RunFolder.open(sys.argv[1], 'fall', Config())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=False)
    assert done.returncode == -9
    assert (tmp_path / "a" / ".lock").exists()
    with RunFolder.open(tmp_path / "a", "fall", Config()):
        pass


@pytest.mark.parametrize("content", ["", "[]", "{", '{"name": 3, "launches": []}', '{"name": "fall"}'])
def test_a_damaged_record_is_named(tmp_path, content):
    path = finished_run(tmp_path / "a")
    (path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        RunFolder.existing(path)
    assert "run.json is damaged" in refusal(path)


def test_an_existing_run_is_taken_as_it_lies_there(tmp_path):
    path = finished_run(tmp_path / "a", width=7)
    with RunFolder.existing(path) as folder:
        assert (folder.name, folder.config["width"], folder.record()["launches"]) == ("fall", 7, 1)


def test_what_is_no_run_cannot_be_taken(tmp_path):
    for path, text in [(tmp_path / "absent", "does not exist"), (tmp_path, "is not the folder of a run")]:
        with pytest.raises(FileNotFoundError, match=text):
            RunFolder.existing(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    write_whole(file, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*result\.json: No space left on device; make room") as caught:
        write_whole(file, "new")
    assert caught.value.errno == errno.ENOSPC
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("result.json", "old")]


def test_commits_of_all_launches_are_kept_if_they_differ(tmp_path):
    path = finished_run(tmp_path / "a")
    run = json.loads((path / "run.json").read_text())
    run["launches"][0]["commit"] = "older"
    (path / "run.json").write_text(json.dumps(run))
    with RunFolder.open(path, "fall", Config(), across_commits=True) as folder:
        folder.begin()
        assert folder.record()["commits"][0] == "older"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_commit_and_uncommitted_changes_are_found(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1")
    assert git_state(tmp_path) == (None, None)  # nothing of it is tracked
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "x")
    (tmp_path / "notes").write_text("untracked files outside of the code do not count")
    commit, changed = git_state(tmp_path)
    assert len(commit) == 40
    assert changed is False
    (tmp_path / "code.py").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    assert uncommitted_diff(tmp_path).count("\n+2") == 1


def committed(folder, file, text):
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-m", file)
    return git_state(folder)[0]


def test_results_documents_and_tests_are_no_code(tmp_path):
    git(tmp_path, "init")
    first = committed(tmp_path, "regimes/a.py", "1")
    for file in ("results/x.json", "docs/a.rst", "tests/t.py", "README.md"):
        committed(tmp_path, file, "1")
        (tmp_path / file).write_text("2")
    commit, changed = git_state(tmp_path)
    assert (changed, same_code(first, commit, tmp_path)) == (False, True)
    (tmp_path / "regimes" / "new.py").write_text("untracked")
    assert git_state(tmp_path)[1]
    assert "untracked: regimes/new.py" in uncommitted_diff(tmp_path)
    other = committed(tmp_path, "configs/a.yaml", "1")
    assert not same_code(first, other, tmp_path)
    assert not same_code("0" * 40, other, tmp_path)  # not there: not known to be the same


def test_a_run_is_taken_up_by_other_code_only_when_that_is_asked_for(tmp_path, monkeypatch):
    path = finished_run(tmp_path / "a")
    monkeypatch.setattr("regimes.lab.runs.same_code", lambda old, new: False)
    with RunFolder.open(path, "fall", Config(), across_commits=False) as folder:
        folder.record()  # what is there may be judged again
        with pytest.raises(ValueError, match=r"pass --across-commits \(in Python .*\) to add rows by the code of now"):
            folder.begin()
    with RunFolder.open(path, "fall", Config(), across_commits=True) as folder:
        folder.begin()
        assert folder.record()["launches"] == 2


def test_a_run_is_not_taken_up_with_other_data(tmp_path):
    path = tmp_path / "a"
    with RunFolder.open(path, "fall", Config(), stamp=job_stamp(Config(), data="mine")) as folder:
        folder.write("rows.csv", "width\n3\n")
        assert folder.record()["stamp"] == {"config": job_stamp(Config())["config"], "data": "mine"}
    refused = pytest.raises(ValueError, match=r"measured on other data \(digest mine there, theirs here\)")
    with RunFolder.open(path, "fall", Config(), stamp={"data": "theirs"}) as folder, refused:
        folder.begin()
    with RunFolder.open(path, "fall", Config()) as folder:  # what is not known cannot differ
        folder.begin()


@pytest.mark.parametrize("name", ["lazy_vs_meanfield", "ot_gap"])
def test_a_job_that_other_code_has_begun_goes_on_only_when_that_is_asked_for(name, tmp_path, monkeypatch):
    job = importlib.import_module(f"regimes.jobs.{name}")
    config = job.Config() if name == "lazy_vs_meanfield" else job.Config(checkpoints=[{"path": "a.pt", "sha256": "0"}])
    commits = iter(["a" * 40, "b" * 40, "c" * 40])
    monkeypatch.setattr("regimes.lab.runs.same_code", lambda old, new: False)
    monkeypatch.setattr("regimes.lab.runs.provenance", lambda device: {"commit": next(commits)})
    with RunFolder.open(tmp_path / "run", job.NAME, config) as folder:
        folder.write("nets.part.npz", b"")
    monkeypatch.setattr(job, "open_cases", lambda config: [], raising=False)
    for work in ("measure", "track"):
        monkeypatch.setattr(job, work, lambda *given: pytest.fail("measured"), raising=False)
    with pytest.raises(UserError, match="pass --across-commits"):
        job.start(config, tmp_path / "run")
    with pytest.raises(pytest.fail.Exception, match="measured"):
        job.start(config, tmp_path / "run", across_commits=True)
    launches = json.loads((tmp_path / "run" / "run.json").read_text())["launches"]
    assert [launch["commit"][0] for launch in launches] == ["a", "c"]
    assert len(launches[1]["stamp"]["config"]) == 16


def test_what_was_not_committed_is_kept_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("regimes.lab.runs.provenance", lambda device: {"commit": "a", "uncommitted_changes": True})
    monkeypatch.setattr("regimes.lab.runs.uncommitted_diff", lambda: "+ a line\n")
    with RunFolder.open(tmp_path / "a", "fall", Config()) as folder:
        (launch,) = folder.launches
    assert (tmp_path / "a" / launch["diff"]).read_text() == "+ a line\n"


def test_a_folder_outside_git_has_no_commit(tmp_path):
    assert git_state(tmp_path) == (None, None)


def test_the_command_can_be_pasted():
    assert command_line(["/some/where/cli.py", "verify", "x", "--set", "a=[1, 2]"]) == (
        "python cli.py verify x --set 'a=[1, 2]'"
    )
    assert command_line(["/usr/bin/regimes", "list"]) == "regimes list"


def test_provenance_names_versions_and_device_but_no_machine():
    record = provenance()
    assert record["versions"].keys() >= {"python", "torch", "numpy"}
    assert record["device"].startswith("cpu: ")
    assert os.uname().nodename not in json.dumps(record["device"])


def test_the_default_folder_tells_settings_apart():
    first = default_folder("net-w3", Config(), {"width"})
    second = default_folder("net-w3", Config(inner=Inner(step=0.2)), {"width"})
    assert first == default_folder("net-w3", Config(width=3), {"width"}) == Path("runs/net-w3")
    assert default_folder("net-w4", Config(width=4), {"width"}) == Path("runs/net-w4")
    assert second.name.startswith("net-w3-")
    assert second == default_folder("net-w3", Config(inner=Inner(step=0.2)), {"width"})


def test_settings_that_the_name_of_a_folder_only_shortens_are_told_apart_by_a_digest():
    one, other, default = (default_folder("net", Config(width=width), (), {"width"}) for width in (4, 5, 3))
    assert len({one, other, default, Path("runs/net")}) == 4
    assert one == default_folder("net", Config(width=4), (), {"width"})


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: order.append("fsync") or fsync(d))
    monkeypatch.setattr(os, "replace", lambda a, b: order.append("replace") or replace(a, b))
    write_whole(tmp_path / "a", "text")
    assert order == ["fsync", "replace", "fsync"]  # the content, the name, the folder


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_where_a_file_system_has_no_locks_a_file_stands_for_one_and_that_is_said(tmp_path, monkeypatch, capsys, number):
    def without(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    with RunFolder.open(tmp_path / "a", "fall", Config()) as folder:
        folder.write("rows.csv", "width\n3\n")
        said = capsys.readouterr().err
        assert (len(said.splitlines()), "a file system without locks" in said) == (1, True)
        with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
            RunFolder.open(tmp_path / "a", "fall", Config())
    assert not any(file.name.startswith(".lock") for file in (tmp_path / "a").iterdir())
    RunFolder.open(tmp_path / "a", "fall", Config()).close()


def test_another_error_of_a_lock_is_none_of_a_file_system_without_them(tmp_path, monkeypatch):
    def broken(*given):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match=r"cannot write .*\.lock: Input/output error; .* another folder with --out"):
        RunFolder.open(tmp_path / "a", "fall", Config())


LEFT = {
    "a rank alone": ({"RANK": "1"}, ["list"], {}),
    "a rank alone at train": ({"RANK": "1"}, ["train"], {}),
    "a whole set at another command": (
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
        ["list"],
        {"MASTER_ADDR": "h", "MASTER_PORT": "1"},
    ),
    "a number of processes without the rest": (
        {"RANK": "1", "WORLD_SIZE": "2"},
        ["train"],
        {"RANK": "0", "WORLD_SIZE": "2"},
    ),
    "a rank that is none of them": (
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
        ["train"],
        {"WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
    ),
    "a folder with the name of the command": ({"RANK": "1", "WORLD_SIZE": "2"}, ["verify", "x", "--out", "train"], {}),
    "the command after an option": ({"WORLD_SIZE": "2"}, ["--debug", "train"], {"WORLD_SIZE": "2"}),
    "no numbers": ({"RANK": "", "WORLD_SIZE": "two"}, ["train"], {}),
    "one process": ({"RANK": "0", "WORLD_SIZE": "1"}, ["train"], {}),
    "torchrun": ({"RANK": "1", "TORCHELASTIC_RUN_ID": "a"}, ["train"], {"RANK": "1", "TORCHELASTIC_RUN_ID": "a"}),
    "another launcher": (
        whole := {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
        ["train"],
        whole,
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_no_launcher_has_set_is_forgotten(name, monkeypatch):
    before, arguments, after = LEFT[name]
    kept = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
    for variable in kept:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in before.items():
        monkeypatch.setenv(variable, value)
    forget_leftovers(arguments)
    assert {variable: os.environ[variable] for variable in kept if variable in os.environ} == after
