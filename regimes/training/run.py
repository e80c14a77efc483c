"""One training run in its folder, from the first step to the results; it goes on where it was stopped."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from regimes.errors import Interrupted, RunFailed
from regimes.threads import threads_for
from regimes.training.assemble import assemble, check
from regimes.training.config import TrainConfig
from regimes.training.course import Course, open_folder
from regimes.training.divergence import STALE, Diverged, wild
from regimes.training.length import LAST, RESULT, open_run
from regimes.training.parallel import ALONE, Alone, lost
from regimes.training.results import conclude, conclude_diverged, measure_ends, summary_rows
from regimes.training.runtime import prepared

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
    """Train one seed, or go on with it; then measure training and test samples and draw.

    Interrupted (Ctrl-C, SIGTERM) after the state was saved; Diverged, with the outcome, where the loss is no longer
    finite or the measured risk is beyond all bounds. Of several processes the first alone opens the folder, writes and
    speaks; all return the same outcome.
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
            ranks.by_first(lambda: open_run(path, "train", config, fresh=fresh)) or nullcontext() as folder,
        ):
            return carry_out(Course(config, assembly.setup, path, folder), say)


def carry_out(course: Course, say: Say) -> Outcome:
    """Train a run to its end and write its results; those of a finished one are shown again."""
    path, config, setup, ranks = course.path, course.config, course.setup, course.ranks
    say(course.description())
    if course.done == course.total and ranks.from_first((path / RESULT).exists):
        say(f"This run is finished; {'fresh=True' if course.own else '--fresh'} trains anew.")
        result = ranks.from_first(lambda: json.loads((path / RESULT).read_text(encoding="utf-8")))
        return _outcome(result, course)
    try:
        if course.folder is not None:
            course.folder.begin()
        course.run()
        say("Measuring training and test samples.")
        chosen, last = measure_ends(setup, course.best_weights(), course.measure)
        reason = wild((last.test or last.train).risk, setup.data.classes or None, course.start)
        best = course.best["epoch"]
        result = ranks.from_first(
            lambda: conclude(open_folder(course.folder), config, setup, best, course.rows, chosen, last, reason)
        )
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {course.way_on()}") from None
    except Diverged as error:
        told = error.reason
        result = ranks.from_first(lambda: conclude_diverged(open_folder(course.folder), setup, course.rows, told))
        error.outcome = Outcome(result, summary_rows(result))
        raise
    except torch.cuda.OutOfMemoryError:
        smaller = f"take a smaller batch, for example --batch {max(2, config.batch // 2)} --fresh, or --set bf16=true"
        raise RunFailed(f"the memory of the graphics card is full; {smaller}") from None
    except RuntimeError as error:
        if ranks.count == 1 or not lost(error):
            raise
        raise RunFailed(f"another process of this run has ended; {course.way_on()}") from error
    if "figure" in result:
        say(f"Figure {result['figure']}.")
    return _outcome(result, course)


def _outcome(result: dict[str, Any], course: Course) -> Outcome:
    """What is returned; Diverged for a run whose measured risk is beyond all bounds."""
    outcome = Outcome(result, summary_rows(result))
    if result.get("outcome") == "diverged":
        error = Diverged(f"diverged: {result['reason']}. {STALE} {course.advice()}", result["reason"])
        error.outcome = outcome
        raise error
    return outcome
