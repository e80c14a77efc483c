"""Command line: commands parse, call one function and print; a user's mistake ends as one line and exit code 2."""

import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from regimes import __version__
from regimes.errors import UserError
from regimes.lab.endings import DEBUG, INTERRUPTED, ending
from regimes.threads import wait_quietly

MAIN_JOB, OT_GAP = "lazy-vs-meanfield", "ot-gap"
JOBS = {MAIN_JOB: "lazy_vs_meanfield", OT_GAP: "ot_gap"}  # runs that state nothing, and their modules

app = typer.Typer(
    name="regimes",
    help="Which theory of neural-network training holds where: lazy, mean-field, least action. Decided by measurement.",
    epilog="Start with: python cli.py lazy-vs-meanfield --alpha 100",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file with settings.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, read as YAML; may be repeated; wins over the file."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run; by default under runs/.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of data files (or set REGIMES_DATA_DIR).")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Move a run that is in the way aside to DIR.1, DIR.2, ...")]


def _version(asked: bool | None) -> None:
    if asked:
        print(f"regimes {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; also after the name of a command.")
    ] = False,  # `main` has read and removed it: the option stands here for the help
) -> None:
    """Which theory of neural-network training holds where: lazy, mean-field, least action. Decided by measurement."""


@app.command("list")
def list_statements() -> None:
    """Show all statements, with sources and predictions."""
    from regimes.experiments import load, names
    from regimes.lab.console import print_entry

    for name in names():
        statement = load(name).STATEMENT
        predictions = [f"predicted: {said.quantity}: {said.interval}" for said in statement.predictions]
        print_entry(name, [statement.claim, f"Source: {statement.source}", *predictions])


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Statement to verify; `list` shows them.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    out: Out = None,
    workers: Annotated[int, typer.Option(help="Processes that measure side by side.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="Dask scheduler, such as tcp://scheduler:8786.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Measure part I of N only, on this machine; then `merge`.")
    ] = None,
    fresh: Fresh = False,
) -> None:
    """Verify one statement: measure, judge, draw.

    The defaults are a smoke run; --config configs/NAME.yaml is the real size. The same command again goes on where the
    run was stopped.
    """
    from regimes.experiments import load
    from regimes.lab import config as configuration
    from regimes.lab import verification
    from regimes.lab.merging import Part

    experiment = load(name)
    settings = configuration.load(experiment.Config, config, overrides or ())
    path = out or Path("runs", name)
    share = None if part is None else Part.read(part)
    how = {"workers": workers, "scheduler": scheduler, "part": share, "fresh": fresh}
    conclusion = verification.verify(experiment, name, settings, path, **how)
    if conclusion is None:
        print(f"Part {part} of {name} is measured. Join all parts: python cli.py merge {path} OTHERS... --out DIR")
    else:
        _show(experiment, path, conclusion)


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs of one statement.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the whole run.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Join runs that are parts of one, and judge the whole.

    Settings are those of the first run unless given; other ones agree, save those that say which points are measured.
    """
    from regimes.experiments import load
    from regimes.lab import config as configuration
    from regimes.lab import merging
    from regimes.lab.runs import RunFolder
    from regimes.lab.verification import conclude

    name = merging.name_of(runs[0])
    experiment = load(name)
    settings = configuration.load(experiment.Config, config or runs[0] / "config.yaml", overrides or ())
    found = merging.merge(experiment, name, runs, out, settings)
    if found.points < found.planned:
        print(f"{found.points} of {found.planned} points are in {out}. Measure the rest:")
        print(f"python cli.py verify {name} --config {out}/config.yaml --out {out}")
        raise typer.Exit(1)
    with RunFolder.existing(out) as folder:
        _show(experiment, out, conclude(experiment, folder))


@app.command()
def judge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, for example runs/lazy_rate.")],
) -> None:
    """Redo verdict, table and figure of a run.

    Only the rows of the run are read; nothing is measured.
    """
    from regimes.experiments import load, names
    from regimes.lab import config as configuration
    from regimes.lab.runs import RunFolder
    from regimes.lab.verification import conclude

    with RunFolder.existing(run) as folder:
        if folder.name in JOBS:
            job = import_module(f"regimes.jobs.{JOBS[folder.name]}")
            job.conclude(configuration.load(job.Config, run / "config.yaml"), folder)
        elif folder.name in names():
            experiment = load(folder.name)
            _show(experiment, run, conclude(experiment, folder))
        else:
            raise UserError(f"{run} holds a run of {folder.name!r}, which is not known; known: {', '.join(names())}")


@app.command(MAIN_JOB)
def lazy_vs_meanfield(
    alpha: Annotated[float | None, typer.Option(help="Scale α of the output; large is lazy, 1 is mean-field.")] = None,
    dataset: Annotated[str | None, typer.Option(help="teacher, circle, digits or mnist.")] = None,
    width: Annotated[int | None, typer.Option(help="Neurons of the hidden layer.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions; intervals are over these.")] = None,
    device: Device = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Compare lazy and mean-field on one data set.

    Trains the α-scaled net, its tangent model, the mean-field net and the infinite-width kernel, and says which is lazy
    by which number.
    """
    from regimes.jobs.lazy_vs_meanfield import Config, start

    flags = {"alpha": alpha, "dataset": dataset, "width": width, "seeds": seeds, "device": device, "data_dir": data_dir}
    path = start(_settings(Config, config, overrides, flags), out, fresh=fresh)
    print(f"Results: {path}")


@app.command("train")
def train_classifier(
    dataset: Annotated[str | None, typer.Option(help="circles, digits, mnist, cifar10 or cifar100.")] = None,
    arch: Annotated[str | None, typer.Option(help="Architecture; by default that of the data set's recipe.")] = None,
    lap: Annotated[bool, typer.Option("--lap", help="Least action: transport cost with the multiplier λ.")] = False,
    mean_field: Annotated[bool, typer.Option("--mean-field", help="Blocks as particles (θ, τ); τ is trained.")] = False,
    train_size: Annotated[int | None, typer.Option(help="Training samples; all by default.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions, one folder each; intervals are over these.")] = None,
    seed: Annotated[int | None, typer.Option(help="The (first) seed: of data, weights and batches.")] = None,
    device: Device = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run; an error if there is none.")] = False,
    fresh: Fresh = False,
    out: Out = None,
) -> None:
    """Train a network: plain, least action, mean-field.

    The same command again goes on where the run was stopped, bit for bit on a CPU; with --out DIR and more --epochs it
    goes further. The best epoch is chosen on validation samples; the test samples are measured once, at the end.
    """
    from functools import partial

    from regimes.lab.console import print_table
    from regimes.training.config import TrainConfig
    from regimes.training.repeat import folder_of, train

    flags = {"dataset": dataset, "arch": arch, "lap": lap or None, "train_size": train_size, "epochs": epochs}
    flags |= {"max_steps": max_steps, "batch": batch, "seeds": seeds, "seed": seed}
    flags |= {"device": device, "data_dir": data_dir, "mean_field": mean_field or None}
    settings = _settings(TrainConfig, config, overrides, flags)
    path = out or folder_of(settings)
    outcome = train(settings, path, resume=resume, fresh=fresh, say=partial(print, flush=True))
    print_table(outcome.table)
    print(f"Results: {path}")


@app.command(OT_GAP)
def ot_gap(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CKPT...", help="Checkpoints that `train` has written.")],
    points: Annotated[int | None, typer.Option(help="Points to be transported; 1,000 by default.")] = None,
    split: Annotated[str | None, typer.Option(help="test, train or validation.")] = None,
    stage: Annotated[int | None, typer.Option(help="One segment of blocks, from 0; all by default.")] = None,
    p: Annotated[float | None, typer.Option(help="Exponent of the cost ‖x − y‖^p; 2 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the choice of points and of the probes.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Limit of each exact solve; then a bracket remains.")] = None,
    device: Device = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    out: Out = None,
    fresh: Fresh = False,
) -> None:
    """Is a network's map an optimal transport map?

    Checkpoints side by side: the exact gap on their points, certified, and the symmetry of the map's Jacobian.
    """
    from regimes.jobs.ot_gap import Config, given_files, start

    flags = {"points": points, "split": split, "stage": stage, "p": p, "seed": seed, "seconds": seconds}
    flags |= {"device": device, "data_dir": data_dir, "checkpoints": given_files(checkpoints)}
    path = start(_settings(Config, config, overrides, flags), out, fresh=fresh)
    print(f"Results: {path}")


def _settings(kind: Any, file: Path | None, overrides: list[str] | None, flags: dict[str, Any]) -> Any:
    """Settings from a file, --set and flags (None: not given); the later wins."""
    from regimes.lab.config import load, override

    given = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items() if value is not None}
    return load(kind, file, [*(overrides or ()), *(override(key, value) for key, value in given.items())])


def _show(experiment: Any, path: Path, conclusion: Any) -> None:
    from regimes.lab.console import print_table
    from regimes.lab.report import finding_rows

    print(f"{experiment.STATEMENT.claim}\nSource: {experiment.STATEMENT.source}")
    print("\n".join((*conclusion.judgement.notes, *conclusion.troubles)))
    print_table(conclusion.table)
    print_table(finding_rows(conclusion.judgement))
    print(f"{conclusion.judgement.verdict.upper()}. Table, figure and rows: {path}")


def main() -> NoReturn:
    """Run the command line; an error ends as one line on stderr, with --debug (REGIMES_DEBUG=1) after a traceback."""
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        sys.stdout = io.StringIO()
    wait_quietly()  # before torch is imported
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ[DEBUG] = "1"  # for the processes that this one starts, too
    try:
        status = app(arguments or ["--help"], prog_name=_program(), standalone_mode=False)
    except BaseException as error:
        sys.exit(ending(error, _program()))
    stopped = status == INTERRUPTED  # the parser has taken the Ctrl-C
    sys.exit(ending(KeyboardInterrupt(), _program()) if stopped else status if isinstance(status, int) else 0)


def _program() -> str:
    return "python cli.py" if Path(sys.argv[0]).name in ("cli.py", "__main__.py") else "regimes"


if __name__ == "__main__":
    main()
