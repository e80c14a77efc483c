"""The numbers of a run: means over the steps of an epoch, and what fixed weights reach in eval mode; as rows."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regimes.data.batches import Batches
from regimes.machine import peak_memory
from regimes.models.compiling import uncompiled
from regimes.models.residual import as_trace
from regimes.models.timed import timed_segments
from regimes.modules.modes import eval_mode
from regimes.modules.targets import risk_in_full
from regimes.processes import SINGLE, SingleProcess
from regimes.training.loop import Step, Training, right_answers
from regimes.training.objectives import LeastAction, Risk
from regimes.transport.energy import Convention, block_costs, sum_over_features

METRICS = "metrics.csv"
TIME_NUMBERS = ("smallest_weight", "largest_weight", "exchanges")
RUNNING = ("loss", "risk", "transport", "penalty", "accuracy")  # means over an epoch's steps, in train mode


class Evaluation(NamedTuple):
    """Mean risk, share of right classes, transport cost of each block and their sum, number of samples.

    A network without residual blocks has no transport cost: None. Where targets are no class labels, accuracy is NaN.
    """

    risk: float
    accuracy: float
    blocks: Float[Tensor, " blocks"]
    transport: float | None
    samples: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    risk: Risk = cross_entropy,
    *,
    p: float = 2.0,
    convention: Convention = sum_over_features,
    autocast: AbstractContextManager[Any] | None = None,
    ranks: SingleProcess = SINGLE,
) -> Evaluation:
    """Means over all samples of `batches`, however they are cut; the model's modes are restored.

    With several processes `batches` are the part of this one, and the means are over the samples of all.

    Block costs are Σ_k ‖v_k‖^p as `convention` counts them, means over samples. One host synchronisation, at the end.
    """
    context = nullcontext() if autocast is None else autocast
    sums: Tensor | None = None
    count = 0
    with eval_mode(model), uncompiled(model):
        for x, labels in batches.epoch(0):
            with context:
                trace = as_trace(model(x, trace=True))
                value = risk_in_full(risk, trace.output, labels)
            steps = trace.flat_steps
            how: Any = {"p": p, "convention": convention, "squares": trace.flat_squares}
            costs = block_costs(steps, **how) if steps else value.new_zeros(0)
            right = right_answers(trace.output, labels)
            share = value.new_full((), nan) if right is None else right.double().mean()
            numbers = torch.cat([torch.stack([value.double(), share.double()]), costs.double()]) * len(labels)
            sums = numbers if sums is None else sums + numbers
            count += len(labels)
    assert sums is not None  # Batches refuses to be empty
    joined = ranks.total(torch.cat([sums, sums.new_full((1,), count)])).cpu()
    means, count = joined[:-1] / joined[-1], int(joined[-1])
    blocks = means[2:]
    return Evaluation(float(means[0]), float(means[1]), blocks, float(blocks.sum()) if len(blocks) else None, count)


class Sums:
    """Sums over the samples since the last row, in float64 on their device, and the learning rate of the first."""

    def __init__(self, lr: float, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.lr = float(state.get("lr", lr))
        self.totals: torch.Tensor = state.get("figures", torch.zeros(len(RUNNING), dtype=torch.float64))
        self.samples = int(state.get("samples", 0))
        self.steps = int(state.get("steps", 0))
        self.seconds = float(state.get("seconds", 0.0))
        self.measured = list(state.get("measured", RUNNING))

    def add(self, step: Step) -> None:
        """Count one step; no host synchronisation."""
        parts = {"loss": step.value, "risk": step.risk, "transport": step.transport, "penalty": step.penalty}
        none = torch.zeros_like(step.value, dtype=torch.float64)
        sums = {name: none if mean is None else mean.double() * step.samples for name, mean in parts.items()}
        sums["accuracy"] = none if step.correct is None else step.correct.double()
        self.measured = [name for name in RUNNING if (parts | {"accuracy": step.correct})[name] is not None]
        batch = torch.stack([sums[name] for name in RUNNING])
        if self.totals.device != batch.device:
            self.totals = self.totals.to(batch.device, non_blocking=True)
        self.totals = self.totals + batch
        self.samples += step.samples
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "figures": self.totals,
            "samples": self.samples,
            "steps": self.steps,
            "seconds": self.seconds,
            "lr": self.lr,
            "measured": self.measured,
        }

    def means(self) -> dict[str, float | None]:
        """Means over the samples so far, None for what is not measured; waits for the device."""
        means = dict(zip(RUNNING, (self.totals / max(self.samples, 1)).tolist(), strict=True))
        return {name: mean if name in self.measured else None for name, mean in means.items()}

    @classmethod
    def joined(cls, members: Sequence["Sums"]) -> "Sums":
        """Those of the members of an ensemble, at one position, as one; no seconds yet."""
        totals, first = torch.stack([one.totals for one in members], dim=1), members[0]
        return cls(first.lr, first.state_dict() | {"figures": totals, "seconds": 0.0})

    def of(self, member: int | None, seconds: float) -> "Sums":
        """Those of one member of an ensemble, None for the mean of all; with its seconds."""
        totals = self.totals.mean(1) if member is None else self.totals[:, member]
        return Sums(self.lr, self.state_dict() | {"figures": totals, "seconds": seconds})

    def share(self) -> float | None:
        """Share of the penalty in the loss so far, mean over mean; None without one."""
        means = self.means()
        if means["penalty"] is None or not means["loss"]:
            return None
        return means["penalty"] / means["loss"]

    def words(self) -> str:
        """The same for the line of progress."""
        means, share, parts = self.means(), self.share(), []
        if self.samples:
            parts += [f"loss {means['loss']:.4g}"]
            parts += [] if means["accuracy"] is None else [f"accuracy {means['accuracy']:.1%}"]
            parts += [] if means["transport"] is None else [f"energy {means['transport']:.3g}"]
            parts += [] if share is None else [f"penalty {share:.1%} of the loss"]
        return ", ".join(parts)


def early(row: Mapping[str, Any], epochs: int, every: int) -> bool:
    """Whether a row is none of a longer run: of an epoch that has not ended, or that is only measured as the last."""
    return row["epoch"] > epochs or row["epoch"] % every > 0


def multiplier(training: Training) -> float | None:
    """λ, or None without one."""
    objective = training.objective
    return float(objective.multiplier) if isinstance(objective, LeastAction) else None


def time_numbers(model: nn.Module) -> dict[str, Any]:
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


def epoch_row(
    training: Training, epoch: int, steps: int, sums: Sums, found: Evaluation, *, validated: bool
) -> dict[str, Any]:
    """One line of metrics.csv; None where a number does not exist.

    running_loss, running_risk, running_accuracy, running_transport: means over the samples of the steps since the last
    line, in train mode and each before its own update: of many weights, and so no measurement of any. penalty_share:
    the part of running_loss that the transport cost makes up. energy and energy_1, energy_2, ...: transport cost in
    eval mode after the epoch, whole and of each block, on the validation samples, or on some training samples where
    there are none.
    lr: of the first of these steps. Of a net with times besides those of `time_numbers`.
    seconds: of training steps alone, in an ensemble one member's part of them.
    peak_memory_mib: the most so far (`machine.peak_memory`).
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
        **time_numbers(training.model),
        "lr": sums.lr,
        "seconds": round(sums.seconds, 3),
        "images_per_second": round(sums.samples / sums.seconds, 1) if sums.seconds else None,
        "peak_memory_mib": round(peak_memory(sums.totals.device.type), 1),
    }


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as comma-separated text, floats in full, an empty cell for None."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def reached(rows: Sequence[Mapping[str, Any]], target: float) -> dict[str, Any] | None:
    """First epoch of validation accuracy ≥ target, and the seconds of training till its end; None if there is none."""
    for count, row in enumerate(rows, 1):
        if row["validation_accuracy"] >= target:
            return {"epoch": row["epoch"], "seconds": round(sum(line["seconds"] for line in rows[:count]), 3)}
    return None


def costs(
    rows: Sequence[Mapping[str, Any]], flops: float | None, possible: float, target: float | None
) -> dict[str, Any]:
    """The costs in result.json, `flops` a sample (None: not known) and `possible` a second on all devices together.

    Seconds are those of training steps, over all launches, without measurements.
    """
    seconds = sum(row["seconds"] for row in rows)
    seen = sum(row["seconds"] * (row["images_per_second"] or 0) for row in rows)
    rate = seen / seconds if seconds else None
    found = {
        "seconds": round(seconds, 3),
        "images_per_second": None if rate is None else round(rate, 1),
        "flops_per_image": flops,
        "matrix_flops_per_second": float(f"{possible:.4g}"),
        "share_of_matrix_rate": None if rate is None or flops is None else float(f"{rate * flops / possible:.4g}"),
        "peak_memory_mib": max(row["peak_memory_mib"] for row in rows),
    }
    if target is not None:
        found["target"] = {"validation_accuracy": target, "reached": reached(rows, target)}
    return found


def sentence(result: Mapping[str, Any]) -> str:
    """The same in words, for table.md."""
    if result["images_per_second"] is None:
        return ""
    flops, share = result["flops_per_image"], result["share_of_matrix_rate"]
    worked = "" if flops is None else f": {flops:.3g} flops an image, {share:.0%} of the rate of a large matrix product"
    rate = f"{result['images_per_second']:g} images/s{worked}"
    said = f"{result['seconds']:g} s of training, {rate}; at most {result['peak_memory_mib']:g} MiB."
    if "target" in result:
        goal, found = result["target"]["validation_accuracy"], result["target"]["reached"]
        when = "was not reached" if found is None else f"was reached in epoch {found['epoch']}, {found['seconds']:g} s"
        said += f" Validation accuracy {goal:g} {when}."
    return said


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
