import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_experiment as toy
from command import command

import regimes
from regimes import experiments
from regimes.errors import Interrupted, RunFailed, UserError
from regimes.experiments import Card
from regimes.lab import shipped
from regimes.lab.kept import last_verdicts

ROOT = Path(__file__).parent.parent
REAL = ("--set", "pause=0.001")  # no smoke run: a setting of size differs from its default
FILES = {"config.yaml", "run.json", "points.jsonl", "rows.csv", "result.json", "table.md", "figure.png", "figure.pdf"}


@pytest.fixture(autouse=True)
def toy_statement(monkeypatch, tmp_path):
    """The toy experiment is the only statement, and runs/ is in a folder of its own."""
    monkeypatch.setattr(experiments, "load", lambda name: toy)
    monkeypatch.setattr(experiments, "names", lambda: ["toy"])
    monkeypatch.chdir(tmp_path)


def test_verify_writes_rows_result_table_and_figure(tmp_path):
    ended = command("verify", "toy", *REAL, "--out", "runs/toy")
    assert (ended.code, ended.err) == (0, "")
    names = {file.name for file in (tmp_path / "runs" / "toy").iterdir()}
    assert {name for name in names if not name.startswith("uncommitted-")} == FILES
    for part in (toy.STATEMENT.claim, toy.STATEMENT.source, toy.SLOPE, "SUPPORTED", "runs/toy"):
        assert part in ended.out
    result = json.loads((tmp_path / "runs/toy/result.json").read_text())
    assert (result["verdict"], result["points"], result["rows"]) == ("supported", 12, 12)
    assert result["command"] == "python cli.py verify toy --set pause=0.001 --out runs/toy"


def test_a_smoke_run_says_so_and_claims_nothing(tmp_path):
    ended = command("verify", "toy")
    assert ended.code == 0
    assert "Smoke run: no verdict" in ended.out
    assert "SUPPORTED" not in ended.out


@pytest.mark.slow
def test_each_configuration_has_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "shipped" / "small").mkdir(parents=True)
    (tmp_path / "shipped" / "toy.yaml").write_text("seeds: 2\nx: [1, 2]\n")
    (tmp_path / "shipped" / "small" / "toy.yaml").write_text("seeds: 1\nx: [1, 2]\n")
    monkeypatch.setattr(shipped, "shipped_folder", lambda name="": tmp_path / "shipped")
    for arguments in (
        [],
        ["--config", "configs/toy.yaml"],
        ["--config", "configs/small/toy.yaml"],
        ["--set", "seeds=1"],
        ["--set", "x=[1.0, 2.0]", "--set", "seeds=2"],
    ):
        ended = command("verify", "toy", *arguments)
        assert ended.code == 0, ended
        (path,) = re.findall(r"Table, figure and rows: (\S+)", ended.out)
        assert (tmp_path / path / "result.json").exists()
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    digest = names.pop(1)
    assert names == ["toy", "toy-small", "toy-smoke"]
    assert re.fullmatch("toy-[0-9a-f]{6}", digest)


def test_the_file_the_overrides_and_the_folder_are_heeded(tmp_path):
    (tmp_path / "size.yaml").write_text("seeds: 4\nx: [1, 3]\n")
    ended = command("verify", "toy", "--config", "size.yaml", "--set", "x=[1, 2, 5]", "--out", "there")
    assert ended.code == 0
    result = json.loads((tmp_path / "there/result.json").read_text())
    assert (result["config"]["x"], result["config"]["seeds"], result["points"]) == ([1.0, 2.0, 5.0], 4, 12)


def test_the_resolved_configuration_reproduces_the_run(tmp_path):
    command("verify", "toy", "--set", "seeds=2", "--out", "a")
    assert command("verify", "toy", "--config", "a/config.yaml", "--out", "b").code == 0
    assert (tmp_path / "a/rows.csv").read_bytes() == (tmp_path / "b/rows.csv").read_bytes()


@pytest.mark.slow
def test_workers_give_the_same_rows(tmp_path):
    assert command("verify", "toy", "--out", "a").code == 0
    assert command("verify", "toy", "--out", "b", "--workers", "2").code == 0
    assert (tmp_path / "a/rows.csv").read_bytes() == (tmp_path / "b/rows.csv").read_bytes()


def test_another_configuration_needs_fresh_and_fresh_deletes_nothing(tmp_path):
    command("verify", "toy", "--out", "runs/toy")
    ended = command("verify", "toy", "--out", "runs/toy", "--set", "seeds=4")
    assert ended.code == 2
    assert "seeds is 3 there, 4 here; pass --out for another folder, or --fresh" in ended.err
    assert command("verify", "toy", "--out", "runs/toy", "--set", "seeds=4", "--fresh").code == 0
    found = {
        name: json.loads((tmp_path / "runs" / name / "result.json").read_text())["points"] for name in ("toy", "toy.1")
    }
    assert found == {"toy": 16, "toy.1": 12}


def test_judge_redoes_verdict_table_and_figure_without_measuring(tmp_path, monkeypatch):
    command("verify", "toy", *REAL, "--out", "runs/toy")
    run = tmp_path / "runs" / "toy"
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    for name in ("result.json", "table.md", "figure.png", "figure.pdf"):
        (run / name).unlink()
    monkeypatch.setattr(toy, "measure", lambda config, points: pytest.fail("judge must not measure"))
    ended = command("judge", "runs/toy")
    assert ended.code == 0
    assert "SUPPORTED" in ended.out
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


def test_judge_is_content_with_rows_alone(tmp_path):
    command("verify", "toy", *REAL, "--out", "runs/toy")
    (tmp_path / "runs/toy/points.jsonl").unlink()
    assert "SUPPORTED" in command("judge", "runs/toy").out


def test_judge_of_a_run_that_breaks_the_claim_refutes_it(tmp_path):
    command("verify", "toy", *REAL, "--out", "runs/toy")
    log = tmp_path / "runs/toy/points.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    for record in records:
        record["rows"][0]["y"] *= record["point"]["x"]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    ended = command("judge", "runs/toy")
    assert (ended.code, "REFUTED" in ended.out) == (0, True)


def test_judge_says_that_a_run_is_unfinished(tmp_path):
    assert command("verify", "toy", "--out", "runs/toy", "--set", "broken=[8.0]").code == 1
    assert command("judge", "runs/toy").code == 0
    result = json.loads((tmp_path / "runs/toy/result.json").read_text())
    assert (result["points"], result["points_planned"]) == (9, 12)
    assert "Unfinished: 9 of 12" in (tmp_path / "runs/toy/table.md").read_text()


@pytest.mark.parametrize("broken", [[1.0], [8.0]])
def test_a_mistake_that_shows_while_measuring_leaves_no_folder_unless_something_was_measured(
    tmp_path, monkeypatch, broken
):
    measure = toy.measure

    def refusing(config, points):
        if points[0]["x"] in broken:
            raise UserError("x needs another value")
        return measure(config, points)

    monkeypatch.setattr(toy, "measure", refusing)
    ended = command("verify", "toy", "--out", "runs/toy", "--set", "x=[1.0]" if broken == [1.0] else "x=[1.0, 8.0]")
    assert (ended.code, "x needs another value" in ended.err) == (2, True)
    assert (tmp_path / "runs/toy").exists() == ("rows are kept" in ended.err) == (broken == [8.0])


@pytest.mark.parametrize("lost", ["", "points.jsonl"])
def test_a_run_that_lacks_points_has_no_verdict_wherever_it_is_told(tmp_path, lost):
    assert command("verify", "toy", "--out", "runs/toy", "--set", "pause=1e-6", "--set", "broken=[8.0]").code == 1
    if lost:
        (tmp_path / "runs/toy" / lost).unlink()
    told = command("judge", "runs/toy").out + command("show", "toy").out
    kept = (tmp_path / "runs/toy/result.json").read_text() + (tmp_path / "runs/toy/table.md").read_text()
    assert last_verdicts()["toy"] == "no verdict"
    assert "NO VERDICT" in told
    assert "Unfinished: 9 of 12 points are measured, no verdict." in told
    for word in ("supported", "refuted", "inconclusive"):
        assert word not in told.lower()
        assert word not in kept


def test_a_failing_measurement_is_one_line_and_exit_1():
    ended = command("verify", "toy", "--set", "broken=[2.0]")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "x=2.0" in ended.err


@pytest.fixture
def main_job(monkeypatch):
    """The calls of the main job, which is not run."""
    from regimes.jobs import lazy_vs_meanfield

    calls = []
    monkeypatch.setattr(lazy_vs_meanfield, "run", lambda config, folder: calls.append((config, folder.path)))
    return calls


def test_flags_of_the_main_job_win_over_set_and_file(tmp_path, main_job):
    (tmp_path / "a.yaml").write_text("alpha: 3\nseeds: 7\nwidth: 30\n")
    arguments = ["--config", "a.yaml", "--set", "alpha=4", "--set", "width=40", "--width", "50", "--dataset", "circle"]
    assert command("lazy-vs-meanfield", *arguments, "--data-dir", "a: b", "--out", "there").code == 0
    ((config, path),) = main_job
    assert (config.alpha, config.seeds, config.width, config.dataset) == (4.0, 7, 50, "circle")
    assert (config.data_dir, path) == (Path("a: b"), Path("there"))


def test_the_main_job_has_defaults_and_a_folder_for_every_setting(main_job):
    for arguments in ([], ["--alpha", "1e4"], ["--seeds", "9"], ["--dataset", "circle"], ["--seeds", "9"]):
        assert command("lazy-vs-meanfield", *arguments).code == 0
    paths = [str(path) for _, path in main_job]
    assert paths[:2] == ["runs/lazy-vs-meanfield-teacher-alpha100", "runs/lazy-vs-meanfield-teacher-alpha10000"]
    assert paths[3] == "runs/lazy-vs-meanfield-circle-alpha100"
    assert len(set(paths[:4])) == 4
    assert paths[4] == paths[2]


def test_a_run_of_the_main_job_can_be_judged_again(tmp_path, main_job, monkeypatch):
    from regimes.jobs import lazy_vs_meanfield

    concluded = []
    monkeypatch.setattr(lazy_vs_meanfield, "conclude", lambda config, folder: concluded.append(config))
    command("lazy-vs-meanfield", "--alpha", "7", "--out", "there")
    assert command("judge", "there").code == 0
    assert [config.alpha for config in concluded] == [7.0]


def test_show_has_claim_source_predictions_settings_and_results():
    command("verify", "toy", *REAL, "--out", "runs/toy")
    ended = command("show", "toy")
    assert (ended.code, ended.err) == (0, "")
    for part in (toy.STATEMENT.claim, toy.STATEMENT.source, toy.SLOPE, "[1.9, 2.1]", "derived", "rows a point"):
        assert part in ended.out
    assert re.search(r"pause +0 +seconds a call", ended.out)
    assert "supported: runs/toy" in ended.out
    assert "Supported: all" in ended.out


def test_show_takes_the_name_of_a_result_too():
    command("verify", "toy", *REAL, "--out", "runs/toy")
    command("verify", "toy", *REAL, "--out", "runs/toy_again")
    ended = command("show", "toy_again")
    assert (ended.code, ended.err) == (0, "")
    assert toy.STATEMENT.claim in ended.out
    assert re.findall(r"supported: (\S+)", ended.out) == ["runs/toy_again"]
    assert "verify toy\n" in ended.out


@pytest.mark.slow
def test_list_has_a_line_a_statement_with_the_last_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(
        experiments, "cards", lambda: {"toy": Card("lazy", "Squares", "y grows"), "b": Card("a", "", "")}
    )
    assert command("list").out == "a     b    not run\nlazy  toy  not run  Squares\n"
    command("verify", "toy", *REAL)
    command("verify", "toy")  # a smoke run claims nothing
    assert command("list").out.splitlines()[1] == "lazy  toy  supported  Squares"


def test_print_config_is_a_file_for_config_and_runs_nothing(tmp_path):
    ended = command("verify", "toy", "--set", "x=[1.0, 1e-5]", "--print-config")
    assert (ended.code, ended.err) == (0, "")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "a.yaml").write_text(ended.out)
    assert command("verify", "toy", "--config", "a.yaml", "--print-config").out == ended.out
    for arguments in (["train", "--lap"], ["lazy-vs-meanfield", "--alpha", "3"]):
        ended = command(*arguments, "--print-config")
        assert (ended.code, ended.err) == (0, "")
        (tmp_path / "b.yaml").write_text(ended.out)
        assert command(arguments[0], "--config", "b.yaml", "--print-config").out == ended.out
    assert not (tmp_path / "runs").exists()


def test_an_unforeseen_error_is_one_line_and_a_traceback_on_request(monkeypatch):
    monkeypatch.setattr(toy, "judge", lambda rows: toy.no_such_column)
    ended = command("verify", "toy")
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    for part in ("a bug of regimes", "AttributeError", "no_such_column", "--debug", regimes.__version__):
        assert part in ended.err
    for arguments in (["--debug", "verify", "toy"], ["verify", "toy", "--debug"]):
        shown = command(*arguments)
        assert shown.code == 1
        assert "Traceback" in shown.err
        assert "a bug of regimes" in shown.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("x needs a number"), 2, "error: x needs a number"),
        (FileNotFoundError("a.yaml does not exist"), 2, "error: a.yaml does not exist"),
        (RunFailed("diverged at step 3"), 1, "error: diverged at step 3"),
        (Interrupted("interrupted after 3 steps"), 130, "interrupted after 3 steps"),
        (MemoryError(), 1, "error: the memory is too small"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: the memory is too small"),
        (ValueError("x needs a number"), 1, "error: this is a bug of regimes"),
        (KeyError("x"), 1, "error: this is a bug of regimes"),
        (RuntimeError("x"), 1, "error: this is a bug of regimes"),
    ],
)
def test_what_was_raised_on_purpose_is_no_bug_and_all_else_is(error, code, said, monkeypatch):
    def fail(name):
        raise error

    monkeypatch.setattr(experiments, "load", fail)
    ended = command("verify", "toy")
    assert (ended.code, len(ended.err.splitlines())) == (code, 1)
    assert ended.err.startswith(said)


def test_a_user_error_stays_one_out_of_a_measurement_and_another_value_error_is_a_bug(monkeypatch):
    for error, code in ((UserError("no data"), 2), (RunFailed("diverged"), 1), (ValueError("shapes differ"), 1)):

        def fail(config, points, error=error):
            raise error

        monkeypatch.setattr(toy, "measure", fail)
        ended = command("verify", "toy", "--fresh")
        assert (ended.code, "a bug of regimes" in ended.err) == (code, type(error) is ValueError)
        assert f"x=1.0 failed (4 of 4 calls failed): {'ValueError: ' * (type(error) is ValueError)}{error}" in ended.err


def test_figures_are_drawn_whatever_backend_a_notebook_has_set(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://no_such_backend")
    seen = []
    monkeypatch.setattr(experiments, "load", lambda name: seen.append(os.environ["MPLBACKEND"]) or toy)
    assert command("verify", "toy").code == 0
    assert seen == ["Agg"]


def test_ctrl_c_ends_with_130(monkeypatch):
    def stopped(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "load", stopped)
    ended = command("verify", "toy")
    assert ended.code == 130
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], [], ["verify", "--help"], ["lazy-vs-meanfield", "-h"]])
def test_help_is_for_people(arguments):
    ended = command(*arguments)
    assert ended.code == 0
    assert ended.err == ""
    assert "Usage: python cli.py" in ended.out


def test_help_describes_every_command_in_full():
    assert "..." not in command("--help").out.partition("Commands:")[2].partition("Start with")[0]


def test_help_tells_the_exit_codes():
    text = " ".join(command("--help").out.split())
    for part in ("0 done", "1 a run failed", "2 a mistake", "130 interrupted"):
        assert part in text


def test_names_of_statements_are_completed():
    done = subprocess.run(
        [sys.executable, "-c", "from regimes.cli import app; app(prog_name='regimes')"],
        env={
            **os.environ,
            "_REGIMES_COMPLETE": "complete_bash",
            "COMP_WORDS": "regimes verify lazy",
            "COMP_CWORD": "2",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"lazy_cnn", "lazy_rate"} <= set(done.stdout.split())
    assert "circles" not in done.stdout


def test_the_list_needs_no_torch_and_less_than_a_second():
    program = "import sys; from regimes.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "list"], cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, modules = done.stdout.splitlines()
    assert len(lines) == len(experiments.homes())
    assert not {"torch", "matplotlib", "pandas", "scipy", "numpy"} & set(modules.split())


def test_the_version_is_that_of_the_package():
    assert command("--version").out == f"regimes {regimes.__version__}\n"


def test_help_answers_at_once():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0  # measured 0.05 to 0.1 s on an idle machine


def test_a_closed_pipe_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "cli.py", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert errors == ""
