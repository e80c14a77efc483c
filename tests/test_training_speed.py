"""What a run costs: flops against hand counts, the time to an accuracy, figures that a resumed run keeps."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch
from short_training import short, train
from torch import nn

from regimes.errors import Interrupted
from regimes.machine import matrix_rate, peak_memory
from regimes.models.build import build
from regimes.models.costs import training_flops
from regimes.models.timed import timed
from regimes.training import results
from regimes.training.metrics import costs, reached, sentence
from regimes.training.run import train_one


@pytest.fixture(autouse=True)
def without_figure(monkeypatch):
    monkeypatch.setattr(results, "_figure", lambda folder, rows: {})


def row(epoch: int, accuracy: float, seconds: float = 2.0, rate: float | None = 100.0) -> dict[str, float | None]:
    return {
        "epoch": epoch,
        "validation_accuracy": accuracy,
        "seconds": seconds,
        "images_per_second": rate,
        "peak_memory_mib": 10.0 * epoch,
    }


def test_flops_of_linear_layers_are_two_a_weight_forward_and_four_backward_but_for_the_input():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5))
    assert training_flops(model, (3, 2, 2)) == 2 * (2 * 12 * 7 + 3 * 7 * 5)


def test_the_times_of_blocks_take_no_flops():
    model = build("resnet9", (1, 8, 8), 10, filters=4)
    expected = training_flops(model, (1, 8, 8))
    assert training_flops(timed(model), (1, 8, 8)) == expected


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm:FutureWarning")
def test_a_net_with_a_weight_that_is_formed_from_others_is_counted_and_stays_as_it_is():
    model = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(12, 7)), nn.ReLU(), nn.Linear(7, 5))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5))
    assert training_flops(model, (3, 2, 2)) == training_flops(plain, (3, 2, 2))
    assert model.training
    assert model[1].weight_g.grad is None


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_flops_of_convolutions_count_places_times_weights_with_and_without_groups(groups, stride):
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1, stride=stride, groups=groups)
    places = 36, (6 // stride) ** 2
    expected = 2 * (2 * places[0] * first.weight.numel() + 3 * places[1] * second.weight.numel())
    assert training_flops(nn.Sequential(first, second), (3, 6, 6)) == expected


def test_counting_flops_leaves_the_network_as_it_was():
    model = build("resnet9", (1, 8, 8), 10, filters=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_flops(model.eval(), (1, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_has_it():
    rows = [row(1, 0.5), row(2, 0.8), row(3, 0.7), row(4, 0.9)]
    assert reached(rows, 0.75) == {"epoch": 2, "seconds": 4.0}
    assert reached(rows, 0.9) == {"epoch": 4, "seconds": 8.0}
    assert reached(rows, 0.95) is None


def test_the_rate_weighs_epochs_by_their_seconds_and_its_share_is_flops_over_those_possible():
    found = costs([row(1, 0.5, 1.0, 100.0), row(2, 0.6, 3.0, 200.0)], flops=1e6, possible=1e9, target=0.6)
    assert (found["seconds"], found["images_per_second"]) == (4.0, 175.0)
    assert found["share_of_matrix_rate"] == 0.175
    assert found["peak_memory_mib"] == 20.0
    assert found["target"] == {"validation_accuracy": 0.6, "reached": {"epoch": 2, "seconds": 4.0}}
    assert "accuracy 0.6 was reached in epoch 2, 4 s" in sentence(found)
    never = costs([row(1, 0.5)], flops=1e6, possible=1e9, target=0.6)
    assert "0.6 was not reached" in sentence(never)


def test_without_a_clock_reading_there_is_no_rate():
    found = costs([row(1, 0.5, 0.0, None)], flops=1e6, possible=1e9, target=None)
    assert (found["images_per_second"], found["share_of_matrix_rate"]) == (None, None)
    assert sentence(found) == ""


def test_the_matrix_rate_is_that_of_a_product_timed_here():
    assert 1e8 < matrix_rate("cpu") < 1e15


def test_peak_memory_never_falls_and_grows_by_what_is_taken():
    before = peak_memory("cpu")
    held = torch.ones(64 * 2**20)  # 256 MiB
    after = peak_memory("cpu")
    assert before > 50  # torch itself
    assert after >= before
    del held
    assert peak_memory("cpu") >= after


def test_a_run_tells_its_costs_and_the_epoch_of_its_target(tmp_path):
    outcome = train(tmp_path / "run", target=1e-6)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result == outcome.result
    model = build("dense", (1, 8, 8), 10, **short().arch_options)
    assert result["flops_per_image"] == training_flops(model, (1, 8, 8))
    share = result["images_per_second"] * result["flops_per_image"] / result["matrix_flops_per_second"]
    assert result["share_of_matrix_rate"] == pytest.approx(share, rel=0.01)
    assert result["target"]["reached"]["epoch"] == 1
    assert 0 < result["target"]["reached"]["seconds"] <= result["seconds"]
    assert "images/s" in (tmp_path / "run" / "table.md").read_text()


def test_the_clock_of_a_stopped_run_goes_on_where_it_stood(tmp_path, monkeypatch):
    from regimes.training import run

    path = tmp_path / "run"
    close = run.TrainingRun.close_epoch

    def slow(self):
        self.state.sums.seconds += 1000.0
        close(self)
        if self.training.epoch == 2:
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(run.TrainingRun, "close_epoch", slow)
        with pytest.raises(Interrupted):
            train(path, target=1.0)
    outcome = train_one(short(target=1.0), path)
    assert 2000 < outcome.result["seconds"] < 2100


def test_a_target_needs_validation_samples(tmp_path):
    with pytest.raises(ValueError, match="target is an accuracy on validation samples; got validation 0"):
        train(tmp_path / "run", validation=0, target=0.9)


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
@pytest.mark.slow
def test_a_run_asks_for_huge_pages_before_its_first_tensor_unless_told_otherwise(tmp_path, given, expected):
    code = f"""
import os
from regimes.training import config, run
asked = []
def first(*args, **more):
    asked.append(os.environ.get("THP_MEM_ALLOC_ENABLE"))
    raise ValueError("stop here")
run.assemble = first
try:
    run.train_one(config.TrainConfig(dataset="digits"), __import__("pathlib").Path({str(tmp_path)!r}))
except ValueError:
    print(asked[0])
"""
    kept = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
    found = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is that of glibc")
def test_kept_memory_is_not_asked_for_again():
    code = """
import resource, torch
from regimes.machine import keep_memory
keep_memory()
for turn in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(2**18) for _ in range(64)]  # 64 MiB
    del parts
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = os.environ | {"THP_MEM_ALLOC_ENABLE": "0"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1000  # of the 16,384 pages
