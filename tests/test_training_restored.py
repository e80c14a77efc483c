"""A checkpoint whose numbers are none that its run can have come to: one line names the file, and nothing goes on."""

import copy
import math
import shutil

import pytest
import torch

from regimes.errors import UserError
from regimes.lab.tensor_files import read_tensors, write_tensors
from regimes.training import results
from regimes.training.config import TrainConfig
from regimes.training.run import train_one

STEPS = 72  # of an epoch
DONE = STEPS + 8
OPTIONS = {"dataset": "circles", "arch_options": {"blocks": 1, "width": 4}, "lap": True, "epochs": 3}
SCHEDULE = {"schedule": "multistep", "milestones": [1]}


def config(max_steps):
    return TrainConfig.model_validate({**OPTIONS, **SCHEDULE, "max_steps": max_steps})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was ended within its second epoch."""
    path = tmp_path_factory.mktemp("begun") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_figure", lambda folder, rows: {})
        train_one(config(DONE), path)
    return path


def altered(content, place, value):
    """The content of a checkpoint with another value at a place."""
    made = copy.deepcopy(content)
    *way, last = place
    part = made
    for key in way:
        part = part[key]
    part[last] = value(part[last]) if callable(value) else value
    return made


OPTIMISER = ("state", "optimizer")
MOMENTS = (*OPTIMISER, "state", 0)
GROUP = (*OPTIMISER, "param_groups", 0)
OBJECTIVE = ("state", "objective")
ODD = [
    (("state", "step"), STEPS, "state.step is 72, and an epoch has 72 steps"),
    (("state", "step"), 10**30, "state.step"),
    (("state", "epoch"), 3, "are the whole run"),
    (("state", "epoch"), 10**30, "state.epoch"),
    (("state", "step"), 7, "count of its objective is 80, after 79 steps"),
    ((*OBJECTIVE, "count"), math.inf, "count of its objective is inf"),
    ((*OBJECTIVE, "count"), 7, "count of its objective is 7, after 80 steps"),
    ((*OBJECTIVE, "multiplier"), lambda held: -held, "multiplier of its objective"),
    ((*OBJECTIVE, "multiplier"), lambda held: held * math.nan, "multiplier of its objective"),
    ((*OBJECTIVE, "running"), lambda held: held[None], "running of its objective"),
    ((*OBJECTIVE, "left_out"), torch.tensor(-1), "left_out of its objective"),
    ((*MOMENTS, "exp_avg"), lambda held: held[:0], "exp_avg of weight 0 in its optimiser is .*of shape"),
    ((*MOMENTS, "exp_avg"), torch.Tensor.double, "exp_avg of weight 0 in its optimiser is torch.float64"),
    ((*MOMENTS, "exp_avg"), lambda held: held * math.nan, "exp_avg of weight 0 in its optimiser is NaN"),
    ((*MOMENTS, "exp_avg"), 3.0, "exp_avg of weight 0 in its optimiser is 3.0, not a tensor"),
    ((*MOMENTS, "exp_avg_sq"), lambda held: -held - 1, "exp_avg_sq of weight 0 in its optimiser is NaN or negative"),
    ((*MOMENTS, "step"), torch.tensor(-1.0), "step of"),
    ((*MOMENTS, "step"), torch.tensor(1e9), "step of its optimiser is 1000000000.0, after 80 steps"),
    ((*GROUP, "lr"), 1e9, "the learning rate in it is 1000000000.0"),
    ((*GROUP, "lr"), "fast", "the learning rate in it is 'fast'"),
    ((*GROUP, "eps"), -1.0, "eps of its optimiser is -1.0, and 1e-08 here"),
    ((*GROUP, "initial_lr"), None, "initial_lr of its optimiser"),
    ((*GROUP, "params", 0), 7, "numbers its weights in another way"),
    (("state", "scheduler", "last_epoch"), 10**9, "last_epoch of its schedule is 1000000000, and 1 here"),
    (("state", "scheduler", "gamma"), -1, "gamma of its schedule is -1, and 0.1 here"),
    (("state", "scheduler", "_is_initial"), 1, "_is_initial of its schedule"),
    (("sums", "figures"), lambda held: held[:1], "figures of its sums"),
    (("sums", "figures"), lambda held: held * math.nan, "figures of its sums"),
    (("sums", "steps"), 10**9, "steps of its sums is 1000000000, after 80 steps"),
    (("sums", "samples"), -1, "samples of its sums is -1"),
    (("sums", "seconds"), math.nan, "seconds of its sums is nan"),
    (("sums", "measured"), ["loss", "luck"], "measured of its sums"),
    (("rows", 0, "steps"), 10**400, "field 'steps'"),
    (("rows", 0, "epoch"), 10**30, "field 'epoch'"),
    (("rows", 0, "running_risk"), 10**400, "field 'running_risk'"),
    (("best", "score", 0), math.nan, "best.score"),
    (("best", "epoch"), 10**30, "best.epoch"),
    (("start",), math.nan, "start is nan"),
    (("start",), 10**400, "start is"),
    (("tests",), 10**30, "tests is"),
]


@pytest.mark.parametrize(("place", "value", "text"), ODD)
def test_a_number_that_the_run_cannot_have_come_to_is_one_line(begun, tmp_path, place, value, text):
    path = tmp_path / "run"
    shutil.copytree(begun, path)
    write_tensors(path / "last.pt", altered(read_tensors(path / "last.pt", ""), place, value))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(UserError, match=rf"last\.pt .*{text}") as caught:
        train_one(config(DONE), path)
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_what_the_run_has_come_to_itself_goes_on(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})
    path = tmp_path / "run"
    shutil.copytree(begun, path)
    result = train_one(config(2 * STEPS), path).result
    assert result["outcome"] == "trained"
    assert read_tensors(path / "last.pt", "")["state"]["epoch"] == 2
