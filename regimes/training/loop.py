"""The one training loop: a generator of optimiser steps. The caller measures, saves, draws and stops."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from regimes.data.batches import Batches
from regimes.data.member_batches import MemberBatches
from regimes.models.compiling import uncompiled
from regimes.models.module_wise import ModuleWiseNet
from regimes.models.residual import Trace, as_trace
from regimes.models.timed import timed_segments
from regimes.models.weights import odd_weight
from regimes.modules.modes import batch_statistics, buffers_restored, with_running_statistics
from regimes.modules.targets import Risk, risk_in_full
from regimes.processes import SINGLE, SingleProcess
from regimes.training.module_wise import joined
from regimes.training.objectives import Loss, Objective
from regimes.training.restored import refuse_unlike_objective, refuse_unlike_optimiser, refuse_unlike_schedule


class Step(NamedTuple):
    """One optimiser step: its epoch, its number within the epoch (from 0), its numbers as tensors on the device.

    With several processes they are those of the joined batch, the same in each; of an ensemble one a member, samples
    those of each. transport and penalty (its part of the value) are None for an objective that does not measure them;
    correct is None where targets are no class labels.
    """

    epoch: int
    number: int
    value: Float[Tensor, "*members"]
    risk: Float[Tensor, "*members"]
    transport: Float[Tensor, "*members"] | None
    correct: Tensor | None
    samples: int
    penalty: Float[Tensor, "*members"] | None = None


class Training:
    """All that moves during training, and where it stands: `epoch` and `step` are the next batch to be seen.

    The scheduler moves once an epoch, after its last step, and so are timed segments sorted that ask for it. With
    several processes the objective must join its losses over `ranks`, and batch norms be joined (`join_batch_norms`).
    """

    members: int | None = None  # of an ensemble, whose batches and losses have them in front

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: LRScheduler | None = None,
        *,
        ranks: SingleProcess = SINGLE,
    ) -> None:
        self.model, self.objective, self.optimizer, self.scheduler = model, objective, optimizer, scheduler
        self.ranks = ranks
        self.epoch = self.step = 0

    @property
    def lr(self) -> float:
        """Learning rate of the weights, now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, schedule, λ, position: with data and seed, all that the next step depends on.

        The tensors are those of the run, as in torch: save or copy them before the next step changes them. A network
        that draws random numbers (dropout) depends on torch's global generator besides.
        """
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the same into objects made alike; ValueError says what in it is none of theirs, nothing changed."""
        refuse_unlike_objective(self.objective.state_dict(), state["objective"])
        refuse_unlike_optimiser(self.optimizer, state["optimizer"])
        if self.scheduler is not None:
            refuse_unlike_schedule(self.scheduler, state["scheduler"], int(state["epoch"]))
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.step = int(state["epoch"]), int(state["step"])

    def end_epoch(self) -> None:
        """Move what moves once an epoch."""
        if self.scheduler is not None:
            self.scheduler.step()
        for segment in timed_segments(self.model):
            if segment.sorting == "epoch":
                segment.sort()


def descend(
    training: Training,
    batches: Batches | MemberBatches,
    *,
    epochs: int,
    autocast: AbstractContextManager[Any] | None = None,
) -> Iterator[Step]:
    """Train until `epochs` epochs are done, from wherever `training` stands; yields after every optimiser step.

    A network on `Batches`, or the members of an ensemble (`EnsembleTraining`) side by side on `MemberBatches`.

    At each yield `training` holds a state from which training goes on as if nothing had happened; the caller may save
    it, or load another one and go on from there. The model is put into training mode at the start, and again where the
    caller has left it in eval mode. A compiled network runs as it is written where a batch is smaller than the others,
    and where risks are measured: nothing is compiled for these. No host synchronisation, and nothing of a step is held
    through the next one.
    """
    context, model = nullcontext() if autocast is None else autocast, training.model
    own = batches if isinstance(batches, Batches) else None
    model.train()
    while training.epoch < epochs:
        for x, labels in batches.epoch(training.epoch, training.step):
            if not model.training:
                model.train()
            epoch, number = training.epoch, training.step
            seen = len(labels) if training.members is None else labels.shape[1]
            loss, correct = _optimise(training, x, labels, context, usual=seen == getattr(batches, "usual", seen))
            training.objective.after_step(
                lambda x=x, labels=labels: _risk(training, x, labels, context),
                lambda: whole_risk(training, batches, context),
            )
            samples = seen if own is None or training.ranks.count == 1 else own.joined(number)
            del x, labels
            training.step += 1
            if training.step == len(batches):
                training.epoch, training.step = training.epoch + 1, 0
                training.end_epoch()
            here = (training.epoch, training.step)
            yield Step(epoch, number, loss.value, loss.risk, loss.transport, correct, samples, loss.penalty)
            if (training.epoch, training.step) != here:  # the caller has loaded another state
                break


@contextmanager
def _known_labels(objective: Objective) -> Iterator[None]:
    """Within, the objective does not read labels, for which a card would wait: data are checked where they are read."""
    looks, objective.looks = objective.looks, False
    try:
        yield
    finally:
        objective.looks = looks


def _optimise(
    training: Training, x: Tensor, labels: Tensor, context: AbstractContextManager[Any], *, usual: bool
) -> tuple[Loss, Tensor | None]:
    """One step of the optimiser: its loss, without the graph, and how many answers were right.

    usual: whether the batch has the size of all but the last one, for which a compiled network is compiled.
    """
    training.optimizer.zero_grad(set_to_none=True)  # before the forward pass, which needs their memory
    losses: list[Loss] = []
    summed: Sequence[Tensor] = ()
    for loss, right in _parts(training, x, labels, context, usual=usual):
        whole = loss.value if training.members is None else loss.value.sum()  # each member has weights of its own
        counts = [] if right is None else [right.sum(-1)]
        summed = training.ranks.backward(whole, training.model.parameters(), *counts)
        losses.append(loss._replace(value=loss.value.detach()))
        del loss, whole
    training.optimizer.step()
    return losses[0] if len(losses) == 1 else joined(losses), summed[0] if summed else None


def _parts(
    training: Training, x: Tensor, labels: Tensor, context: AbstractContextManager[Any], *, usual: bool
) -> Iterator[tuple[Loss, Tensor | None]]:
    """Loss and right answers of the network, or of each module of one trained module-wise, whose graph goes in time."""
    model, traced = training.model, training.objective.traced
    modules = isinstance(model, ModuleWiseNet)
    turns = model.turns(x, trace=traced) if modules else (_forward(training, x, usual=usual) for _ in range(1))
    while True:
        with context:
            output = next(turns, None)
            if output is None:
                return
            with _known_labels(training.objective):
                loss = training.objective(output, labels)
        with torch.no_grad():
            right = right_answers(as_trace(output).output, labels, members=training.members is not None)
        del output
        yield loss, right
        del loss, right


class Guard:
    """Watches that losses stay finite: each step on a CPU, else every `every` steps, so that a GPU need not wait.

    lost: which networks are lost by now, and why; a network that is trained alone is number 0.
    """

    def __init__(self, device: str, members: int = 1, *, every: int = 50) -> None:
        self.every = 1 if device == "cpu" else every
        self.unread: list[Step] = []
        self.step: Step | None = None
        self.losses = [math.nan] * members  # the last ones read
        self.lost: dict[int, str] = {}

    def see(self, step: Step) -> None:
        """Take in a step."""
        self.step = step
        self.unread.append(step)
        if len(self.unread) >= self.every:
            self.read()

    def read(self) -> None:
        """Read the losses of the steps since the last time."""
        steps, self.unread = self.unread, []
        read = torch.stack([step.value.reshape(-1) for step in steps]).tolist() if steps else []
        for step, losses in zip(steps, read, strict=True):
            for member, loss in enumerate(losses):
                if not math.isfinite(loss):
                    self._lose(member, step, f"the loss is {loss}")
                self.losses[member] = loss

    def check(self, models: Sequence[nn.Module]) -> None:
        """Look at all losses so far and at all weights; to be called before they are saved."""
        self.read()
        for member, model in enumerate(models):
            if self.step is not None and odd_weight(model, model.state_dict()) is not None:
                self._lose(member, self.step, "a weight is no longer finite")

    def _lose(self, member: int, step: Step, what: str) -> None:
        last = self.losses[member]
        before = "no loss before was finite" if math.isnan(last) else f"the last finite loss was {last:.4g}"
        self.lost.setdefault(member, f"epoch {step.epoch + 1}, step {step.number + 1}: {what}, {before}")


def right_answers(outputs: Tensor, targets: Tensor, *, members: bool = False) -> Bool[Tensor, "*members n"] | None:
    """Which samples have their largest output at their label; None where targets are no class labels (n,).

    members: outputs and targets are those of an ensemble, with its members in front.
    """
    labels = targets.ndim == 1 + members and not targets.is_floating_point() and outputs.ndim == 2 + members
    return outputs.argmax(-1) == targets if labels else None


def _forward(training: Training, x: Tensor, *, usual: bool) -> Tensor | Trace:
    with nullcontext() if usual else uncompiled(training.model):
        return training.model(x, trace=True) if training.objective.traced else training.model(x)


@torch.no_grad()
def _risk(training: Training, x: Tensor, labels: Tensor, context: AbstractContextManager[Any]) -> Tensor:
    """Risk of one batch as the training step saw it, batch norm by the batch; the mean over all processes."""
    risk = risk_again(training.model, training.objective.risk, x, labels, context)
    return training.ranks.mean(len(labels), risk)[0]


@torch.no_grad()
def risk_again(
    model: nn.Module, risk: Risk, x: Tensor, labels: Tensor, context: AbstractContextManager[Any]
) -> Float[Tensor, "*members"]:
    """Risk of one batch by the model in the mode that it is in, its buffers left alone; of an ensemble one a member."""
    with buffers_restored(model), context, uncompiled(model):
        return risk_in_full(risk, as_trace(model(x)).output, labels)


@torch.no_grad()
def whole_risk(
    training: Training, batches: Batches | MemberBatches, context: AbstractContextManager[Any]
) -> Float[Tensor, "*members"]:
    """Mean risk on all training samples, not augmented, by the present weights; leaves modes and buffers as they were.

    Norms take the statistics of the batch, as in a training step: running ones belong to earlier weights, and may give
    ten times the risk. Otherwise the model is in eval mode. With norms the batches are those of the first epoch, where
    a last single sample is left out, else the samples in stored order. Several processes share them. Of an ensemble one
    a member, on the samples of each.
    """
    ranks, members = training.ranks, training.members is not None
    whole = batches.plain(shuffle=len(with_running_statistics(training.model)) > 0)
    whole = whole.shard(ranks.rank, ranks.count) if isinstance(whole, Batches) else whole
    risks, count = [], 0  # summed on the device, which a number of the host would have to be sent to
    with batch_statistics(training.model), uncompiled(training.model):
        for x, labels in whole.epoch(0):
            with context:
                risk = risk_in_full(training.objective.risk, as_trace(training.model(x)).output, labels)
            seen = labels.shape[1] if members else len(labels)
            risks.append(risk.double() * seen)
            count += seen
    return ranks.mean(count, torch.stack(risks).sum(0) / count)[0]
