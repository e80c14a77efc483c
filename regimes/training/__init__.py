"""Training of classifiers: objective, loop, checkpoints, runs; `train` is the door of the command of that name."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the settings alone are read without torch
    from regimes.training.config import TrainConfig
    from regimes.training.run import Outcome

__all__ = ["train"]


def train(
    config: "TrainConfig",
    path: Path,
    *,
    resume: bool = False,
    fresh: bool = False,
    across_commits: bool = False,
    ensemble: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> "Outcome":
    """Train the seeds of the settings, one after the other in folders seed0, seed1... if there are several.

    A run or a set of runs goes on where it was stopped; `resume` refuses to start anew, `fresh` moves an old one aside.
    What other code has begun is gone on with only with `across_commits`. Under torchrun its processes train each seed
    together; with `ensemble` the seeds are trained side by side.
    """
    from regimes.errors import UserError
    from regimes.processes import processes, restarted
    from regimes.training.assemble import check

    if resume and fresh:
        raise UserError("--resume goes on with the old run, --fresh moves it aside: give one of the two.")
    check(config)
    fresh = fresh and not restarted()
    with processes(config.device) as ranks:
        told = say if ranks.first else lambda text: None
        how: Any = {"resume": resume, "fresh": fresh, "across_commits": across_commits, "ranks": ranks, "say": told}
        if config.seeds > 1 or ensemble:
            from regimes.training.seeds import train_seeds

            return train_seeds(config, path, ensemble=ensemble, **how)
        from regimes.training.run import train_one

        return train_one(config, path, **how)
