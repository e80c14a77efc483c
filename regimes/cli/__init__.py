"""Command line: commands parse, call one function and print; a user's mistake ends as one line and exit code 2."""

from regimes.cli.app import app
from regimes.cli.entry import main

__all__ = ["app", "main"]
