"""The command line in this process, for the tests."""

import contextlib
import io
import os
import sys
from typing import NamedTuple
from unittest import mock

from regimes.cli import main


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def command(*arguments: str) -> Ended:
    """Run `python cli.py ARGUMENTS...`."""
    out, err = io.StringIO(), io.StringIO()
    arguments = mock.patch.object(sys, "argv", ["cli.py", *arguments])
    kept = mock.patch.dict(os.environ)  # --debug sets a variable
    with arguments, kept, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Ended(code, out.getvalue(), err.getvalue())
