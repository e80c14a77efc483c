"""Where the program starts and ends."""

import io
import os
import sys
from typing import NoReturn

from regimes.cli import jobs, runs, statements
from regimes.cli.app import app, program
from regimes.lab.endings import DEBUG, INTERRUPTED, ending
from regimes.threads import wait_quietly

COMMANDS = (jobs, statements, runs)  # they have put themselves into the application, in this order


def main() -> NoReturn:
    """Run the command line; an error ends as one line on stderr, with --debug (REGIMES_DEBUG=1) after a traceback."""
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        sys.stdout = io.StringIO()
    wait_quietly()  # before torch is imported
    os.environ["MPLBACKEND"] = "Agg"  # no window; that of a notebook around may not exist here
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ[DEBUG] = "1"  # for the processes that this one starts, too
    try:
        status = app(arguments or ["--help"], prog_name=program(), standalone_mode=False)
    except BaseException as error:
        sys.exit(ending(error, program()))
    if status == INTERRUPTED:  # the parser has taken the Ctrl-C
        sys.exit(ending(KeyboardInterrupt(), program()))
    sys.exit(status if isinstance(status, int) else 0)
