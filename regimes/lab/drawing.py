"""Figures at the end of a run, so drawn that none can cost what was measured."""

import importlib.util
import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path

from regimes.errors import one_line
from regimes.lab.endings import debugging

RC = "matplotlibrc"


def draw_plainly() -> None:
    """Have matplotlib draw into files only, by its own defaults; to be called by a program before it is imported.

    A notebook around may name a backend that is not here; a matplotlibrc may ask for LaTeX, or be damaged.
    """
    os.environ["MPLBACKEND"] = "Agg"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # such as a word on a folder that cannot be written
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return
    package = Path(found.origin).parent
    os.environ["MATPLOTLIBRC"] = str(package / "mpl-data" / RC)
    if Path(RC).exists():  # in the working folder, where matplotlib looks first
        here = Path.cwd()
        os.chdir(package)
        try:
            importlib.import_module("matplotlib")
        finally:
            os.chdir(here)


def attempt(draw: Callable[[], None]) -> str | None:
    """Draw within the shared style; the reason in one line if that fails, for the results are on the disk already."""
    try:
        from regimes.lab.figures import style

        with style():
            draw()
    except Exception as error:  # whatever a drawing library meets
        if debugging():
            traceback.print_exception(error)
        return f"{type(error).__name__}: {one_line(error, 200)}"
    return None
