"""The application that the commands belong to, and what stands before the name of a command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from regimes import __version__
from regimes.cli.once import Commands

app = typer.Typer(
    name="regimes",
    cls=Commands,
    help="Which theory of neural-network training holds where: lazy, mean-field, least action. Decided by measurement.",
    epilog="Start with: python cli.py lazy-vs-meanfield --alpha 100\n\n"
    "Exit codes: 0 done (whatever the verdict); 1 a run failed, such as a diverged training, or a bug; 2 a mistake in "
    "the command, a setting or a file; 130 interrupted, what was finished is kept.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def program() -> str:
    """How this program is called: by its file in a clone, else by its name."""
    return "python cli.py" if Path(sys.argv[0]).name in ("cli.py", "__main__.py") else "regimes"


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
