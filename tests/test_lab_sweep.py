import math
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
import toy_experiment as toy
from launch import environment

from regimes.errors import Interrupted, RunFailed
from regimes.lab.config import Settings
from regimes.lab.grid import grid_points
from regimes.lab.log import read_log
from regimes.lab.report import Interval
from regimes.lab.runs import RunFolder
from regimes.lab.stamps import stamp
from regimes.lab.sweep import SweepFailed, rows_of, sweep
from regimes.lab.workers import worker_pool
from regimes.threads import PER_THREAD

TESTS = Path(__file__).parent


def run(path: Path, config: Settings | None = None, experiment=toy, executor=None) -> pandas.DataFrame:
    config = config or toy.Config()
    with RunFolder.open(path, "toy", config) as folder:
        return sweep(experiment, config, folder, executor)


def counting(calls: list, **changes) -> SimpleNamespace:
    """The toy experiment, noting the points of each call."""

    def measure(config, points):
        calls.append([(point["x"], point["seed"]) for point in points])
        return toy.measure(config, points)

    return SimpleNamespace(**{"GRID": toy.GRID, "BATCHED": toy.BATCHED, "measure": measure, **changes})


def test_every_point_of_the_grid_is_measured_in_order(tmp_path):
    rows = run(tmp_path / "a")
    assert [*zip(rows.x, rows.seed, strict=True)] == [(x, s) for x in (1.0, 2.0, 4.0, 8.0) for s in range(3)]
    assert (abs(rows.y / rows.x**2 - 1.005) <= 0.005).all()  # the noise of the toy is uniform in [1, 1.01]


def test_a_call_of_measure_has_the_threads_that_its_work_deserves(tmp_path, monkeypatch):
    monkeypatch.setattr("regimes.threads.own_cores", lambda: 3)
    seen = []

    def measure(config, points):
        seen.append(torch.get_num_threads())
        return toy.measure(config, points)

    own = {"GRID": toy.GRID, "BATCHED": toy.BATCHED, "measure": measure}
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # as another user's variable would have it
    run(tmp_path / "small", experiment=SimpleNamespace(**own))
    work = SimpleNamespace(**own, work=lambda config, points: len(points) * points[0]["x"] * PER_THREAD)
    run(tmp_path / "large", experiment=work)
    assert seen == [1, 1, 1, 1, 3, 3, 3, 3]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_points_that_differ_only_in_batched_axes_go_to_one_call(tmp_path):
    calls = []
    run(tmp_path / "a", experiment=counting(calls))
    assert calls == [[(x, s) for s in range(3)] for x in (1.0, 2.0, 4.0, 8.0)]
    calls.clear()
    run(tmp_path / "b", experiment=counting(calls, BATCHED=("x", "seed")))
    assert [len(points) for points in calls] == [12]
    calls.clear()
    run(tmp_path / "c", experiment=counting(calls, BATCHED=()))
    assert [len(points) for points in calls] == [1] * 12


class Together(toy.Config):
    ensemble: int = 2


def test_a_setting_ensemble_limits_the_points_of_one_call(tmp_path):
    calls = []
    rows = run(tmp_path / "a", Together(x=[1.0, 2.0]), counting(calls))
    assert calls == [[(1.0, 0), (1.0, 1)], [(1.0, 2)], [(2.0, 0), (2.0, 1)], [(2.0, 2)]]
    pandas.testing.assert_frame_equal(rows, run(tmp_path / "b", toy.Config(x=[1.0, 2.0])))
    by_seed = [{"x": x, "seed": seed} for seed in range(3) for x in (1.0, 2.0)]
    for ensemble, expected in (
        (1, [[(point["x"], point["seed"])] for point in by_seed]),
        (2, [[(1.0, 0), (1.0, 1)], [(2.0, 0), (2.0, 1)], [(1.0, 2)], [(2.0, 2)]]),
        (9, [[(1.0, 0), (1.0, 1), (1.0, 2)], [(2.0, 0), (2.0, 1), (2.0, 2)]]),
    ):
        calls.clear()
        experiment = counting(calls, points=lambda config: by_seed)
        rows = run(tmp_path / f"by seed {ensemble}", Together(ensemble=ensemble), experiment)
        assert calls == expected
        assert [*zip(rows.x, rows.seed, strict=True)] == [(point["x"], point["seed"]) for point in by_seed]


def test_of_a_limited_call_only_the_points_not_held_are_measured(tmp_path):
    config, calls = Together(x=[1.0], ensemble=3), []
    run(tmp_path / "a", config)
    expected, log = csv(tmp_path / "a"), tmp_path / "a" / "points.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:2]))
    run(tmp_path / "a", config, counting(calls))
    assert calls == [[(1.0, 0), (1.0, 2)]]
    assert csv(tmp_path / "a") == expected


def test_rows_of_a_part_that_cut_a_call_stand_and_those_of_a_crash_do_not(tmp_path):
    config, calls, whole = toy.Config(x=[1.0]), [], counting([], BATCHED=("x", "seed"))
    with RunFolder.open(tmp_path / "a", "toy", config) as folder:
        sweep(whole, config, folder, mine=lambda index: index == 0, parts=3)
    log = tmp_path / "a" / "points.jsonl"
    before = log.read_text()
    assert len(before.splitlines()) == 1
    run(tmp_path / "a", config, counting(calls, BATCHED=("x", "seed")))
    assert calls == [[(1.0, 1), (1.0, 2)]]
    assert log.read_text().startswith(before)
    calls.clear()
    log.write_text(before + before[:-9])  # torn: the call is measured as a whole, so that its rows are the same
    run(tmp_path / "a", config, counting(calls, BATCHED=("x", "seed")))
    assert calls == [[(1.0, 0), (1.0, 1), (1.0, 2)]]


def test_an_experiment_may_choose_its_own_points(tmp_path):
    calls = []
    own = counting(calls, points=lambda config: [{"x": 1.0, "seed": 0}, {"x": 8.0, "seed": 0}, {"x": 1.0, "seed": 1}])
    rows = run(tmp_path / "a", experiment=own)
    assert calls == [[(1.0, 0), (1.0, 1)], [(8.0, 0)]]
    assert list(rows.x) == [1.0, 8.0, 1.0]


def test_a_point_may_have_several_rows(tmp_path):
    rows = run(tmp_path / "a", toy.Config(moments=5))
    assert len(rows) == 60
    assert list(rows.moment[:6]) == [0, 1, 2, 3, 4, 0]


def test_rows_are_the_same_from_memory_log_and_csv(tmp_path):
    rows = run(tmp_path / "a")
    for file in ("points.jsonl", "rows.csv"):
        with RunFolder.existing(tmp_path / "a") as folder:
            pandas.testing.assert_frame_equal(rows_of(folder).rows, rows, check_exact=True)
        (tmp_path / "a" / file).unlink()
    with RunFolder.existing(tmp_path / "a") as folder, pytest.raises(FileNotFoundError, match="no rows yet"):
        rows_of(folder)


def test_rows_come_in_the_order_of_the_grid_whichever_point_was_finished_first(tmp_path):
    rows = run(tmp_path / "a")
    log = tmp_path / "a" / "points.jsonl"
    log.write_text("".join(reversed(log.read_text().splitlines(keepends=True))))
    read = rows_of(tmp_path / "a", grid_points(toy, toy.Config())).rows
    pandas.testing.assert_frame_equal(read, rows, check_exact=True)


def test_a_finished_sweep_measures_nothing_again(tmp_path):
    run(tmp_path / "a")
    calls = []
    run(tmp_path / "a", experiment=counting(calls))
    assert calls == []


def test_scalars_of_numpy_and_torch_are_stored_as_numbers(tmp_path):
    values = {"a": np.float64(0.1), "b": np.int32(3), "c": torch.tensor(0.5), "d": np.bool_(True), "e": None}
    one = counting([], measure=lambda config, points: [values for _ in points])
    row = run(tmp_path / "a", experiment=one).iloc[0]
    assert (row.a, row.b, row.c, row.d, row.e) == (0.1, 3, 0.5, True, None)


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (lambda config, points: [], "one entry a point"),
        (lambda config, points: [{"y": [1]} for _ in points], "'y' needs numbers"),
        (lambda config, points: [{"x": -1.0} for _ in points], "name the column otherwise"),
        (lambda config, points: 3, "TypeError"),
    ],
)
def test_a_measurement_of_the_wrong_form_is_refused(tmp_path, measure, text):
    with pytest.raises(SweepFailed, match=text):
        run(tmp_path / "a", experiment=counting([], measure=measure))


def test_an_axis_may_be_one_value():
    class One(Settings):
        x: float = 3.0
        seeds: int = 2

    assert grid_points(toy, One()) == [{"x": 3.0, "seed": 0}, {"x": 3.0, "seed": 1}]


class NoAxis(Settings):
    seeds: int = 1


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (toy.Config(x=[]), "'x' of the grid needs at least one value"),
        (toy.Config(seeds=0), "seeds needs to be at least 1; got 0"),
        (toy.Config(x=[1.0, 1.0]), "x=1.0, seed=0 twice"),
        (NoAxis(), "'x' needs a list"),
    ],
)
def test_an_unusable_grid_is_refused(config, text):
    with pytest.raises(ValueError, match=text):
        grid_points(toy, config)


def test_a_call_that_raises_loses_only_its_own_points(tmp_path):
    with pytest.raises(SweepFailed) as caught:
        run(tmp_path / "a", toy.Config(broken=[2.0]))
    text = str(caught.value)
    assert "\n" not in text
    for part in ("x=2.0", "1 of 4 calls failed", "ArithmeticError: no square of 2.0", str(tmp_path / "a")):
        assert part in text
    assert {record.point["x"] for record in read_log(tmp_path / "a").records} == {1.0, 4.0, 8.0}


def test_an_input_error_in_a_call_stays_an_input_error(tmp_path):
    def measure(config, points):
        raise FileNotFoundError("the data are not there; pass --data-dir")

    with pytest.raises(ValueError, match="the data are not there; pass --data-dir"):
        run(tmp_path / "a", experiment=counting([], measure=measure))
    assert not (tmp_path / "a" / "rows.csv").exists()


@pytest.mark.parametrize("fill", [lambda: torch.empty(2**60), lambda: np.empty(2**56)], ids=["torch", "numpy"])
def test_a_full_memory_in_a_call_is_a_failed_run_and_no_bug(tmp_path, fill):
    with pytest.raises(RunFailed, match=r"measuring .* failed"):
        run(tmp_path / "a", experiment=counting([], measure=lambda config, points: fill()))


def test_the_failed_points_are_tried_again_and_only_these(tmp_path):
    calls = []
    with pytest.raises(SweepFailed):
        run(tmp_path / "a", experiment=counting([], measure=fails_at(4.0)))
    run(tmp_path / "a", experiment=counting(calls))
    assert calls == [[(4.0, 0), (4.0, 1), (4.0, 2)]]
    run(tmp_path / "b")
    assert csv(tmp_path / "a") == csv(tmp_path / "b")


def fails_at(x: float, error: type[BaseException] = ArithmeticError):
    def measure(config, points):
        if points[0]["x"] == x:
            raise error
        return toy.measure(config, points)

    return measure


def csv(path: Path) -> bytes:
    return (path / "rows.csv").read_bytes()


def test_an_interrupted_sweep_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    with pytest.raises(Interrupted, match=r"6 of 12 points are kept in .*; run the same command again"):
        run(tmp_path / "a", experiment=counting([], measure=fails_at(4.0, KeyboardInterrupt)))
    run(tmp_path / "a")
    run(tmp_path / "b")
    assert csv(tmp_path / "a") == csv(tmp_path / "b")


@pytest.mark.slow
def test_a_log_cut_anywhere_resumes_to_the_same_rows(tmp_path):
    run(tmp_path / "a")
    whole, expected = (tmp_path / "a" / "points.jsonl").read_bytes(), csv(tmp_path / "a")
    for length in random.Random(0).sample(range(len(whole)), 25):
        (tmp_path / "a" / "points.jsonl").write_bytes(whole[:length])
        calls = []
        run(tmp_path / "a", experiment=counting(calls))
        lines = whole[:length].count(b"\n")
        assert len(calls) == 4 - lines // 3  # an ensemble that is not whole is measured again as a whole
        assert csv(tmp_path / "a") == expected
        assert len(read_log(tmp_path / "a").records) == 12  # the remains of the cut line are gone


def test_a_damaged_log_is_refused_and_left_as_it_is(tmp_path):
    run(tmp_path / "a")
    log = tmp_path / "a" / "points.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"x": 2.0', b'"x": 2.0}', 1))
    damaged = log.read_bytes()
    with pytest.raises(ValueError, match="line 4 is no finished point"):
        run(tmp_path / "a")
    assert log.read_bytes() == damaged


def test_points_that_the_grid_does_not_have_are_refused(tmp_path):
    run(tmp_path / "a")
    with pytest.raises(ValueError, match="the grid does not have"):
        run(tmp_path / "a", experiment=counting([], points=lambda config: [{"x": 1.0, "seed": 0}]))


def test_rows_say_what_they_were_measured_for_and_are_not_mixed_with_unlike_ones(tmp_path):
    def stamped(**stamp):
        with RunFolder.open(tmp_path / "a", "toy", toy.Config()) as folder:
            sweep(toy, toy.Config(), folder, stamp=stamp)
        return [record.stamp for record in read_log(tmp_path / "a").records]

    assert stamped(statement="s", config="c", commit="1") == [{"statement": "s", "config": "c", "commit": "1"}] * 12
    assert len(stamped(statement="s", config="c", data="d", commit="2")) == 12  # a commit may differ, if asked for
    for kind, text in (("statement", "another statement"), ("config", "other settings")):
        with pytest.raises(ValueError, match=text):
            stamped(**{"statement": "s", "config": "c", kind: "other"})


def test_the_stamp_changes_with_an_interval_and_a_setting_but_not_with_an_origin_or_a_place():
    usual = stamp(toy, toy.Config())
    (said,) = toy.STATEMENT.predictions

    def of(prediction):
        return stamp(SimpleNamespace(STATEMENT=toy.STATEMENT._replace(predictions=(prediction,))), toy.Config())

    assert of(said._replace(origin="published")) == usual
    assert of(said._replace(interval=Interval(1.9, 2.2)))["statement"] != usual["statement"]
    assert stamp(toy, toy.Config(pause=0.1))["config"] != usual["config"]


def test_progress_counts_the_calls_that_are_left(tmp_path):
    seen = []

    def track(iterable, total, label):
        seen.append((total, label))
        return iterable

    with RunFolder.open(tmp_path / "a", "toy", toy.Config()) as folder:
        sweep(toy, toy.Config(), folder, track=track)
        sweep(toy, toy.Config(), folder, track=track)
    assert seen == [(4, "toy"), (0, "toy")]


@pytest.mark.slow
def test_any_executor_gives_the_same_rows(tmp_path):
    run(tmp_path / "a")
    with ThreadPoolExecutor(3) as executor:
        run(tmp_path / "b", toy.Config(), executor=executor)
    with worker_pool(2) as executor:
        run(tmp_path / "c", toy.Config(), executor=executor)
    assert csv(tmp_path / "a") == csv(tmp_path / "b") == csv(tmp_path / "c")


@pytest.mark.slow
def test_a_call_that_raises_in_a_worker_loses_only_its_own_points(tmp_path):
    with worker_pool(2) as executor, pytest.raises(SweepFailed, match=r"x=8.0.*1 of 4 calls"):
        run(tmp_path / "a", toy.Config(broken=[8.0]), executor=executor)
    assert len(read_log(tmp_path / "a").records) == 9


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import resource, signal, toy_experiment
from regimes import experiments
experiments.load = lambda name: toy_experiment
experiments.names = lambda: ["toy"]
from regimes.cli import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    if {limit}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    sys.argv = ["cli.py", "verify", "toy", *{arguments!r}]
    main()
"""


def start(path: Path, *arguments: str, limit: int = 0) -> subprocess.Popen:
    program = path.parent / f"program_{path.name}.py"
    options = ["--out", str(path), "--set", "seeds=2", *arguments]
    program.write_text(PROGRAM.format(tests=str(TESTS), arguments=options, limit=limit))
    return subprocess.Popen(
        [sys.executable, str(program)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(OMP_NUM_THREADS="1"),
    )


def complete(path: Path, *arguments: str) -> bytes:
    """The rows of a sweep that runs to its end."""
    process = start(path, *arguments)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return csv(path)


def finished(path: Path) -> int:
    log = path / "points.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for(path: Path, points: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while finished(path) < points and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, f"ended too early: {process.communicate()[1]}"


MANY = ("--set", f"x={[float(x) for x in range(1, 41)]}", "--set", "pause=0.01")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "run"
    return complete(path, *MANY)


@pytest.mark.slow
def test_killed_again_and_again_a_sweep_loses_only_what_was_in_flight(tmp_path, undisturbed):
    path, wait = tmp_path / "run", random.Random(1)
    for goal in (2, 14, 30, 52):
        process = start(path, *MANY)
        wait_for(path, goal, process)
        time.sleep(wait.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert finished(path) >= goal
        assert len(read_log(path).records) == finished(path)
    kept = (path / "points.jsonl").read_bytes()
    assert complete(path, *MANY) == undisturbed
    assert (path / "points.jsonl").read_bytes().startswith(kept[: kept.rindex(b"\n", 0, kept.rindex(b"\n")) + 1])


@pytest.mark.slow
def test_ctrl_c_keeps_all_finished_rows_and_ends_with_130_and_one_line(tmp_path, undisturbed):
    path = tmp_path / "run"
    process = start(path, *MANY)
    wait_for(path, 10, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1
    assert f"of 80 points are kept in {path}; run the same command again" in errors
    assert complete(path, *MANY) == undisturbed


def children(process: subprocess.Popen) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(child) for child in listed.split()]


def gone(process_id: int) -> bool:
    stat = Path(f"/proc/{process_id}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the processes")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, undisturbed, blow):
    path = tmp_path / "run"
    process = start(path, *MANY, "--workers", "2")
    wait_for(path, 4, process)
    workers = children(process)
    assert len(workers) >= 2
    process.send_signal(blow)
    process.communicate(timeout=30)
    assert process.returncode == (130 if blow == signal.SIGINT else -blow)
    deadline = time.monotonic() + 10
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, workers))
    assert complete(path, *MANY, "--workers", "2") == undisturbed


@pytest.mark.slow
def test_a_dead_worker_is_reported_in_one_line(tmp_path):
    path = tmp_path / "run"
    process = start(path, *MANY, "--workers", "2")
    wait_for(path, 4, process)
    os.kill(children(process)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert "BrokenProcessPool" in errors
    assert finished(path) >= 4


@pytest.mark.slow
def test_a_full_disk_keeps_the_finished_rows(tmp_path, undisturbed):
    path = tmp_path / "run"
    process = start(path, *MANY, limit=3000)  # bytes a file may have: the log is refused half way
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    for part in ("points.jsonl", "the points finished before are kept", "run the same command again"):
        assert part in errors
    kept = finished(path)
    assert 0 < kept < 80
    assert read_log(path).torn is False
    assert complete(path, *MANY) == undisturbed


def test_seconds_are_those_of_the_calls(tmp_path):
    run(tmp_path / "a", toy.Config(pause=0.05))
    with RunFolder.existing(tmp_path / "a") as folder:
        seconds = rows_of(folder).seconds
    assert 4 * 0.05 <= seconds < 4 * 0.05 + 5
    assert math.isclose(seconds, sum(record.seconds for record in read_log(tmp_path / "a").records))
