"""The state of a run between two steps, in memory and on the disk."""

import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.errors import Interrupted, UserError
from regimes.lab.config import dump
from regimes.lab.runs import RunFolder
from regimes.models.residual import parameter_count
from regimes.training import identity
from regimes.training.checkpoint import (
    FIT,
    Checkpoint,
    load_checkpoint,
    put_weights,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from regimes.training.config import StepSettings
from regimes.training.evaluate import Evaluation, evaluate
from regimes.training.length import LAST
from regimes.training.loop import Step, Training, descend
from regimes.training.metrics import Sums, events, multiplier, row, to_csv
from regimes.training.objectives import CONVENTIONS
from regimes.training.progress import Progress
from regimes.training.runtime import Guard, autocast, stoppable

BEST, METRICS = "best.pt", "metrics.csv"


class Parts(Protocol):
    """Samples by their use; validation and test may be absent."""

    @property
    def train(self) -> Labelled: ...
    @property
    def validation(self) -> Labelled | None: ...
    @property
    def test(self) -> Labelled | None: ...
    @property
    def classes(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class Setup(NamedTuple):
    """What one run works with: the training, its batches, and those that measure it.

    measured: after each epoch, the validation samples or, where there are none, some training samples. fitted: training
    samples, and test: test samples, at the end. data: their parts, and digest, what `data.digest` says of them.
    """

    training: Training
    batches: Batches
    measured: Batches
    fitted: Batches
    test: Batches | None
    data: Parts
    digest: str
    program: str  # of its checkpoints
    title: str  # a net on some data
    head: dict[str, Any]  # what result.json begins with
    usual_lr: float  # a learning rate from which to go on after a larger one diverged
    all_tests: int = 0  # test samples that there are


class Course:
    """The state of a run between two steps; `run` moves it to the end."""

    def __init__(self, config: StepSettings, setup: Setup, path: Path, folder: RunFolder | None) -> None:
        self.config, self.setup, self.path, self.folder = config, setup, path, folder
        self.training, self.batches, self.ranks = setup.training, setup.batches, setup.training.ranks
        self.total = min(config.max_steps or 10**18, config.epochs * len(self.batches))
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.sums = Sums(self._lr())
        self._first: Tensor | None = None  # risk of the first step, at the initial weights
        self.identity = self.ranks.from_first(lambda: identity.of_folder(open_folder(folder)))
        held = self.ranks.from_first(lambda: self._load(LAST) if (path / LAST).exists() else None)
        if held is not None:
            self._restore(held)
        self.saved = time.monotonic()

    @property
    def done(self) -> int:
        """Optimiser steps so far."""
        return self.training.epoch * len(self.batches) + self.training.step

    def run(self) -> None:
        """Train to the end; raises Interrupted where asked to stop, Diverged where figures are not finite."""
        self._write_metrics()
        if self.done == self.total:
            return
        guard = Guard(self.config.device, self.advice)
        context = autocast(self.config.device, self.config.bf16)
        steps = descend(self.training, self.batches, epochs=self.config.epochs, autocast=context)
        first = self.ranks.first
        events_folder = self.path / "events" if self.config.tensorboard and first else None
        with (
            stoppable() as stop,
            Progress(self.path.name, self.total, self.done, shown=first) as bar,
            events(events_folder, len(self.rows)) as log,
        ):
            before = time.monotonic()
            for step in steps:
                self._first = step.risk if self._first is None else self._first
                guard.see(step)
                self.sums.add(step)
                whole = self.training.step == 0 or self.done == self.total
                if whole:
                    guard.read()
                self.sums.seconds += time.monotonic() - before
                asked = due = False
                if whole or self.ranks.count == 1 or self.done % guard.every == 0:
                    late = first and time.monotonic() - self.saved >= self.config.checkpoint_seconds
                    asked, due = self.ranks.any(stop.asked, late)
                if whole:
                    self._close_epoch(step, guard)
                    log(self.rows[-1])
                elif asked or due:
                    guard.check(self.training.model)
                    self._save(LAST)
                if self.done == self.total:
                    return
                if asked:
                    raise Interrupted(f"interrupted after {self.done} of {self.total} steps; {self.way_on()}")
                bar.update(self.done, self._figures)
                before = time.monotonic()

    def measure(self, batches: Batches) -> Evaluation:
        """Risk, accuracy and energies of the present weights."""
        return evaluate(
            self.training.model,
            batches,
            self.training.objective.risk,
            p=self.config.p,
            convention=CONVENTIONS[self.config.convention],
            autocast=autocast(self.config.device, self.config.bf16),
            ranks=self.ranks,
        )

    def best_weights(self) -> dict[str, Tensor] | None:
        """Weights of the best epoch; None where it is the last one."""
        if self.best["epoch"] == self.rows[-1]["epoch"]:
            return None
        return self.ranks.from_first(lambda: self._load(BEST).state["model"])

    @property
    def start(self) -> float:
        """Risk of the first step, at the initial weights; waits for the device."""
        return 0.0 if self._first is None else float(self._first)

    def description(self) -> str:
        """What is trained on what, and by which protocol the best epoch is chosen."""
        data, config = self.setup.data, self.config
        held, tests = (0 if part is None else len(part.labels) for part in (data.validation, data.test))
        chosen = (
            f"{'accuracy' if data.classes else 'risk'} on {held:,} validation samples"
            if held
            else "training risk, as no sample is left to validate"
        )
        whole = config.epochs * len(self.batches)
        falling = config.schedule == "cosine" and self.total < whole
        fewer = f" (of {self.setup.all_tests:,})" if tests < self.setup.all_tests else ""
        return (
            f"{self.setup.title} ({parameter_count(self.training.model):,} parameters): "
            f"{len(data.train.labels):,} training, {held:,} validation, {tests:,} test samples{fewer}; "
            f"{self.total:,} steps of batch {config.batch}{f', {self.done:,} done' if self.done else ''}. "
            f"{f'max_steps ends it before the learning rate is 0, after {whole:,} steps. ' if falling else ''}"
            f"The best epoch is chosen by {chosen}"
            f"{'; the test samples are measured once, at the end' if tests else ''}."
        )

    def way_on(self) -> str:
        """How the run is taken up again."""
        what = "call regimes.fit again with the same arguments" if self.own else "run the same command again"
        return f"{what} to go on from {self.path / LAST}"

    def advice(self) -> str:
        """What to do after a divergence."""
        smaller = min(self.config.lr / 10, self.setup.usual_lr)
        asked = f"lr={smaller:g}, fresh=True" if self.own else f"--set lr={smaller:g} --fresh"
        grown = " (λ multiplies the risk, so that steps grow with it: form=divided is calmer)"
        kept = f"; {LAST} keeps finite weights" if (self.path / LAST).exists() else ""
        calmer = grown if self.config.lap and self.config.form != "divided" else ""
        if self.config.lap and self.config.form == "divided" and self.config.multiplier < 1:
            calmer = " or a larger multiplier (the penalty counts 1/λ, so that steps grow as λ falls)"
        return f"take a smaller learning rate, for example {asked}{calmer}{kept}"

    @property
    def own(self) -> bool:
        """Whether the model is the caller's own, and not one of the table of names."""
        return self.setup.program == FIT

    def _close_epoch(self, step: Step, guard: Guard) -> None:
        guard.check(self.training.model)
        found = self.measure(self.setup.measured)
        validated = self.setup.data.validation is not None
        self.rows.append(row(self.training, step.epoch + 1, self.done, self.sums, found, validated=validated))
        right = found.accuracy if self.setup.data.classes else 0.0
        score = (right, -found.risk) if validated else (-self.rows[-1]["running_risk"],)
        self.sums = Sums(self._lr())
        if not self.best or score > tuple(self.best["score"]):
            self.best = {"epoch": step.epoch + 1, "score": list(score)}
            self._save(BEST)
        self._save(LAST)
        self._write_metrics()

    def _save(self, file: str) -> None:
        data = self.setup.data
        checkpoint = Checkpoint(
            config=dump(self.config),
            state=self.training.state_dict(),
            rng=rng_state(),
            shape=data.shape,
            classes=data.classes,
            sums=self.sums.state_dict(),
            rows=self.rows,
            best=self.best,
            run=self.identity,
            data=self.setup.digest,
            start=self.start,
            program=self.setup.program,
        )
        self.ranks.by_first(lambda: save_checkpoint(self.path / file, checkpoint))
        self.saved = time.monotonic()

    def _load(self, file: str) -> Checkpoint:
        """A checkpoint of this very run; ValueError for one of another run."""
        held = load_checkpoint(self.path / file)
        identity.refuse_foreign(self.path / file, held, self.config, self.identity, self.setup.digest)
        return held

    def _restore(self, held: Checkpoint) -> None:
        put_weights(self.training.model, held.state["model"], self.setup.title)
        try:
            self.training.load_state_dict(held.state)
            self.sums = Sums(self._lr(), held.sums)
            set_rng_state(held.rng)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.path / LAST} does not fit this run ({error}); restore it, or pass --fresh"
            ) from None
        self.rows, self.best, self._first = list(held.rows), dict(held.best), torch.tensor(held.start)
        if held.config != dump(self.config):  # the run goes on to another length
            self.ranks.by_first(self._rename_best)
            self._save(LAST)

    def _rename_best(self) -> None:
        """Have the best weights so far say that they are of the run as it is now."""
        if self.best:
            best = self._load(BEST)
            save_checkpoint(self.path / BEST, best._replace(config=dump(self.config)))

    def _write_metrics(self) -> None:
        self.ranks.by_first(lambda: open_folder(self.folder).write(METRICS, to_csv(self.rows)))

    def _lr(self) -> float:
        return float(self.training.optimizer.param_groups[0]["lr"])

    def _figures(self) -> str:
        means, share, scale = self.sums.means(), self.sums.share(), multiplier(self.training)
        parts = [f"epoch {self.training.epoch + 1}"]
        if self.sums.samples:
            parts += [f"loss {means['loss']:.4g}"]
            parts += [] if means["accuracy"] is None else [f"accuracy {means['accuracy']:.1%}"]
            parts += [] if means["transport"] is None else [f"energy {means['transport']:.3g}"]
            parts += [] if share is None else [f"penalty {share:.1%} of the loss"]
        return ", ".join([*parts, *([] if scale is None else [f"λ {scale:.4g}"])])


def open_folder(folder: RunFolder | None) -> RunFolder:
    """The folder, which the first process holds."""
    assert folder is not None
    return folder
