"""Figures of an epoch: sums over its steps that stay on the device, and the row they become."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regimes.models.timed import timed_segments
from regimes.training.evaluate import Evaluation
from regimes.training.loop import Step, Training
from regimes.training.objectives import LeastAction
from regimes.training.speed import peak_memory

TIME_FIGURES = ("smallest_weight", "largest_weight", "exchanges")
RUNNING = ("loss", "risk", "transport", "penalty", "accuracy")  # means over an epoch's steps, in train mode


class Sums:
    """Sums over the samples of an epoch so far, in float64 on their device, and its learning rate."""

    def __init__(self, lr: float, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.lr = float(state.get("lr", lr))
        self.figures: torch.Tensor = state.get("figures", torch.zeros(len(RUNNING), dtype=torch.float64))
        self.samples = int(state.get("samples", 0))
        self.seconds = float(state.get("seconds", 0.0))
        self.measured = list(state.get("measured", RUNNING))

    def add(self, step: Step) -> None:
        """Count one step; no host synchronisation."""
        parts = {
            "loss": step.value,
            "risk": step.risk,
            "transport": step.transport,
            "penalty": step.penalty,
        }
        none = step.value.new_zeros((), dtype=torch.float64)
        sums = {name: none if mean is None else mean.double() * step.samples for name, mean in parts.items()}
        sums["accuracy"] = none if step.correct is None else step.correct.double()
        self.measured = [name for name in RUNNING if (parts | {"accuracy": step.correct})[name] is not None]
        batch = torch.stack([sums[name] for name in RUNNING])
        if self.figures.device != batch.device:
            self.figures = self.figures.to(batch.device)
        self.figures = self.figures + batch
        self.samples += step.samples

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "figures": self.figures,
            "samples": self.samples,
            "seconds": self.seconds,
            "lr": self.lr,
            "measured": self.measured,
        }

    def means(self) -> dict[str, float | None]:
        """Means over the samples so far, None for what is not measured; waits for the device."""
        means = dict(zip(RUNNING, (self.figures / max(self.samples, 1)).tolist(), strict=True))
        return {name: mean if name in self.measured else None for name, mean in means.items()}

    def share(self) -> float | None:
        """Share of the penalty in the loss so far, mean over mean; None without one."""
        means = self.means()
        if means["penalty"] is None or not means["loss"]:
            return None
        return means["penalty"] / means["loss"]


def multiplier(training: Training) -> float | None:
    """λ, or None without one."""
    objective = training.objective
    return float(objective.multiplier) if isinstance(objective, LeastAction) else None


def time_figures(model: nn.Module) -> dict[str, Any]:
    """How far times τ have moved, after the epoch; nothing for a net without times.

    tau_1, tau_2, ...: of the particles of all segments, as they were built. smallest_weight, largest_weight: of the
    L (τ^l − τ^{l−1}) by which blocks move, all 1 on the uniform grid. exchanges: pairs that have changed places.
    """
    segments = timed_segments(model)
    weights = [weight for segment in segments for weight in segment.weights().tolist()]
    if not weights:
        return {}
    times = [time for segment in segments for time in segment.times.tolist()]
    return {
        **{f"tau_{number}": time for number, time in enumerate(times, 1)},
        "smallest_weight": min(weights),
        "largest_weight": max(weights),
        "exchanges": sum(segment.exchanges() for segment in segments),
    }


def known(accuracy: float) -> float | None:
    """An accuracy; None where there is none (NaN)."""
    return None if isnan(accuracy) else accuracy


def row(
    training: Training, epoch: int, steps: int, sums: Sums, found: Evaluation, *, validated: bool
) -> dict[str, Any]:
    """One line of metrics.csv; None where a figure does not exist.

    running_loss, running_risk, running_accuracy, running_transport: means over the samples of the epoch's steps, in
    train mode and each before its own update: of many weights, and so no measurement of any. penalty_share: the part of
    running_loss that the transport cost makes up. energy and energy_1, energy_2, ...: transport cost in eval mode after
    the epoch, whole and of each block, on the validation samples, or on some training samples where there are none.
    lr: of the epoch's steps. Of a net with times besides those of `time_figures`.
    seconds: of training steps alone. peak_memory_mib: the most so far (`speed.peak_memory`).
    """
    means = sums.means()
    return {
        "epoch": epoch,
        "steps": steps,
        **{f"running_{name}": means[name] for name in ("loss", "risk", "accuracy", "transport")},
        "penalty_share": sums.share(),
        "validation_risk": found.risk if validated else None,
        "validation_accuracy": known(found.accuracy) if validated else None,
        "multiplier": multiplier(training),
        "energy": found.transport,
        **{f"energy_{number}": cost for number, cost in enumerate(found.blocks.tolist(), 1)},
        **time_figures(training.model),
        "lr": sums.lr,
        "seconds": round(sums.seconds, 3),
        "images_per_second": round(sums.samples / sums.seconds, 1) if sums.seconds else None,
        "peak_memory_mib": round(peak_memory(sums.figures.device.type), 1),
    }


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as comma-separated text, floats in full, an empty cell for None."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


@contextmanager
def events(folder: Path | None, done: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Where rows go as TensorBoard events: files under `folder`, those beyond epoch `done` cut; nowhere for None."""
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=done + 1) as writer:

        def write(row: Mapping[str, Any]) -> None:
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row["epoch"])
            writer.flush()

        yield write
