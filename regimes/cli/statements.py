"""Commands about statements: which there are, what one says, and whether it holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regimes.cli.app import app, program
from regimes.cli.options import (
    AcrossCommits,
    ConfigFile,
    Fresh,
    Out,
    Overrides,
    PrintConfig,
    print_settings,
    settings_of,
)
from regimes.paths import typed


def _begun(typed: str) -> list[str]:
    """Names of statements that begin so, for the completion of a shell."""
    from regimes.experiments import names

    return [name for name in names() if name.startswith(typed)]


Name = Annotated[
    str, typer.Argument(metavar="STATEMENT", help="Name of a statement; `list` shows them.", autocompletion=_begun)
]


@app.command("list")
def list_statements() -> None:
    """Show all statements with their last verdicts."""
    from regimes.experiments import cards
    from regimes.lab.console import print_lines
    from regimes.lab.kept import last_verdicts

    verdicts = last_verdicts()
    lines = [(card.theory, name, verdicts.get(name, "not run"), card.title) for name, card in cards().items()]
    print_lines(sorted(lines))


@app.command()
def show(name: Name) -> None:
    """Show a statement: claim, predictions, settings, result.

    The name of one of its kept results, such as hidden_width_more_seeds, shows that result alone.
    """
    from regimes.experiments import load, names
    from regimes.lab.console import print_entry, print_table
    from regimes.lab.kept import last_results
    from regimes.lab.settings_text import setting_rows
    from regimes.lab.shipped import shipped

    results = last_results(name)
    if name not in names():
        results = [kept for kept in last_results() if kept.path.name == name]
        name = next((str(kept.content.get("name")) for kept in results), name)
    experiment = load(name)
    statement = experiment.STATEMENT
    print_entry(name, [statement.claim, f"Source: {statement.source}"])
    predictions = [
        {"predicted quantity": one.quantity, "interval": str(one.interval), "origin": one.origin}
        for one in statement.predictions
    ]
    print_table(predictions, keep=("interval", "origin"))
    print_table(setting_rows(experiment.Config), keep=("setting", "default", "meaning"))
    for result in results:
        print_entry(f"{result.verdict or 'no verdict'}: {result.path}", result.lines())
    print(f"Smoke run: {program()} verify {name}")
    for file in shipped(name):
        print(f"Real size: {program()} verify {name} --config {file}")


@app.command()
def verify(
    name: Name,
    config: ConfigFile = None,
    overrides: Overrides = None,
    out: Out = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that measure side by side.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="Dask scheduler, such as tcp://scheduler:8786.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Measure part I of N only, on this machine; then `merge`.")
    ] = None,
    fresh: Fresh = False,
    across_commits: AcrossCommits = False,
    print_config: PrintConfig = False,
) -> None:
    """Verify one statement: measure, judge, draw.

    The defaults are a smoke run; --config configs/NAME.yaml is the real size. The same command again goes on where the
    run was stopped.
    """
    from regimes.data.origins import files_digest
    from regimes.experiments import load
    from regimes.lab import verification
    from regimes.lab.folders import folder_of
    from regimes.lab.merging import Part
    from regimes.lab.stamps import data_digest

    experiment = load(name)
    settings = settings_of(experiment.Config, config, overrides)
    if print_config:
        print_settings(settings)
        return
    path = out or folder_of(name, settings)
    share = None if part is None else Part.read(part)
    how = {"workers": workers, "scheduler": scheduler, "part": share, "fresh": fresh}
    how |= {"across_commits": across_commits, "data": data_digest(settings, files_digest)}
    conclusion = verification.verify(experiment, name, settings, path, **how)
    if conclusion is None:
        print(f"Part {part} of {name} is measured. Join all parts: {program()} merge {typed(path)} OTHERS... --out DIR")
    else:
        print_conclusion(experiment, path, conclusion)


def print_conclusion(experiment: Any, path: Path, conclusion: Any) -> None:
    """Claim, table, findings and verdict of a run."""
    from regimes.lab.console import print_table
    from regimes.lab.report import finding_rows

    print(f"{experiment.STATEMENT.claim}\nSource: {experiment.STATEMENT.source}")
    print("\n".join((*conclusion.judgement.notes, *conclusion.troubles)))
    print_table(conclusion.table, wide=path / "table.md")
    print_table(finding_rows(conclusion.judgement), keep=("quantity", "measured", "verdict"), wide=path / "table.md")
    print(f"{conclusion.judgement.verdict.upper()}. Table, figure and rows: {path}")
