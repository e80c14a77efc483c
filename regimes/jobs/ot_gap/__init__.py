"""Is a network's map an optimal transport map? Checkpoints side by side, each judged on the points it transports.

Protocol. N points of the data set that the checkpoint was trained on go through encoder and blocks in float64. For each
stage (segment of blocks in one space) x are the states at its start and T(x) those at its end. Two kinds of evidence
are reported apart: the exact gap of the pairing x_i → T(x_i) on these points, certified, and the symmetry of the
Jacobian of T by random probes (Brenier), which needs no second cloud. What each test could have seen is measured on
altered maps. Energies, straightness and stretch come along. Nothing is trained.
Source: [Karkar2020] for the question; the tests and their thresholds are ours.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from regimes.errors import UserError
from regimes.jobs.ot_gap.config import Config, File, folder_stem, hashed, labels
from regimes.jobs.ot_gap.figure import draw
from regimes.jobs.ot_gap.measure import Measured, measure_stage
from regimes.jobs.ot_gap.report import result, table, words
from regimes.jobs.ot_gap.stages import Case, open_case, transported
from regimes.lab.console import print_table, track
from regimes.lab.figures import save
from regimes.lab.report import markdown_table, to_json
from regimes.lab.runs import RunFolder, default_folder

__all__ = ["NAME", "Config", "File", "conclude", "given_files", "hashed", "run", "start"]

NAME = "ot-gap"
ARRAYS = "measurement.npz"


def given_files(checkpoints: list[Path]) -> list[dict[str, str]]:
    """The files named on a command line, with their hashes, as settings."""
    return [hashed(path).model_dump() for path in checkpoints]


def start(config: Config, out: Path | None = None, *, fresh: bool = False) -> Path:
    """Run in a folder, by default one under runs/ that is named after the checkpoints; the folder."""
    path = out or default_folder(folder_stem(config), config, {"checkpoints"})
    cases = None if (path / ARRAYS).exists() and not fresh else open_cases(config)  # a mistake leaves no folder behind
    with RunFolder.open(path, NAME, config, fresh=fresh) as folder:
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
        total = sum(len(case.stages) for case in cases)
        found = list(track(_measured(config, cases), total, NAME))
        arrays: dict[str, Any] = {
            f"{number}/{name}": x for number, one in enumerate(found) for name, x in one.arrays.items()
        }
        buffer = io.BytesIO()
        text = np.array(json.dumps([one.figures for one in found]))
        np.savez_compressed(buffer, figures=text, **arrays)
        folder.write(ARRAYS, buffer.getvalue())
    conclude(config, folder)


def conclude(config: Config, folder: RunFolder) -> None:
    """Table, verdicts, result.json and figures from the measurement on disk."""
    found = _read(folder.path / ARRAYS)
    figures = [one.figures for one in found]
    rows, said = table(figures), words(figures)
    content = {"name": folder.name, **result(figures), "config": folder.config, **folder.record()}
    folder.write("result.json", to_json(content))
    lines = "\n".join(f"- {sentence}" for sentence in said)
    title = f"# Is it an OT map? {config.split} points, cost ‖x − y‖^{config.p:g}"
    folder.write("table.md", f"{title}\n\n{markdown_table(rows)}\n{lines}\n\nReproduce: `{content.get('command')}`\n")
    for number, one in enumerate(found, 1):
        save(draw(one.figures, one.arrays), folder, "figure" if len(found) == 1 else f"figure-{number}")
    print_table(rows)
    print("\n".join(said))


def _measured(config: Config, cases: list[Case]) -> Iterator[Measured]:
    names = labels([case.path for case in cases])
    for case, file, name in zip(cases, config.checkpoints, names, strict=True):
        stages, accuracy = transported(case, config.p, config.device)
        for stage in stages:
            measured = measure_stage(case, stage, config)
            several = len(case.network.segments) > 1
            about: dict[str, Any] = {
                "label": f"{name}, stage {stage.number}" if several else name,
                "checkpoint": file.path,
                "sha256": file.sha256,
                "dataset": case.config["dataset"],
                "arch": case.config["arch"],
                "lap": case.config.get("lap", False),
                "split": config.split,
                "accuracy": accuracy,
            }
            yield measured._replace(figures={**about, **measured.figures})


def _read(file: Path) -> list[Measured]:
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; the run there has measured nothing yet: run it first")
    try:
        with np.load(file, allow_pickle=False) as stored:
            figures = json.loads(str(stored["figures"]))
            arrays: list[dict[str, np.ndarray]] = [{} for _ in figures]
            for key in stored.files:
                if key != "figures":
                    number, _, name = key.partition("/")
                    arrays[int(number)][name] = stored[key]
        return [Measured(one, its) for one, its in zip(figures, arrays, strict=True)]
    except (ValueError, KeyError, IndexError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{file} is damaged; delete it and run the same command again") from None
