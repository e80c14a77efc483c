"""Commands about runs that are there: judge one again, join several, and the tables of all."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from regimes.cli.app import app, program
from regimes.cli.jobs import JOBS
from regimes.cli.options import ConfigFile, Overrides, path
from regimes.cli.statements import print_conclusion
from regimes.errors import RunFailed, UserError
from regimes.paths import refuse_twice, typed

Run = Annotated[Path, typer.Argument(metavar="RUN", parser=path, help="Folder of a run, for example runs/lazy_rate.")]


@app.command()
def judge(run: Run) -> None:
    """Redo verdict, table and figure of a run.

    Only the rows of the run are read; nothing is measured.
    """
    from regimes.experiments import load, names
    from regimes.lab import config as configuration
    from regimes.lab.runs import RunFolder
    from regimes.lab.verification import conclude

    with RunFolder.existing(run) as folder:
        if folder.name in JOBS:
            job: Any = import_module(f"regimes.jobs.{JOBS[folder.name]}")
            job.conclude(configuration.load(job.Config, run / "config.yaml"), folder)
        elif folder.name in names():
            experiment = load(folder.name)
            print_conclusion(experiment, run, conclude(experiment, folder))
        elif folder.name == "train":
            several = sorted(run.glob("seed*/best.pt"))
            raise UserError(
                f"{run} holds a training run, which has no verdict; its table is {run}/table.md. Ask whether its map "
                f"is an optimal-transport map: {program()} ot-gap {typed(several[0] if several else run / 'best.pt')}"
            )
        elif folder.name == "fit":
            raise UserError(
                f"{run} holds a run of regimes.fit, which has no verdict; its table is {run}/table.md. Ask in Python "
                "whether its training was lazy: regimes.diagnose"
            )
        else:
            raise UserError(f"{run} holds a run of {folder.name!r}, which is not known; known: {', '.join(names())}")


@app.command()
def merge(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", parser=path, help="Folders of runs of one statement.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", parser=path, help="Folder of the whole run.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Join runs that are parts of one, and judge the whole.

    Settings are those of the first run unless given; other ones agree, save those that say which points
    are measured, or where.
    """
    from regimes.experiments import load, names
    from regimes.lab import config as configuration
    from regimes.lab import merging
    from regimes.lab.runs import RunFolder
    from regimes.lab.verification import conclude

    name = merging.name_of(runs[0])
    if name not in names():
        what = "a training run" if name in ("train", "fit") else f"a run of {name!r}"
        raise UserError(
            f"{runs[0]} holds {what}: merge joins the parts of one statement, measured with `verify --part`. "
            f"{'Several seeds go into one run with train --seeds N.' if name == 'train' else 'It has no parts.'}"
        )
    experiment = load(name)
    settings = configuration.load(experiment.Config, config or runs[0] / "config.yaml", overrides or ())
    found = merging.merge(experiment, name, runs, out, settings)
    if found.points < found.planned:
        print(f"{found.points} of {found.planned} points are in {out}. Measure the rest:")
        print(f"{program()} verify {name} --config {typed(out / 'config.yaml')} --out {typed(out)}")
        raise typer.Exit(1)
    with RunFolder.existing(out) as folder:
        print_conclusion(experiment, out, conclude(experiment, folder))


@app.command()
def audit(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN...]", parser=path, help="Folders of runs; by default all of results/."),
    ] = None,
) -> None:
    """Check kept results by their rows and git.

    The rows are judged again, and the predictions are dated. A run fails if result.json does not say what its rows say,
    if it was measured with uncommitted code, or if it is supported by a prediction that git first has after the first
    row. Exit code 1 if one fails.
    """
    from regimes.audit import audit as audited
    from regimes.audit import report as lines_of

    refuse_twice(runs or [], "and would count as two")
    folders = runs or sorted(Path("results").glob("*/"))
    if not folders:
        raise UserError("there is nothing to audit: no results/ here; give the folders of runs")
    for run in runs or []:
        if not (run / "run.json").exists():
            raise UserError(f"{run} is not the folder of a run: it has no run.json; give one under runs/ or results/")
    found = audited(folders)
    for one in found:
        print("\n".join(lines_of(one)))
    failed = [one.run.name for one in found if not one.passed]
    if failed:
        raise RunFailed(f"{len(failed)} of {len(found)} runs fail the audit: {', '.join(failed)}")
    print(f"All {len(found)} runs pass." if len(found) > 1 else "The run passes.")


@app.command()
def report(
    readme: Annotated[
        bool, typer.Option("--readme", help="Write it into README.md and docs/, between <!-- results --> marks.")
    ] = False,
) -> None:
    """Show the kept results as one table, in Markdown.

    One line a statement, made from results/*/result.json. Run it in the root of the repository.
    """
    from regimes.experiments import cards
    from regimes.lab.kept import rewrite_documents, statements_table

    known = cards()
    titles = {name: card.title for name, card in known.items()}
    if readme:
        for file in rewrite_documents(Path(), titles, {name: card.theory for name, card in known.items()}):
            print(f"Written: {file}")
    else:
        if not Path("results").is_dir():
            raise UserError("there is no folder results/ here; run it in the root of the repository")
        print(statements_table(Path("results"), titles, link="results"), end="")
