"""The first minute on a card: its parts on a card where there is one, else rehearsed on the CPU; nothing stops it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from stand_in_card import stand_in_card

from benchmarks.first_minute import __main__ as first_minute
from benchmarks.first_minute import cases, fast, right, runs
from benchmarks.first_minute.records import Records
from regimes.training.objectives import LeastAction

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.slow),
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]
on_each_device = pytest.mark.parametrize("device", DEVICES)
OBJECTIVES = cases.objectives()


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path, "tried", time.time() + 100)


def lines(records):
    return [json.loads(line) for line in records.path.read_text().splitlines()]


@pytest.mark.parametrize("title", OBJECTIVES)
@on_each_device
def test_a_step_is_that_of_the_cpu(device, title):
    assert right.alone(cases.nets(device)["resnet9"], OBJECTIVES[title], device)["ok"]


@pytest.mark.parametrize("name", ["resnext50", "timed resnet20"])
@on_each_device
def test_a_step_of_each_network_is_that_of_the_cpu(device, name):
    assert right.alone(cases.nets(device)[name], OBJECTIVES["divided, batch"], device)["ok"]


@on_each_device
def test_a_step_of_an_ensemble_is_that_of_the_cpu(device):
    assert right.ensemble(OBJECTIVES["divided, running"], device)["ok"]


@on_each_device
def test_a_group_of_one_process_takes_the_step_of_none(device):
    assert right.in_a_group(device)["ok"]


@pytest.mark.parametrize("title", ["plain", "divided, batch", "multiplied, batch_after", "risk_only, whole"])
@on_each_device
def test_no_step_waits_for_the_device(device, title):
    net = cases.nets(device)["resnet9"]
    assert right.without_waits(device, net, OBJECTIVES[title], 8, True)["ok"]


@on_each_device
def test_a_run_goes_on_after_it_was_stopped(device, tmp_path):
    config = runs.settings(device, "lap=true", "bf16=true")
    runs.run(config, tmp_path / "eager")
    found = runs.resumed(config, tmp_path)
    assert found["ok"]
    assert found["same_bits"] or device == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("setting", ["compile=true", "cuda_graphs=true"])
@pytest.mark.parametrize("own", [("lap=true",), ("lap=true", "bf16=true")], ids=" ".join)
def test_a_compiled_run_with_a_partial_batch_ends_near_the_eager_one(own, setting, tmp_path):
    runs.run(runs.settings("cuda", *own), tmp_path / "eager")
    assert runs._like_eager(runs.settings("cuda", *own, setting), tmp_path, "compiled")["ok"]


@on_each_device
def test_a_run_without_memory_says_what_to_do(device, tmp_path):
    assert runs.without_memory(device, tmp_path / "run")["ok"]


@pytest.mark.slow
def test_a_step_that_is_not_that_of_the_cpu_is_noticed(monkeypatch):
    made = iter([1.0, 1.001])
    real = cases.training

    def other(net, objective, device, dtype):
        training = real(net, objective, device, dtype)
        training.optimizer.param_groups[0]["lr"] *= next(made)
        return training

    monkeypatch.setattr(cases, "training", other)
    assert not right.alone(cases.TINY["resnet9"], OBJECTIVES["plain"], "cpu")["ok"]


@pytest.fixture
def card(monkeypatch):
    """A card's names and refusals without a card, and networks as small as those of the rehearsal."""
    monkeypatch.setattr(cases, "SMALL", cases.TINY)
    monkeypatch.setattr(cases, "FULL", {"resnet9": cases.TINY["resnet9"]})
    monkeypatch.setattr(fast, "SECONDS", 0.01)
    with stand_in_card(monkeypatch) as card:
        yield card


@pytest.mark.slow
def test_what_only_a_card_tries_is_rehearsed_on_its_stand_in(card, records, monkeypatch):
    titles = ("plain", "multiplied, batch_after", "divided, whole")
    monkeypatch.setattr(right, "STEPS", 8)  # across the end of an epoch
    monkeypatch.setattr(cases, "objectives", lambda: {title: OBJECTIVES[title] for title in titles})
    for title in titles:
        assert right.without_waits("cuda", cases.TINY["resnet9"], OBJECTIVES[title], 4, title == "plain")["ok"]
    assert right.ensemble_without_waits("cuda", OBJECTIVES["divided, batch"], 4)["ok"]
    assert card.mode == "default"
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net, mode=None: asked.append(mode))
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # its imports warn
    monkeypatch.setattr(fast, "PRECISIONS", ("tf32",))
    monkeypatch.setattr(fast, "OBJECTIVES", {"lap": fast.OBJECTIVES["lap"]})
    before = torch.get_float32_matmul_precision()
    try:
        for item in (fast.throughput, fast.compiled, fast.members):
            item(records, "cuda")
    finally:
        torch.set_float32_matmul_precision(before)
    assert not records.failed
    assert asked == ["reduce-overhead", None] * 2
    assert all("peak_mib" in one for one in lines(records) if "images_per_second" in one)


@pytest.mark.slow
def test_a_step_that_waits_is_noticed(card, monkeypatch):
    after_step = LeastAction.after_step

    def reads(made, *measured):
        after_step(made, *measured)
        made.multiplier.item()

    monkeypatch.setattr(LeastAction, "after_step", reads)
    with pytest.raises(RuntimeError, match="synchronizing"):
        right.without_waits("cuda", cases.TINY["resnet9"], OBJECTIVES["divided, batch"], 4, False)
    assert card.mode == "default"


@pytest.mark.slow
def test_speeds_are_measured_and_members_compared_with_one(records, monkeypatch):
    for table in ("FULL", "TINY"):
        monkeypatch.setattr(cases, table, {"resnet9": cases.TINY["resnet9"]})
    process = lambda: (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark)  # noqa: E731
    before = process()
    fast.throughput(records, "cpu")
    fast.members(records, "cpu")
    assert process() == before
    found = lines(records)
    assert sum("images_per_second" in one for one in found) == 24 + 16
    assert sum("ratio" in one for one in found) == 8
    assert not records.failed


def test_a_case_that_fails_is_written_down_and_the_next_one_runs(records):
    def broken():
        raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")

    records.attempt("first", broken)
    records.attempt("second", lambda number: {"ok": True, "number": number}, 3)
    first, second = lines(records)
    assert (first["ok"], first["failed"]) == (
        False,
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    )
    assert (second["ok"], second["number"]) == (True, 3)
    assert records.failed == 1


def test_what_has_no_time_left_is_named_and_not_begun(tmp_path):
    late = Records(tmp_path, "late", time.time() + 1)
    late.attempt("long", pytest.fail, seconds=30)
    assert lines(late) == [{"item": "late", "case": "long", "left_out": "no time left"}]


def test_an_item_that_dies_or_takes_too_long_stops_no_other(tmp_path, capsys):
    def process(code):
        return subprocess.Popen([sys.executable, "-c", code])

    for item in ("dies", "hangs", "ends"):
        (tmp_path / f"{item}.log").write_text("its last words\n")
    running = {"dies": "raise SystemExit(139)", "hangs": "import time; time.sleep(60)", "ends": ""}
    wrong = first_minute.watch({item: process(code) for item, code in running.items()}, tmp_path, time.time() + 1)
    ended = {
        one["item"]: one["ended"] for one in map(json.loads, (tmp_path / "summary.jsonl").read_text().splitlines())
    }
    assert ended == {"dies": "died (139)", "hangs": "cut off", "ends": "ended"}
    assert wrong == 1
    assert "its last words" in capsys.readouterr().out


@pytest.mark.slow
def test_all_of_it_runs_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "benchmarks.first_minute", "--device", "cpu", "--out", str(tmp_path)]
    command += ["--items", "versions", "joined_norms", "out_of_memory"]
    subprocess.run(command, cwd=Path(__file__).parent.parent, check=True)
    ended = [json.loads(line) for line in (tmp_path / "summary.jsonl").read_text().splitlines()]
    assert [(one["item"], one["ended"], one["cases"], one["wrong"]) for one in ended] == [
        ("versions", "ended", 1, 0),
        ("joined_norms", "ended", 1, 0),
        ("out_of_memory", "ended", 1, 0),
    ]
