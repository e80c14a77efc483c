"""The same training with several seeds: one folder a seed, and what they have in common."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from regimes.errors import Diverged
from regimes.lab.drawing import attempt
from regimes.lab.fields import read_table
from regimes.lab.report import markdown_table, number, origin, to_json
from regimes.lab.runs import RunFolder
from regimes.processes import SingleProcess
from regimes.training.checkpoint import RESULT
from regimes.training.config import HEAD, TrainConfig
from regimes.training.metrics import METRICS
from regimes.training.results import minimised
from regimes.training.run import Outcome, Say, open_run, train_one
from regimes.training.side_by_side import refuse_unfit, train_side_by_side

NUMBERS = ("train_accuracy", "validation_accuracy", "test_accuracy", "test_risk", "transport", "multiplier")


def train_seeds(
    config: TrainConfig,
    path: Path,
    *,
    resume: bool,
    fresh: bool,
    say: Say,
    across_commits: bool,
    ensemble: bool,
    ranks: SingleProcess,
) -> Outcome:
    """Train the seeds in folders seed0, seed1..., and write what they have in common.

    One after the other, or with `ensemble` side by side. Both hold the same, to rounding: either goes on with what the
    other has begun.
    """
    if ensemble:
        refuse_unfit(config, ranks)
    if resume and not ranks.from_first(lambda: any(path.glob("seed*/last.pt"))):
        raise FileNotFoundError(f"{path} holds no run to go on from; leave out --resume to start")
    how: dict[str, Any] = {"fresh": fresh, "across_commits": across_commits}
    seeds = range(config.seed, config.seed + config.seeds)
    with ranks.by_first(lambda: open_run(path, "train", config, **how)) or nullcontext() as folder:
        if folder is not None and not (path / RESULT).exists():
            folder.begin()
        how = {"across_commits": across_commits, "say": say}
        if ensemble:
            results = train_side_by_side(config, path, **how)
        else:
            results = [_train_one(config, seed, path, ranks=ranks, **how) for seed in seeds]
        outcome = ranks.from_first(lambda: _conclude(folder, config, results))
        if "figure" in outcome.result:
            say(f"Figure {outcome.result['figure']}.")
        if len(outcome.result["diverged"]) == config.seeds:
            gone = Diverged(f"all {config.seeds} seeds diverged; seed {config.seed}: {results[0]['reason']}")
            gone.outcome = outcome
            raise gone
        return outcome


def _train_one(config: TrainConfig, seed: int, path: Path, *, say: Say, **how: Any) -> dict[str, Any]:
    say(f"Seed {seed}:")
    one = config.model_copy(update={"seed": seed, "seeds": 1})
    try:
        return train_one(one, path / f"seed{seed}", say=say, **how).result
    except Diverged as error:  # the other seeds are trained all the same
        say(str(error))
        return error.outcome.result


def _conclude(folder: RunFolder | None, config: TrainConfig, results: Sequence[Mapping[str, Any]]) -> Outcome:
    from regimes.lab.intervals import POSITIVE, SHARE
    from regimes.lab.statistics import mean_interval

    assert folder is not None  # the first process holds it

    seeds = [entry["config"]["seed"] for entry in results]
    whole = [result for result in results if result["outcome"] == "trained"]
    gone = [seed for seed, result in zip(seeds, results, strict=True) if result["outcome"] == "diverged"]
    table: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for which in ("best", "last") if whole else ():
        line: dict[str, Any] = {"weights": which, "seeds": len(whole)}
        summary[which] = {}
        for name in NUMBERS:
            values = [result[which][name] for result in whole]
            if None not in values:
                found = mean_interval(values, within=SHARE if "accuracy" in name else POSITIVE)
                summary[which][name] = {"mean": found.value, "interval": found.interval, "values": values}
                line[name.replace("_", " ")] = f"{number(found.value)} {found.interval}"
        table.append(line)
    if gone:
        table.append(
            {
                "weights": f"diverged: {'seed' if len(gone) == 1 else 'seeds'} {', '.join(map(str, gone))}",
                "seeds": len(gone),
            }
        )
    result = {
        "name": "train",
        **{name: getattr(config, name) for name in HEAD},
        "seeds": seeds,
        "diverged": gone,
        **summary,
        "config": folder.config,
        **folder.record(),
    }
    without = f" over the {len(whole)} seeds that did not diverge" if gone else ""
    title = f"# {config.arch} on {config.dataset}, {minimised(config)}, {config.seeds} seeds"
    page = f"{title}\n\nMeans with 95 % intervals{without}.\n\n"
    folder.write("table.md", f"{page}{markdown_table(table)}\nReproduce: `{result.get('command')}`\n\n{origin(result)}")
    folder.write("result.json", to_json(result))
    if len(whole) > 1:
        drawn = _figure(folder, [folder.path / f"seed{one['config']['seed']}" for one in whole])
        if drawn:
            result |= drawn
            folder.write("result.json", to_json(result))
    return Outcome(result, table)


def _figure(folder: RunFolder, seeds: Sequence[Path]) -> dict[str, str]:
    """Draw, or say why not: the results are on the disk already, and no figure is worth them."""

    def draw() -> None:
        from regimes.lab import seeds_figure
        from regimes.lab.figures import save

        save(seeds_figure.draw([read_table(seed / METRICS) for seed in seeds]), folder)

    reason = attempt(draw)
    return {} if reason is None else {"figure": f"not drawn: {reason}"}
