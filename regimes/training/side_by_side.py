"""Several seeds of one training, side by side as one ensemble: each in its folder, as if it had been trained alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from regimes.data.member_batches import MemberBatches
from regimes.errors import Diverged, Interrupted, UserError, one_line
from regimes.lab.endings import full_card_told
from regimes.lab.fields import read_object
from regimes.lab.journal import all_or_none
from regimes.lab.progress import Progress
from regimes.machine import Stop, autocast, rng_state, set_rng_state, stoppable
from regimes.models.timed import timed_segments
from regimes.processes import SingleProcess
from regimes.threads import threads_for
from regimes.training.assemble import assemble, prepared_for
from regimes.training.checkpoint import BEFORE, BEST, LAST, RESULT, network_of
from regimes.training.config import TrainConfig
from regimes.training.ensemble import Ensemble, EnsembleTraining, ensemble_of
from regimes.training.loop import Guard, Step, descend
from regimes.training.metrics import Sums, events
from regimes.training.objectives import LeastAction
from regimes.training.recipes import CLASSES, SHAPES
from regimes.training.results import conclude_diverged, description
from regimes.training.run import JOURNAL, Say, TrainingRun, carry_out, open_run


def refuse_unfit(config: TrainConfig, ranks: SingleProcess) -> None:
    """UserError for settings and networks that cannot be trained side by side, before any data are read."""
    alone = "leave out --ensemble, to train the seeds one after the other"
    if ranks.count > 1:
        raise UserError(f"{ranks.count} processes cannot train seeds side by side: start one, or {alone}")
    if config.seeds < 2:
        raise UserError("--ensemble trains several seeds side by side: pass --seeds 2 or more, or leave it out")
    if config.cuda_graphs:
        raise UserError(f"cuda_graphs has not been tried with seeds side by side: set compile in its place, or {alone}")
    if config.module_wise:
        raise UserError(f"seeds side by side are trained end to end, and --module-wise is not: {alone}")
    if config.reversible:
        raise UserError(f"seeds side by side keep their states, which --reversible is not to keep: {alone}")
    if config.compile and config.mean_field:
        raise UserError(
            "seeds side by side are not compiled with mean_field: which of them pass together changes with the order "
            f"of their blocks. Leave out compile, or {alone}"
        )
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        nets = [network_of(config, SHAPES[config.dataset], CLASSES[config.dataset]) for _ in range(2)]
        for segment in (one for net in nets for one in timed_segments(net)):
            segment.sorting = "never"  # there are no times to look at
        try:
            Ensemble(nets)(torch.empty(2, 2, *SHAPES[config.dataset]), trace=True)
        except Exception as error:  # whatever torch cannot do for several networks at once
            reason = one_line(error, 100)
            raise UserError(f"networks {config.arch} cannot be joined into one ensemble ({reason}): {alone}") from None


def train_side_by_side(config: TrainConfig, path: Path, *, across_commits: bool, say: Say) -> list[dict[str, Any]]:
    """Train the seeds in folders seed0, seed1...; their results. Each is the run of its seed to rounding.

    Seeds that stand at one step go on together; a finished one, or one that has diverged before, is left as it is.
    """
    cure = f"it holds {config.seeds} seeds side by side: take fewer --seeds at once, or leave out --ensemble"
    with full_card_told(config.device, cure), ExitStack() as folders:
        runs, random = [], {}
        for seed in range(config.seed, config.seed + config.seeds):
            one = config.model_copy(update={"seed": seed, "seeds": 1})
            with prepared_for(one):
                setup, where = assemble(one), path / f"seed{seed}"
                opened = open_run(
                    where, "train", one, fresh=False, across_commits=across_commits, data=setup.origin.data
                )
                runs.append(TrainingRun(one, setup, where, folders.enter_context(opened)))
                random[seed] = rng_state()
        results: dict[int, dict[str, Any]] = {}
        for group in _groups(runs):
            with prepared_for(group[0].config):
                set_rng_state(random[group[0].config.seed])
                begun = len(group) > 1 and group[0].done < group[0].total
                lost = SideBySide(config, group, path, say).train() if begun else {}
                for run in group:
                    found = lost.get(run.config.seed)
                    results[run.config.seed] = _carried_out(run, say) if found is None else found
        for run in runs:
            kept = _diverged(run)
            if run.config.seed not in results and kept is not None:
                results[run.config.seed] = kept
        return [results[run.config.seed] for run in runs]


def _groups(runs: Sequence[TrainingRun]) -> list[list[TrainingRun]]:
    """The runs by the step at which they stand; a diverged one goes along with others that stand where it was saved."""
    at: dict[int, list[TrainingRun]] = {}
    for run in runs:
        at.setdefault(run.done, []).append(run)
    return [group for group in at.values() if any(_diverged(run) is None for run in group)]


def _diverged(run: TrainingRun) -> dict[str, Any] | None:
    """The result of a run that has come to no end, if it has one."""
    result = None if run.done == run.total else read_object(run.path / RESULT)
    return result if result is not None and result.get("outcome") == "diverged" else None


def _carried_out(run: TrainingRun, say: Say) -> dict[str, Any]:
    """The result of a run whose training is done, or that is trained alone."""
    say(f"Seed {run.config.seed}:")
    try:
        with threads_for(run.setup.work):
            return carry_out(run, say).result
    except Diverged as error:  # the other seeds are trained all the same
        say(str(error))
        return error.outcome.result


class SideBySide:
    """Runs at one step, moved together by `descend`: `train` brings those that stay finite to the end.

    Where members are lost the others go on as a smaller ensemble; the last one of all is left to train alone.
    """

    def __init__(self, config: TrainConfig, runs: Sequence[TrainingRun], path: Path, say: Say) -> None:
        self.config, self.runs, self.path, self.say = config, list(runs), path, say
        first = self.runs[0]
        self.total, self.work = first.total, first.setup.work
        self.lost: dict[int, dict[str, Any]] = {}
        augment = first.batches.augment
        for run in self.runs:  # one and the same, so that all are augmented at once
            run.batches.augment = augment

    @property
    def done(self) -> int:
        """Optimiser steps so far."""
        return self.runs[0].done

    def train(self) -> dict[int, dict[str, Any]]:
        """Train to the end; the results of the seeds that have diverged."""
        first = self.runs[0]
        for run in self.runs:
            run.open_folder.begin()
            (run.path / RESULT).unlink(missing_ok=True)
            run.write_metrics()
        seeds = ", ".join(str(run.config.seed) for run in self.runs)
        self.say(f"Seeds {seeds} side by side: {description(first.setup, first.config, self.done, self.total)}")
        try:
            with stoppable() as stop, Progress(self.path.name, self.total, self.done) as bar:
                while len(self.runs) > 1 and self.done < self.total:
                    with threads_for(len(self.runs) * self.work):
                        self._advance(stop, bar)
            if stop.asked:  # at the last step: what comes next is not begun
                done = self.done if self.runs else self.total
                raise Interrupted(f"interrupted after {done} of {self.total} steps; {self._way_on()}")
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {self._way_on()}") from None
        return self.lost

    def _advance(self, stop: Stop, bar: Progress) -> None:
        """Train these members until the end, or until one of them is lost."""
        config, runs = self.config, self.runs
        training = ensemble_of(config, [run.training for run in runs])
        batches, context = MemberBatches([run.batches for run in runs]), autocast(config.device, config.bf16)
        guard, sums = Guard(config.device, len(runs)), MemberSums(runs)
        with ExitStack() as opened:
            logs = [opened.enter_context(_events(run)) for run in runs]
            before = time.monotonic()
            for step in descend(training, batches, epochs=config.epochs, autocast=context):
                done = training.epoch * len(batches) + training.step
                ended = training.step == 0 and training.epoch % config.evaluate_every == 0
                whole = ended or done == self.total
                sums.add(step)
                guard.see(step)
                if whole:
                    guard.read()
                sums.seconds += (time.monotonic() - before) / len(runs)
                asked, due = stop.asked, time.monotonic() - runs[0].state.saved >= config.checkpoint_seconds
                if whole or asked or due:
                    guard.check([run.training.model for run in runs])
                lost = guard.lost
                if lost or whole or asked or due:
                    training.settle([run.training for run in runs])
                    sums.settle()
                    self.runs = [run for member, run in enumerate(runs) if member not in lost]
                    for member, reason in lost.items():
                        self._conclude(runs[member], reason)
                    self._keep(whole=whole, due=asked or due)
                    for member, log in enumerate(logs if whole else []):
                        if member not in lost:
                            log(runs[member].state.rows[-1])
                    sums.begin()
                if lost or done == self.total:
                    training.release([run.training for run in runs])
                    if done == self.total or not self.runs:
                        return
                if asked:
                    raise Interrupted(f"interrupted after {done} of {self.total} steps; {self._way_on()}")
                if lost:
                    return
                bar.update(done, lambda: self._figures(training, sums))
                before = time.monotonic()

    def _keep(self, *, whole: bool, due: bool) -> None:
        """Save all members, at one step; after a whole epoch with their rows."""
        files = [run.path / name for run in self.runs for name in (LAST, BEST, BEFORE)]
        with all_or_none(self.path / JOURNAL, files) if whole or due else nullcontext():
            for run in self.runs:
                if whole:
                    run.close_epoch()
                elif due:
                    run.state.save(LAST)

    def _conclude(self, run: TrainingRun, reason: str) -> None:
        """Write the result of a member that has diverged."""
        self.say(f"seed {run.config.seed}: diverged at {reason}; {run.advice()}")
        found = conclude_diverged(run.open_folder, run.config, run.setup, run.state.rows, reason)
        self.lost[run.config.seed] = found

    def _way_on(self) -> str:
        return f"run the same command again to go on from {self.path}"

    def _figures(self, training: EnsembleTraining, sums: "MemberSums") -> str:
        """What the line of progress says: means over the members, and the range of their λ."""
        parts = [f"epoch {training.epoch + 1}", sums.sums.of(None, 0.0).words()]
        objective = training.objective.objective
        if isinstance(objective, LeastAction):
            low, high = objective.multiplier.aminmax()
            parts += [f"λ {float(low):.4g} to {float(high):.4g}"]
        return ", ".join(part for part in parts if part)


class MemberSums:
    """The sums of all members since their last rows, added up at once."""

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.runs = runs
        self.begin()

    def begin(self) -> None:
        """Go on from those of the members."""
        self.sums = Sums.joined([run.state.sums for run in self.runs])
        self.before = [run.state.sums.seconds for run in self.runs]
        self.seconds = 0.0

    def add(self, step: Step) -> None:
        """Count one step of all; no host synchronisation."""
        for run in self.runs:
            if run.state.first_risk is None:
                run.state.first_risk = step.risk[self.runs.index(run)]
        self.sums.add(step)

    def settle(self) -> None:
        """Give the members theirs."""
        for member, run in enumerate(self.runs):
            run.state.sums = self.sums.of(member, self.before[member] + self.seconds)


def _events(run: TrainingRun) -> AbstractContextManager[Callable[[Mapping[str, Any]], None]]:
    done = run.state.rows[-1]["epoch"] if run.state.rows else 0
    return events(run.path / "events" if run.config.tensorboard else None, done)
