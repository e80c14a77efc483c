"""Every setting arrives: changed, each field of TrainConfig changes what a run is made of or what its steps do."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from regimes import training
from regimes.errors import UserError
from regimes.training import checkpoint, results
from regimes.training import run as runs
from regimes.training.assemble import assemble
from regimes.training.checkpoint import load_checkpoint
from regimes.training.config import TrainConfig

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "dataset": "digits",
    "arch": "dense",
    "arch_options": {"blocks": 2, "width": 6, "batch_norm": True},
    "train_size": 40,
    "validation": 12,
    "test_size": 12,
    "batch": 16,
    "epochs": 1,
    "lr": 0.05,
    "lap": True,
    "every": 1,
    "schedule": "multistep",
    "milestones": [1],
}
PLAIN = {"lap": False}
IMAGES = {"arch": "resnet9", "arch_options": {"filters": 4, "blocks": 1}}
TWO = {"epochs": 2}
MOVING = {"mean_field": True, "tau_start": "random", "tau_lr_factor": 1.0, "lr": 0.01, "epochs": 2}
CLOCK = ("seconds", "images_per_second", "peak_memory_mib")

# field: what is changed, and, if the field does nothing in BASE, the settings in which it does
CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("dataset", "circles", {"arch_options": {"blocks": 2, "width": 6}, **PLAIN}),
    ("train_size", 41, {}),
    ("validation", 13, {}),
    ("test_size", 13, {}),
    ("balanced", True, PLAIN),
    ("augment", True, IMAGES),
    ("cutout", 3, IMAGES),
    ("arch", "resnet9", {"arch_options": {"blocks": 2}}),
    ("arch_options", {"blocks": 2, "width": 7, "batch_norm": True}, {}),
    ("arch_options", {"blocks": 3, "width": 6, "batch_norm": True}, {}),
    ("arch_options", {"blocks": 2, "width": 6, "batch_norm": False}, {}),
    ("init", "orthogonal", {}),
    ("init", "normal", {}),
    ("init", "xavier", {}),
    ("gain", 0.5, {}),
    ("init_biases", True, {}),
    ("epochs", 2, {}),
    ("max_steps", 2, {}),
    ("batch", 15, {}),
    ("optimiser", "adam", {}),
    ("optimiser", "adamw", {"optimiser": "adam", "weight_decay": 0.1}),
    ("lr", 0.06, {}),
    ("momentum", 0.5, {}),
    ("nesterov", True, {}),
    ("betas", [0.8, 0.999], {"optimiser": "adam"}),
    ("betas", [0.9, 0.9], {"optimiser": "adamw"}),
    ("weight_decay", 0.5, {}),
    ("weight_decay", 0.5, {"optimiser": "adamw"}),
    ("schedule", "cosine", TWO),
    ("schedule", "constant", TWO),
    ("milestones", [], TWO),
    ("gamma", 0.5, TWO),
    ("lap", False, {}),
    ("multiplier", 3.0, {}),
    ("growth", 2.0, {}),
    ("every", 2, {}),
    ("p", 3.0, {}),
    ("p", 3.0, PLAIN),  # of what is measured
    ("convention", "sum_over_features", {}),
    ("convention", "sum_over_features", PLAIN),
    ("form", "multiplied", {}),
    ("form", "risk_only", {}),
    ("level", "batch_after", {}),
    ("level", "running", {}),
    ("level", "whole", {}),
    ("memory", 0.5, {"level": "running"}),
    ("mean_field", True, {}),
    ("tau_start", "random", {"mean_field": True}),
    ("tau_first_gap", False, MOVING),
    ("tau_sort", "epoch", MOVING),
    ("tau_sort", "never", MOVING),
    ("tau_lr_factor", 0.5, MOVING),
    ("tau_weight_decay", 1.0, MOVING),
    ("tau_clip", 1e-6, MOVING),
    ("reversible", True, {}),
    ("module_wise", 2, PLAIN),
    ("movement_step", 0.5, {"module_wise": 2, **PLAIN}),
    ("seed", 1, {}),
    ("seeds", 2, {}),
    ("precision", "bf16", {}),
    ("evaluate_every", 2, TWO),
    ("target", 0.01, {}),
    ("checkpoint_seconds", 0.0, {}),
    ("channels_last", False, IMAGES),
    ("compile", True, {}),
]
# Each takes a second or two; no other field depends on them.
LONG = {"dataset", "tau_first_gap", "tau_sort", "tau_lr_factor", "tau_weight_decay", "tau_clip", "seeds"}
# These say where and how it is computed; a test of their own says what comes of each.
ELSEWHERE = {"data_dir", "device", "tensorboard", "cuda_graphs", "cudnn_benchmark"}


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**BASE, **changes})


def fingerprint(config: TrainConfig) -> dict[str, Any]:
    """What a run is made of and what it did, without its settings and the clock."""
    made: dict[str, Any] = {"compiled": [], "strides": [], "saved": 0}
    save = checkpoint.save_checkpoint

    def noted(one: TrainConfig, ranks: Any) -> Any:
        setup = assemble(one, ranks)
        made["strides"] += [weight.stride() for weight in setup.training.model.parameters()]
        return setup

    def counted(path: Path, state: Any) -> None:
        made["saved"] += 1
        save(path, state)

    with (
        TemporaryDirectory() as folder,
        mock.patch.object(results, "_figure", return_value={}),
        mock.patch.object(results, "matrix_rate", return_value=1.0),
        mock.patch.object(nn.Module, "compile", lambda self, mode=None: made["compiled"].append(mode)),
        mock.patch.object(runs, "assemble", noted),
        mock.patch.object(checkpoint, "save_checkpoint", counted),
    ):
        path = Path(folder) / "run"
        outcome = training.train(config, path)
        made["table"] = outcome.table
        made["target"] = "target" in outcome.result
        for last in sorted(path.rglob("last.pt")):
            state = load_checkpoint(last)
            made[str(last.relative_to(path))] = (
                [{name: value for name, value in row.items() if name not in CLOCK} for row in state.rows],
                {name: weight.tolist() for name, weight in state.state["model"].items()},
            )
    return made


UNCHANGED: dict[str, dict[str, Any]] = {}


def base(around: dict[str, Any]) -> dict[str, Any]:
    """The run that others are compared with, made once."""
    if repr(around) not in UNCHANGED:
        UNCHANGED[repr(around)] = fingerprint(settings(**around))
    return UNCHANGED[repr(around)]


@pytest.mark.parametrize(
    ("field", "value", "around"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[0] in LONG else []) for case in CASES],
)
def test_a_setting_that_is_changed_changes_the_run(field, value, around):
    assert getattr(settings(**around), field) != value
    assert fingerprint(settings(**{**around, field: value})) != base(around)


def test_the_same_settings_make_the_same_run():
    """Else a change would say nothing."""
    assert fingerprint(settings()) == base({})


def test_no_setting_is_left_out():
    assert {field for field, _, _ in CASES} | ELSEWHERE == set(TrainConfig.model_fields)
    assert not {field for field, _, _ in CASES} & ELSEWHERE


def test_the_folder_of_the_data_is_the_one_that_is_read(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        assemble(TrainConfig(dataset="mnist", data_dir=tmp_path))


def test_the_device_is_the_one_that_is_asked_for():
    if torch.cuda.is_available():
        model = assemble(settings(device="cuda")).training.model
        assert next(model.parameters()).device.type == "cuda"
    else:
        with pytest.raises(UserError, match="device 'cuda' needs a CUDA graphics card"):
            fingerprint(settings(device="cuda"))


def test_tensorboard_writes_its_events_or_is_refused(tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UserError, match="needs the package tensorboard"):
            training.train(settings(tensorboard=True), tmp_path / "run")
    else:
        training.train(settings(tensorboard=True), tmp_path / "run")
        assert any((tmp_path / "run" / "events").iterdir())


def test_cuda_graphs_are_asked_of_the_compiler():
    modes = []
    with mock.patch.object(nn.Module, "compile", lambda self, mode=None: modes.append(mode)):
        for changes in ({"compile": True}, {"cuda_graphs": True}):
            assemble(settings(**changes))
    assert modes == [None, "reduce-overhead"]
