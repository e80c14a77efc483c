"""One training run in its folder, from the first step to the results; it goes on where it was stopped."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from regimes.data.batches import Batches
from regimes.errors import Diverged, Interrupted, RunFailed
from regimes.lab.checkpoint_run import LENGTH
from regimes.lab.endings import full_card_told
from regimes.lab.fields import read_object
from regimes.lab.journal import pending, put_back
from regimes.lab.locks import release, take_lock
from regimes.lab.progress import Progress
from regimes.lab.provenance import run_identity
from regimes.lab.runs import CONFIG, RunFolder
from regimes.lab.stamps import job_stamp
from regimes.lab.wild_risks import longer
from regimes.lab.yaml_text import read_yaml
from regimes.machine import autocast, stoppable
from regimes.processes import SINGLE, SingleProcess, lost
from regimes.threads import threads_for
from regimes.training.advice import advice
from regimes.training.assemble import Setup, assemble, check, prepared_for
from regimes.training.checkpoint import FIT, LAST, RESULT, RunState
from regimes.training.config import StepSettings, TrainConfig
from regimes.training.loop import Guard, descend, whole_risk
from regimes.training.metrics import METRICS, Evaluation, Sums, epoch_row, evaluate, events, multiplier, to_csv
from regimes.training.objectives import CONVENTIONS
from regimes.training.results import conclude, conclude_diverged, description, measure_ends, summary_rows, why_diverged

Say = Callable[[str], None]
JOURNAL = ".together"  # in the folder of several seeds: what their files were, while all of them are saved


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
    across_commits: bool = False,
    say: Say = lambda text: None,
    ranks: SingleProcess = SINGLE,
) -> Outcome:
    """Train one seed, or go on with it; then measure training and test samples and draw. See `training.train`.

    Interrupted (Ctrl-C, SIGTERM) after the state was saved; Diverged, with the outcome, where the loss is not finite or
    the measured risk beyond all bounds. Of several processes the first alone writes; all return the same outcome.
    """
    check(config)
    if resume and not ranks.from_first((path / LAST).exists):
        raise FileNotFoundError(
            f"{path} holds no {LAST} to go on from; leave out --resume to start, or name the run's folder with --out"
        )
    with full_card_told(config.device, _smaller(config)), prepared_for(config):
        setup = assemble(config, ranks)
        how: dict[str, Any] = {"fresh": fresh, "across_commits": across_commits, "data": setup.origin.data}
        with (
            threads_for(setup.work),
            ranks.by_first(lambda: open_run(path, "train", config, **how)) or nullcontext() as folder,
        ):
            return carry_out(TrainingRun(config, setup, path, folder), say)


def open_run(
    path: Path, name: str, config: StepSettings, *, fresh: bool, across_commits: bool, data: str | None = None
) -> RunFolder:
    """The folder of a run, or of several seeds, new or as it was left; `LENGTH` may differ from what it holds.

    name: "train" or "fit". UserError, nothing touched, where what is held is no beginning of the run asked for; else
    the result of a run of another length is gone. data: digest of the samples, for the stamp. What a killed ensemble
    has saved of some of its seeds alone is undone first, also where one of its seeds is gone on with.
    """
    how: dict[str, Any] = {"across_commits": across_commits, "stamp": job_stamp(config, data=data)}
    _settle_ensemble(path.absolute().parent)
    folder = RunFolder.open(path, name, config, fresh=fresh, free=LENGTH, **how)
    try:
        put_back(path / JOURNAL)
        if read_yaml(path / CONFIG) != folder.config:
            from regimes.training.longer import refuse_another_beginning

            for last in filter(Path.exists, (path / LAST, *sorted(path.glob(f"seed*/{LAST}")))):
                refuse_another_beginning(last, config, data if last.parent == path else None)
            folder.refuse_unlike()
            (path / RESULT).unlink(missing_ok=True)
    except BaseException:
        folder.close()
        raise
    return folder


def _settle_ensemble(folder: Path) -> None:
    """Undo what was left unfinished in a folder of several seeds, before one of them is opened by itself."""
    if pending(folder / JOURNAL):
        lock = take_lock(folder)  # refused where the ensemble is at work
        try:
            put_back(folder / JOURNAL)
        finally:
            release(folder, lock)


def _smaller(config: StepSettings) -> str:
    """What to do where a card is full."""
    batch = f"a smaller batch, for example --batch {config.batch // 2} --fresh, or " if config.batch > 3 else ""
    return f"take {batch}--set precision=bf16"


def carry_out(run: "TrainingRun", say: Say) -> Outcome:
    """Train a run to its end and write its results; those of a finished one are shown again."""
    path, config, setup, state, ranks = run.path, run.config, run.setup, run.state, run.ranks
    say(description(setup, config, run.done, run.total))
    if run.done == run.total and ranks.from_first((path / RESULT).exists):
        say(f"This run is finished; {'fresh=True' if run.of_fit else '--fresh'} trains anew.")
        result = ranks.from_first(lambda: read_object(path / RESULT)) or {}
        return _outcome(result, run)
    try:
        if run.folder is not None:
            run.folder.begin()
        run.train()
        say("Measuring training and test samples.")
        weights = state.best_weights()
        if setup.test is not None:
            state.tests += 1 if weights is None else 2
            state.save(LAST)  # before they are measured, so that a count is never too small
        chosen, last = measure_ends(setup, weights, run.measure)
        context = autocast(config.device, config.bf16)
        by_batch = lambda: whole_risk(setup.training, setup.fitted, context)  # noqa: E731
        reason = why_diverged(setup, last, state.best, state.start, by_batch)
        best = state.best.get("epoch", state.rows[-1]["epoch"])
        result = ranks.from_first(
            lambda: conclude(run.open_folder, config, setup, best, state.rows, chosen, last, state.tests, reason)
        )
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {run.way_on()}") from None
    except Diverged as error:
        told = error.reason
        result = ranks.from_first(lambda: conclude_diverged(run.open_folder, config, setup, state.rows, told))
        error.outcome = Outcome(result, summary_rows(result))
        raise
    except RuntimeError as error:
        if ranks.count == 1 or not lost(error):
            raise
        raise RunFailed(f"another process of this run has ended; {run.way_on()}") from error
    if "figure" in result:
        say(f"Figure {result['figure']}.")
    return _outcome(result, run)


def _outcome(result: dict[str, Any], run: "TrainingRun") -> Outcome:
    """What is returned; Diverged for a run whose measured risk is beyond all bounds."""
    outcome = Outcome(result, summary_rows(result))
    if result.get("outcome") == "diverged":
        error = Diverged(f"diverged: {result['reason']}; {longer(result['reason'])}{run.advice()}", result["reason"])
        error.outcome = outcome
        raise error
    return outcome


class TrainingRun:
    """A run between two steps: its state, and where its numbers are measured; `train` moves it to the end."""

    def __init__(self, config: StepSettings, setup: Setup, path: Path, folder: RunFolder | None) -> None:
        self.config, self.setup, self.path, self.folder = config, setup, path, folder
        self.training, self.batches, self.ranks = setup.training, setup.batches, setup.training.ranks
        self.total = min(config.max_steps or 2**126, config.epochs * len(self.batches))
        run = self.ranks.from_first(lambda: run_identity(self.open_folder.name, self.open_folder.launches))
        self.state = RunState(path, config, self.training, setup.origin, run, (len(self.batches), self.total))
        if self.done < self.total:
            self.state.reopen_epoch()

    @property
    def done(self) -> int:
        """Optimiser steps so far."""
        return self.training.epoch * len(self.batches) + self.training.step

    @property
    def open_folder(self) -> RunFolder:
        """The folder, which the first process holds."""
        assert self.folder is not None
        return self.folder

    @property
    def of_fit(self) -> bool:
        """Whether the model is the caller's, trained by `regimes.fit`."""
        return self.setup.origin.program == FIT

    def train(self) -> None:
        """Train to the end; raises Interrupted where asked to stop, Diverged where numbers are not finite."""
        self.write_metrics()
        if self.done == self.total:
            if self.done > (self.state.rows[-1]["steps"] if self.state.rows else 0):  # it was stopped as a longer one
                self.close_epoch()
            return
        state, first = self.state, self.ranks.first
        guard = Guard(self.config.device)
        context = autocast(self.config.device, self.config.bf16)
        steps = descend(self.training, self.batches, epochs=self.config.epochs, autocast=context)
        events_folder = self.path / "events" if self.config.tensorboard and first else None
        with (
            stoppable() as stop,
            Progress(self.path.name, self.total, self.done, shown=first) as bar,
            events(events_folder, state.rows[-1]["epoch"] if state.rows else 0) as log,
        ):
            before = time.monotonic()
            self.ranks.say(False, False)
            for step in steps:
                state.first_risk = step.risk if state.first_risk is None else state.first_risk
                guard.see(step)
                self._refuse(guard)
                state.sums.add(step)
                ended = self.training.step == 0 and self.training.epoch % self.config.evaluate_every == 0
                whole = ended or self.done == self.total
                if whole:
                    guard.read()
                    self._refuse(guard)
                state.sums.seconds += time.monotonic() - before
                asked = due = False
                late = first and time.monotonic() - state.saved >= self.config.checkpoint_seconds
                self.ranks.say(stop.asked, late)  # of several processes heard with the next step
                if self.ranks.count == 1 or whole or self.done % guard.every == 0:
                    asked, due = self.ranks.heard()
                if whole or asked or due:
                    guard.check([self.training.model])
                    self._refuse(guard)
                if whole:
                    self.close_epoch()
                    log(state.rows[-1])
                elif asked or due:
                    state.save(LAST)
                if whole or asked or due:
                    self.ranks.say(stop.asked, False)  # what was due is done
                over = self.done == self.total  # one of the processes may be asked while the last epoch is measured
                if asked or (over and self.ranks.total(torch.tensor(stop.asked)).any()):
                    raise Interrupted(f"interrupted after {self.done} of {self.total} steps; {self.way_on()}")
                if over:
                    return
                bar.update(self.done, self._progress)
                before = time.monotonic()

    def _refuse(self, guard: Guard) -> None:
        """Diverged where the training is lost."""
        for reason in guard.lost.values():
            raise Diverged(f"diverged at {reason}; {self.advice()}", reason)

    def measure(self, batches: Batches) -> Evaluation:
        """Risk, accuracy and energies of the present weights."""
        config, training = self.config, self.training
        how: Any = {"p": config.p, "convention": CONVENTIONS[config.convention], "ranks": self.ranks}
        context = autocast(config.device, config.bf16)
        return evaluate(training.model, batches, training.objective.risk, autocast=context, **how)

    def way_on(self) -> str:
        """How the run is taken up again."""
        again = "call regimes.fit again with the same arguments" if self.of_fit else "run the same command again"
        return f"{again} to go on from {self.path / LAST}"

    def advice(self) -> str:
        """What to do after a divergence."""
        return advice(self.config, self.setup, kept=(self.path / LAST).exists())

    def close_epoch(self) -> None:
        """Measure the epoch that has ended, keep its row and its weights."""
        epoch = self.training.epoch + (self.training.step > 0)
        state, found = self.state, self.measure(self.setup.measured)
        validated = self.setup.data.validation is not None
        state.rows.append(epoch_row(self.training, epoch, self.done, state.sums, found, validated=validated))
        right = found.accuracy if self.setup.data.classes else 0.0
        score = (right, -found.risk) if validated else (-state.rows[-1]["running_risk"],)
        if not state.early:  # else a longer run takes the row back, and goes on with its sums
            state.sums = Sums(self.training.lr)
        state.save_epoch(score)
        self.write_metrics()

    def write_metrics(self) -> None:
        """Write metrics.csv."""
        self.ranks.by_first(lambda: self.open_folder.write(METRICS, to_csv(self.state.rows)))

    def _progress(self) -> str:
        scale = multiplier(self.training)
        parts = [f"epoch {self.training.epoch + 1}", self.state.sums.words(), "" if scale is None else f"λ {scale:.4g}"]
        return ", ".join(part for part in parts if part)
