"""How a program ends that met an error: one line on stderr and an exit code."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from regimes import __version__
from regimes.errors import Interrupted, RunFailed, UserError, out_of_memory, shown

PATIENCE = 20.0  # seconds in which one of several processes waits for the first to say what both have met
USAGE, FAILED, INTERRUPTED = 2, 1, 130
DEBUG = "REGIMES_DEBUG"


def ending(error: BaseException, program: str) -> int:
    """Print one line about an error of the command line `program` and give the exit code; with DEBUG, a traceback too.

    2: the user's mistake (UserError, OSError, the parser's errors); 130: interrupted; 1: a failure, or a bug.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else USAGE
    rank = os.environ.get("RANK", "0")
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        if rank == "0":
            _print_error(str(error) or "interrupted", prefix="")
        return INTERRUPTED
    if rank != "0":
        # What all processes have met the first one says, and its end ends them. If none has come, it is this one's own.
        try:
            time.sleep(PATIENCE)
        except KeyboardInterrupt:
            return INTERRUPTED
        print(f"process {rank}: ", end="", file=sys.stderr)
    if debugging():
        traceback.print_exception(error)
    usage = getattr(error, "format_message", None)
    if usage is not None:  # an error of the argument parser
        command = getattr(getattr(error, "ctx", None), "command_path", program)
        message = f"{usage().rstrip('.')}{_came(error)}"
        _print_error(f"{message}{'' if message.endswith('?') else '.'} See {command} --help")
        return USAGE
    if isinstance(error, OSError) and error.strerror:
        _print_error(error.strerror + (f": {error.filename}" if error.filename else ""))
        return USAGE
    if isinstance(error, (UserError, OSError)):
        _print_error(str(error))
        return USAGE
    if isinstance(error, (RunFailed, ModuleNotFoundError)):
        _print_error(str(error))
    elif out_of_memory(error):
        _print_error(f"the memory is too small for this: {str(error) or 'none is left'}; choose smaller settings")
    else:
        _print_error(_bug(error))
    return FAILED


def debugging() -> bool:
    """Whether REGIMES_DEBUG asks for tracebacks."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def _bug(error: BaseException) -> str:
    how = "with the traceback above" if debugging() else f"with the traceback that --debug (or {DEBUG}=1) adds"
    return (
        f"this is a bug of regimes, not your mistake: {type(error).__name__}: {error}. "
        f"Please report the command, {how}, and the version ({__version__})"
    )


def _came(error: BaseException) -> str:
    """The value that the parser refused, for the reader."""
    options = getattr(getattr(error, "param", None), "opts", [])
    came = ""
    for option, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if option in options and value:
            came = f"; got {shown(value, 200)}"
        elif any(option.startswith(f"{name}=") for name in options):
            came = f"; got {shown(option.partition('=')[2], 200)}"
    return came


def _print_error(message: str, prefix: str = "error: ") -> None:
    print(prefix + " ".join(message.split()), file=sys.stderr)


@contextmanager
def full_card_told(device: str, cure: str) -> Iterator[None]:
    """A card's memory that is full, by the network, its samples or a step of training, ends as RunFailed, in a line.

    cure: what the user can do. A full memory of the host passes through.
    """
    try:
        yield
    except RuntimeError as error:
        of_card = type(error).__name__ == "OutOfMemoryError"  # torch's own, which a CPU does not raise
        of_host = any(words in str(error) for words in ("DefaultCPUAllocator", "bad_alloc"))
        if not (of_card or (device == "cuda" and out_of_memory(error) and not of_host)):
            raise
        raise RunFailed(f"the memory of the graphics card is full; {cure}") from None
