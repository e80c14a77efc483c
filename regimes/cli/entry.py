"""Where the program starts and ends."""

import io
import os
import sys
from typing import NoReturn

from regimes.cli import jobs, runs, statements
from regimes.cli.app import app, program
from regimes.cli.output import safe_streams, unread
from regimes.errors import UserError
from regimes.lab.drawing import draw_plainly
from regimes.lab.endings import DEBUG, INTERRUPTED, ending
from regimes.launch import forget_leftovers
from regimes.threads import wait_quietly

COMMANDS = (jobs, statements, runs)  # they have put themselves into the application, in this order


def main() -> NoReturn:
    """Run the command line; an error ends as one line on stderr, with --debug (REGIMES_DEBUG=1) after a traceback.

    What cannot be printed does not end a run. Output that is lost although somebody wanted it gives exit code 2.
    """
    forget_leftovers(sys.argv[1:])
    with safe_streams() as (out, _):
        if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
            sys.stdout = io.StringIO()
        status = _run()
        out.flush()
        if (failure := unread(out)) is not None and status == 0:
            status = ending(OSError(failure.errno, f"the output is lost: {failure.strerror}"), program())
    sys.exit(status)


def _run() -> int:
    wait_quietly()  # before torch is imported
    draw_plainly()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ[DEBUG] = "1"  # for the processes that this one starts, too
    try:
        _require_text(arguments)
        status = app(arguments or ["--help"], prog_name=program(), standalone_mode=False)
    except BaseException as error:
        return ending(error, program())
    if status == INTERRUPTED:  # the parser has taken the Ctrl-C
        return ending(KeyboardInterrupt(), program())
    return status if isinstance(status, int) else 0


def _require_text(arguments: list[str]) -> None:
    """UserError for bytes that are no text here: they could not be written into any file of a run."""
    named = {name: value for name, value in os.environ.items() if name.startswith("REGIMES_")}
    for place, text in [*(("the command", each) for each in arguments), *named.items()]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            shown = text.encode("utf-8", "replace").decode("utf-8")
            raise UserError(
                f"{place} needs text; {shown!r} holds bytes that are none in the encoding of this terminal, "
                f"{sys.getfilesystemencoding()}. Set PYTHONUTF8=1, or rename the file"
            ) from None
