"""Whole runs of `train` on digits: interrupted and resumed, compiled, as CUDA graphs, and out of memory."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.first_minute.records import Found, Records
from regimes.errors import Interrupted, RunFailed
from regimes.lab.config import load
from regimes.models.residual import ResidualNet
from regimes.training.checkpoint import load_checkpoint
from regimes.training.config import TrainConfig
from regimes.training.run import train_one

STOP_AFTER = 3  # steps of the run that is interrupted


def settings(device: str, *given: str) -> TrainConfig:
    """Digits, two epochs, of which the last batch is smaller than the others."""
    small = ["train_size=300", "validation=64", "test_size=64", "arch_options={filters: 16}"]
    if device == "cpu":
        small = ["train_size=20", "validation=8", "test_size=8", "batch=8", "arch_options={filters: 2, blocks: 1}"]
    own = ["dataset=digits", "epochs=2", "schedule=constant", f"device={device}"]
    return load(TrainConfig, overrides=[*own, *small, *given])


def train(records: Records, device: str, folder: Path, *, compiled: bool) -> None:
    """Eager runs and their like in other ways; each is compared with the eager run of the same settings."""
    for name, given in {"lap bf16": ("lap=true", "precision=bf16"), "lap": ("lap=true",)}.items():
        where, config = folder / name.replace(" ", "-"), settings(device, *given)
        eager = records.attempt(f"{name}, eager", run, config, where / "eager", seconds=5)
        if eager is None or "failed" in eager:
            continue
        records.attempt(f"{name}, interrupted and resumed", resumed, config, where, seconds=5)
        ways = {"compiled": "compile=true", "CUDA graphs": "cuda_graphs=true"} if compiled else {}
        for way, setting in ways.items():
            if device == "cuda" or way == "compiled":
                config = settings(device, *given, setting)
                records.attempt(f"{name}, {way}", _like_eager, config, where, way, seconds=20)


def run(config: TrainConfig, path: Path) -> Found:
    """A whole run: what it reached, and how fast."""
    result = train_one(config, path).result
    return {"test_accuracy": result["last"]["test_accuracy"], "images_per_second": result["images_per_second"]}


def _weights(path: Path) -> Tensor:
    state = load_checkpoint(path / "last.pt").state["model"]
    return torch.cat([value.double().flatten() for value in state.values() if value.is_floating_point()])


def _beside_eager(where: Path, way: str) -> Found:
    """How far the last weights lie from those of the eager run, relative to these."""
    eager, other = _weights(where / "eager"), _weights(where / way)
    away = float((eager - other).norm() / eager.norm())
    return {"ok": away < 0.5, "same_bits": torch.equal(eager, other), "of_the_weights": away}


def _like_eager(config: TrainConfig, where: Path, way: str) -> Found:
    found = run(config, where / way)
    return {**_beside_eager(where, way), **found}


def resumed(config: TrainConfig, where: Path) -> Found:
    """A run that is asked to stop after a few steps and goes on, beside the eager one in the same folder."""
    path, seen = where / "resumed", [0]

    def stop(*step: Any) -> None:
        seen[0] += 1
        if seen[0] == STOP_AFTER:
            signal.raise_signal(signal.SIGTERM)

    hook = register_optimizer_step_post_hook(stop)
    try:
        train_one(config, path)
    except Interrupted as error:
        word = str(error)
    else:
        return {"ok": False, "failed": "the run did not stop when it was asked to"}
    finally:
        hook.remove()
    found = run(config, path)
    return {**_beside_eager(where, "resumed"), **found, "stopped": word[:80]}


def out_of_memory(records: Records, device: str, folder: Path) -> None:
    """A run that asks for more memory than there is ends in one line that says what to do."""

    records.attempt("forced", without_memory, device, folder / "out-of-memory")


def without_memory(device: str, path: Path) -> Found:
    """How a run ends for which there is hardly any memory."""
    with _little_memory(device):
        try:
            train_one(settings(device, "lap=true", "batch=256", "arch_options={filters: 64}"), path)
        except RunFailed as error:
            text = str(error)
            return {"ok": "\n" not in text and "smaller batch" in text, "message": text}
    return {"ok": False, "failed": "the run did not run out of memory"}


@contextmanager
def _little_memory(device: str) -> Iterator[None]:
    """Hardly any memory on a card; elsewhere a network that says so."""
    with ExitStack() as stack:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(0.0002)
            stack.callback(torch.cuda.set_per_process_memory_fraction, 1.0)
        else:
            full = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
            forward = ResidualNet.forward

            def fails(net: ResidualNet, *inputs: Any, **named: Any) -> Any:
                if net.training:
                    raise full
                return forward(net, *inputs, **named)

            stack.enter_context(mock.patch.object(ResidualNet, "forward", fails))
        yield
