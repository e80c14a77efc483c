"""Was a training run lazy? Two states of one network, on samples of its training: `regimes.diagnose` in a run folder.

Protocol. The network after training is compared with the one before it, in float64, on some of its training samples.
The linearisation gap decides, against a limit that was set beforehand; all else is reported beside it. The tangent
model is trained on all training samples, where these are few. Nothing else is trained.
Source: [ChizatOyallonBach2019] for the gap and κ, [Nam2024] for the richness; the limits are ours.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regimes.conventions import generator
from regimes.errors import UserError, users_choice
from regimes.jobs.diagnose.config import Config, folder_stem, given_files
from regimes.jobs.diagnose.report import layer_table, missing, plain, table
from regimes.jobs.diagnose.sources import open_case, with_found
from regimes.lab.config import dump
from regimes.lab.console import print_table
from regimes.lab.drawing import attempt
from regimes.lab.provenance import device_of
from regimes.lab.report import markdown_table, origin, to_json
from regimes.lab.runs import RunFolder, default_folder
from regimes.lab.stamps import job_stamp
from regimes.streams import DiagnoseJob
from regimes.tangent.diagnosis.diagnose import Diagnosis, checked
from regimes.tangent.diagnosis.readings import Reading
from regimes.tangent.diagnosis.tangent_run import ROWS

__all__ = ["NAME", "Config", "conclude", "given_files", "run", "start"]

NAME = "diagnose"
MEASURED = "measurement.json"


def start(config: Config, out: Path | None = None, *, fresh: bool = False, across_commits: bool = False) -> Path:
    """Run in a folder, by default one under runs/ that is named after the checkpoint; the folder.

    The files of a measurement are settings, by their hashes: another file, another measurement.
    """
    config = with_found(config)
    path = out or default_folder(folder_stem(config), config, (), {"checkpoint"})
    there = (path / MEASURED).exists() and not fresh
    measure = None if there else opened(config)  # a mistake leaves no folder behind
    how = {"across_commits": across_commits, "stamp": job_stamp(config)}
    with RunFolder.open(path, NAME, config, fresh=fresh, **how) as folder:
        run(config, folder, measure)
    return path


def opened(config: Config) -> Callable[[], dict[str, Any]]:
    """What measures the numbers of the settings' case; UserError for broken models and samples that do not fit them."""
    device_of(dump(config))
    case = open_case(config, ROWS)
    whole = len(case.y) == case.of
    with users_choice():
        diagnose = checked(
            case.start,
            case.end,
            case.x,
            case.y,
            held_out=case.held_out if whole else None,
            points=config.points,
            kernel_points=config.kernel_points,
            decay=case.decay,
            generator=generator(config.seed, DiagnoseJob.SUBSAMPLES),
        )

    def measured() -> dict[str, Any]:
        print(
            f"{case.title}: before and after training, on samples of the {case.of:,} that it was trained on.",
            flush=True,
        )
        with users_choice():
            found = diagnose()
        about = {"title": case.title, "samples": case.of, "notes": case.notes}
        return plain(found if whole else _without_tangent(found, case.of), **about)

    return measured


def _without_tangent(found: Diagnosis, samples: int) -> Diagnosis:
    reason = f"the {samples:,} training samples times the outputs are more than {ROWS:,}, which is solved exactly"
    return found._replace(readings={**found.readings, "tangent_disagreement": Reading(None, reason=reason)})


def run(config: Config, folder: RunFolder, measure: Callable[[], dict[str, Any]] | None = None) -> None:
    """Measure (unless this folder has the measurement already), then write and print table, verdict and figure."""
    if not (folder.path / MEASURED).exists():
        measure = opened(config) if measure is None else measure
        folder.begin()
        folder.write(MEASURED, to_json(measure()))
    conclude(config, folder)


def conclude(config: Config, folder: RunFolder) -> None:
    """Table, verdict, result.json and figure from the measurement on disk."""
    numbers = _read(folder.path / MEASURED)
    content = {"name": folder.name, **numbers, "config": folder.config, **folder.record()}
    folder.write("result.json", to_json(content))
    words, notes = str(numbers["words"]), [*numbers["notes"], *missing(numbers)]
    caption = f"On {numbers['points']} training samples; intervals over half subsamples of them."
    page = [
        f"# Was it lazy? {numbers['title']}\n",
        f"**{words[0].upper()}{words[1:]}.**\n",
        f"{caption}\n",
        markdown_table(table(numbers)),
        *([markdown_table(layer_table(numbers))] if numbers["layers"] else []),
        "\n".join(f"- {note}" for note in notes) + "\n",
        f"Reproduce: `{content.get('command')}`\n\n{origin(content)}",
    ]
    folder.write("table.md", "\n".join(page))
    trouble = attempt(lambda: _draw(numbers, folder))
    print_table(table(numbers, slim=True), wide=folder.path / "table.md")
    print("\n".join([*missing(numbers), f"{words[0].upper()}{words[1:]}."]))
    if trouble is not None:
        print(f"The figure could not be drawn ({trouble}). Table and result stand.")


def _draw(numbers: dict[str, Any], folder: RunFolder) -> None:
    from regimes.jobs.diagnose.figure import draw
    from regimes.lab.figures import save

    save(draw(numbers), folder)


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; the run there has measured nothing yet: run it first")
    try:
        found = json.loads(file.read_text("utf-8"))
        for name in ("verdict", "words", "readings", "layers", "notes", "points", "title"):
            found[name]
        return found
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file} is damaged; delete it and run the same command again") from None
