"""One training run in its folder: steps, epochs, checkpoints; it goes on where it was stopped."""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import torch

from regimes.errors import Interrupted, RunFailed, UserError
from regimes.lab.config import dump
from regimes.lab.runs import RunFolder
from regimes.models.residual import parameter_count
from regimes.threads import threads_for
from regimes.training.assemble import CONVENTIONS, Assembly, assemble, check
from regimes.training.checkpoint import (
    Checkpoint,
    fit,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from regimes.training.config import TrainConfig
from regimes.training.evaluate import Evaluation, evaluate
from regimes.training.length import LAST, RESULT, open_run
from regimes.training.loop import Step, descend
from regimes.training.metrics import Sums, events, multiplier, row, to_csv
from regimes.training.parallel import ALONE, Alone, lost
from regimes.training.progress import Progress
from regimes.training.results import conclude, measure_test, summary_rows
from regimes.training.runtime import Guard, autocast, prepared, stoppable

BEST, METRICS = "best.pt", "metrics.csv"
OUTRUN = (
    "The risk on the test samples is not finite, though the loss in training is: batch norm's running statistics, "
    "means over the last steps, belong to other weights. Train longer, or with a smaller learning rate."
)
Say = Callable[[str], None]


class Outcome(NamedTuple):
    """What a run ended with: its result.json and the rows of its table."""

    result: dict[str, Any]
    table: list[dict[str, Any]]


def train_one(
    config: TrainConfig,
    path: Path,
    *,
    resume: bool = False,
    fresh: bool = False,
    say: Say = lambda text: None,
    ranks: Alone = ALONE,
) -> Outcome:
    """Train one seed, or go on with it; then measure the test set and draw.

    Interrupted (Ctrl-C, SIGTERM) after the state was saved; Diverged where the loss is no longer finite. Of several
    processes the first alone opens the folder, writes and speaks; all return the same outcome.
    """
    check(config)
    if resume and not ranks.from_first((path / LAST).exists):
        raise FileNotFoundError(
            f"{path} holds no {LAST} to go on from; leave out --resume to start, or name the run's folder with --out"
        )
    with prepared(config.seed, config.device):
        assembly = assemble(config, ranks)
        with (
            threads_for(assembly.work),
            ranks.by_first(lambda: open_run(path, config, fresh=fresh)) or nullcontext() as folder,
        ):
            course = Course(config, assembly, path, folder)
            say(course.description())
            if course.done == course.total and ranks.from_first((path / RESULT).exists):
                say("This run is finished; --fresh trains anew.")
                result = ranks.from_first(lambda: json.loads((path / RESULT).read_text(encoding="utf-8")))
                return Outcome(result, summary_rows(result))
            try:
                if folder is not None:
                    folder.begin()
                course.run()
                say("Measuring the test set.")
                figures = measure_test(assembly, course.best_weights(), course.measure)
                if not all(isfinite(found.risk) for found in figures):
                    say(OUTRUN)
                best = course.best["epoch"]
                result = ranks.from_first(
                    lambda: conclude(_open(folder), config, assembly, best, course.rows, *figures)
                )
            except KeyboardInterrupt:
                raise Interrupted(f"interrupted; {course.way_on()}") from None
            except torch.cuda.OutOfMemoryError:
                smaller = (
                    f"take a smaller batch, for example --batch {max(2, config.batch // 2)} --fresh, or --set bf16=true"
                )
                raise RunFailed(f"the memory of the graphics card is full; {smaller}") from None
            except RuntimeError as error:
                if ranks.count == 1 or not lost(error):
                    raise
                raise RunFailed(f"another process of this run has ended; {course.way_on()}") from error
            if "figure" in result:
                say(f"Figure {result['figure']}.")
            return Outcome(result, summary_rows(result))


class Course:
    """The state of a run between two steps, in memory and on the disk."""

    def __init__(self, config: TrainConfig, assembly: Assembly, path: Path, folder: RunFolder | None) -> None:
        self.config, self.assembly, self.path, self.folder = config, assembly, path, folder
        self.training, self.batches, self.ranks = assembly.training, assembly.batches, assembly.training.ranks
        self.total = min(config.max_steps or 10**18, config.epochs * len(self.batches))
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.sums = Sums(self._lr())
        held = self.ranks.from_first(lambda: load_checkpoint(path / LAST) if (path / LAST).exists() else None)
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
        guard = Guard(self.config.device, self._advice)
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

    def measure(self, batches: Any) -> Evaluation:
        """Risk, accuracy and energies of the present weights."""
        return evaluate(
            self.training.model,
            batches,
            p=self.config.p,
            convention=CONVENTIONS[self.config.convention],
            autocast=autocast(self.config.device, self.config.bf16),
            ranks=self.ranks,
        )

    def best_weights(self) -> dict[str, Any] | None:
        """Weights of the best epoch; None where it is the last one."""
        if self.best["epoch"] == self.rows[-1]["epoch"]:
            return None
        return self.ranks.from_first(lambda: load_checkpoint(self.path / BEST).state["model"])

    def description(self) -> str:
        """What is trained on what, and by which protocol the best epoch is chosen."""
        data, config = self.assembly.data, self.config
        held = 0 if data.validation is None else len(data.validation.labels)
        chosen = (
            f"accuracy on {held:,} validation samples" if held else "training risk, as no sample is left to validate"
        )
        whole = config.epochs * len(self.batches)
        falling = config.schedule == "cosine" and self.total < whole
        return (
            f"{config.arch} ({parameter_count(self.training.model):,} parameters) on {config.dataset}: "
            f"{len(data.train.labels):,} training, {held:,} validation, {len(data.test.labels):,} test samples; "
            f"{self.total:,} steps of batch {config.batch}{f', {self.done:,} done' if self.done else ''}. "
            f"{f'max_steps ends it before the learning rate is 0, after {whole:,} steps. ' if falling else ''}"
            f"The best epoch is chosen by {chosen}; the test samples are measured once, at the end."
        )

    def way_on(self) -> str:
        """How the run is taken up again."""
        return f"run the same command again to go on from {self.path / LAST}"

    def _close_epoch(self, step: Step, guard: Guard) -> None:
        guard.check(self.training.model)
        found = self.measure(self.assembly.measured)
        validated = self.assembly.data.validation is not None
        self.rows.append(row(self.training, step.epoch + 1, self.done, self.sums, found, validated=validated))
        score = (found.accuracy, -found.risk) if validated else (-self.rows[-1]["risk"],)
        self.sums = Sums(self._lr())
        if not self.best or score > tuple(self.best["score"]):
            self.best = {"epoch": step.epoch + 1, "score": list(score)}
            self._save(BEST)
        self._save(LAST)
        self._write_metrics()

    def _save(self, file: str) -> None:
        data = self.assembly.data
        checkpoint = Checkpoint(
            config=dump(self.config),
            state=self.training.state_dict(),
            rng=rng_state(),
            shape=data.shape,
            classes=data.classes,
            sums=self.sums.state_dict(),
            rows=self.rows,
            best=self.best,
        )
        self.ranks.by_first(lambda: save_checkpoint(self.path / file, checkpoint))
        self.saved = time.monotonic()

    def _restore(self, held: Checkpoint) -> None:
        fit(self.training.model, held.state["model"], self.config.arch)
        try:
            self.training.load_state_dict(held.state)
            self.sums = Sums(self._lr(), held.sums)
            set_rng_state(held.rng)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.path / LAST} does not fit this run ({error}); restore it, or pass --fresh"
            ) from None
        self.rows, self.best = list(held.rows), dict(held.best)
        if held.config != dump(self.config):  # the run goes on to another length
            self.ranks.by_first(self._rename_best)
            self._save(LAST)

    def _rename_best(self) -> None:
        """Have the best weights so far say that they are of the run as it is now."""
        if self.best:
            best = load_checkpoint(self.path / BEST)
            save_checkpoint(self.path / BEST, best._replace(config=dump(self.config)))

    def _write_metrics(self) -> None:
        self.ranks.by_first(lambda: _open(self.folder).write(METRICS, to_csv(self.rows)))

    def _lr(self) -> float:
        return float(self.training.optimizer.param_groups[0]["lr"])

    def _figures(self) -> str:
        means, scale = self.sums.means(), multiplier(self.training)
        parts = [f"epoch {self.training.epoch + 1}"]
        if self.sums.samples:
            parts += [f"loss {means['loss']:.4g}", f"accuracy {means['accuracy']:.1%}"]
            parts += [] if scale is None else [f"energy {means['transport']:.3g}"]
        return ", ".join([*parts, *([] if scale is None else [f"λ {scale:.4g}"])])

    def _advice(self) -> str:
        smaller = f"--set lr={self.config.lr / 10:g} --fresh"
        grown = " (λ multiplies the risk, so that steps grow with it: form=divided is calmer)"
        kept = f"; {LAST} keeps finite weights" if (self.path / LAST).exists() else ""
        calmer = grown if self.config.lap and self.config.form != "divided" else ""
        return f"take a smaller learning rate, for example {smaller}{calmer}{kept}"


def _open(folder: RunFolder | None) -> RunFolder:
    """The folder of the first process."""
    assert folder is not None
    return folder
