"""Is a network's map an optimal transport map? Checkpoints side by side, each judged on the points it transports.

Checkpoints that differ in the seed of their training only are one group: its numbers have means and intervals, and two
groups are compared seed by seed.

Protocol. N points of the data set that the checkpoint was trained on go through encoder and blocks in float64. For each
stage (segment of blocks in one space) x are the states at its start and T(x) those at its end. Two kinds of evidence
are reported apart: the exact gap of the pairing x_i → T(x_i) on these points, certified, and the symmetry of the
Jacobian of T by random probes (Brenier), which needs no second cloud. What each test could have seen is measured on
altered maps. Energies, straightness and stretch come along. Nothing is trained.
Source: [Karkar2020] for the question; the tests and their thresholds are ours.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from regimes.jobs.ot_gap.config import Config, folder_stem, labels, refuse_twice
from regimes.jobs.ot_gap.groups import Group, grouped, recipe, shared
from regimes.jobs.ot_gap.measure import PARTS, Measured, measure_stage
from regimes.jobs.ot_gap.report import result, screen_tables, table, words
from regimes.jobs.ot_gap.stages import Case, open_case, transported
from regimes.lab.array_files import damaged, read_arrays, write_arrays
from regimes.lab.console import print_table, track
from regimes.lab.drawing import attempt
from regimes.lab.hashed import File, hashed
from regimes.lab.report import markdown_table, origin, to_json
from regimes.lab.runs import RunFolder, default_folder
from regimes.lab.stamps import job_stamp

__all__ = ["NAME", "Config", "File", "conclude", "given_files", "hashed", "run", "start"]

NAME = "ot-gap"
ARRAYS = "measurement.npz"


def given_files(checkpoints: list[Path]) -> list[dict[str, str]]:
    """The files named on a command line, with their hashes, as settings."""
    files = [hashed(path) for path in checkpoints]
    refuse_twice(files)
    return [file.model_dump() for file in files]


def start(config: Config, out: Path | None = None, *, fresh: bool = False, across_commits: bool = False) -> Path:
    """Run in a folder, by default one under runs/ that is named after the checkpoints; the folder.

    What other code has begun is gone on with only with `across_commits`. The checkpoints are settings, by their hashes.
    """
    refuse_twice(config.checkpoints)
    path = out or default_folder(folder_stem(config), config, (), {"checkpoints"})
    cases = None if (path / ARRAYS).exists() and not fresh else open_cases(config)  # a mistake leaves no folder behind
    how = {"across_commits": across_commits, "stamp": job_stamp(config)}
    with RunFolder.open(path, NAME, config, fresh=fresh, **how) as folder:
        run(config, folder, cases)
    return path


def open_cases(config: Config) -> list[Case]:
    """All checkpoints with their points, so that a mistake in the last one shows before the first is measured."""
    return [open_case(file.path, config) for file in config.checkpoints]


def run(config: Config, folder: RunFolder, cases: list[Case] | None = None) -> None:
    """Measure (unless this folder has the measurement already), then write and print table, verdicts and figures."""
    if not (folder.path / ARRAYS).exists():
        cases = open_cases(config) if cases is None else cases
        folder.begin()
        total = PARTS * sum(len(case.stages) for case in cases)
        found = [one for one in track(_measured(config, cases), total, NAME) if one is not None]
        arrays: dict[str, Any] = {
            f"{number}/{name}": x for number, one in enumerate(found) for name, x in one.arrays.items()
        }
        text = np.array(json.dumps([one.numbers for one in found]))
        write_arrays(folder, ARRAYS, {"numbers": text, **arrays})
    conclude(config, folder)


def conclude(config: Config, folder: RunFolder) -> None:
    """Table, verdicts, result.json and figures from the measurement on disk; of a group of seeds the first is drawn."""
    found = _read(folder.path / ARRAYS)
    arrays = {one.numbers["label"]: one.arrays for one in found}
    groups = grouped([one.numbers for one in found])
    said = words(groups)
    content = {"name": folder.name, **result(groups), "config": folder.config, **folder.record()}
    folder.write("result.json", to_json(content))
    lines = "\n".join(f"- {sentence}" for sentence in said)
    title = f"# Is it an OT map? {config.split} points, cost ‖x − y‖^{config.p:g}"
    means = (
        "Means over seeds with 95 % intervals inside the range of each number.\n\n" if len(found) > len(groups) else ""
    )
    end = f"Reproduce: `{content.get('command')}`\n\n{origin(content)}"
    page = f"{title}\n\n{means}{markdown_table(table(groups))}\n{lines}\n\n{end}"
    folder.write("table.md", page)
    trouble = attempt(lambda: _draw(groups, arrays, folder))
    for lines in screen_tables(groups):
        print_table(lines)
    print("\n".join(words(groups, brief=True)))
    if any(len(group.members) > 1 for group in groups):
        print("What each test saw, and could have seen: table.md in the folder of results.")
    if trouble is not None:
        print(f"The figure could not be drawn ({trouble}). Table and result stand.")


def _draw(groups: list[Group], arrays: dict[str, dict[str, np.ndarray]], folder: RunFolder) -> None:
    from regimes.jobs.ot_gap.figure import draw
    from regimes.lab.figures import save

    for number, group in enumerate(groups, 1):
        drawn = draw(group, arrays[group.members[0]["label"]])
        save(drawn, folder, "figure" if len(groups) == 1 else f"figure-{number}")


def _measured(config: Config, cases: list[Case]) -> Iterator[Measured | None]:
    names = labels([case.path for case in cases])
    for case, file, name in zip(cases, config.checkpoints, names, strict=True):
        stages, accuracy = transported(case, config.p, config.device)
        for stage in stages:
            several = len(case.network.segments) > 1
            about: dict[str, Any] = {
                "label": f"{name}, stage {stage.number}" if several else name,
                "checkpoint": file.path,
                "sha256": file.sha256,
                "dataset": case.config["dataset"],
                "arch": case.config["arch"],
                "lap": case.config.get("lap", False),
                "module_wise": case.config.get("module_wise"),
                "movement_step": case.config.get("movement_step"),
                "seed": case.config.get("seed", 0),
                "recipe": recipe(case.config),
                "settings": shared(case.config),
                "split": config.split,
                "accuracy": accuracy,
            }
            for part in measure_stage(case, stage, config):
                yield part and part._replace(numbers={**about, **part.numbers})


def _read(file: Path) -> list[Measured]:
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; the run there has measured nothing yet: run it first")
    stored = read_arrays(file)
    try:
        numbers = json.loads(str(stored.pop("numbers")))
        arrays: list[dict[str, np.ndarray]] = [{} for _ in numbers]
        for key, values in stored.items():
            number, _, name = key.partition("/")
            arrays[int(number)][name] = values
        return [Measured(one, its) for one, its in zip(numbers, arrays, strict=True)]
    except (ValueError, LookupError, TypeError):
        raise damaged(file) from None
