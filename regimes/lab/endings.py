"""How a program ends that met an error: one line on stderr and an exit code."""

import os
import sys
import time

PATIENCE = 20.0  # seconds in which one of several processes waits for the first to say what both have met
USAGE, FAILED, INTERRUPTED = 2, 1, 130


def ending(error: BaseException, program: str) -> int:
    """Print one line about an error of the command line `program` and give the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else USAGE
    kind = type(error).__name__
    usage = getattr(error, "format_message", None)
    rank = os.environ.get("RANK", "0")
    if isinstance(error, KeyboardInterrupt) or kind == "Interrupted":
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
    if usage is not None:  # an error of the argument parser
        command = getattr(getattr(error, "ctx", None), "command_path", program)
        message = f"{usage().rstrip('.')}{_came(error)}"
        _print_error(f"{message}{'' if message.endswith('?') else '.'} See {command} --help")
        return USAGE
    if isinstance(error, OSError) and error.strerror:
        _print_error(error.strerror + (f": {error.filename}" if error.filename else ""))
        return USAGE
    if isinstance(error, (ValueError, OSError)):
        _print_error(str(error))
        return USAGE
    if isinstance(error, (RuntimeError, ImportError, MemoryError)):
        _print_error(str(error) or kind)
        return FAILED
    _print_error(f"internal error: {kind}: {error} (set REGIMES_DEBUG=1 for the traceback)")
    return FAILED


def _came(error: BaseException) -> str:
    """The value that the parser refused, for the reader."""
    options = getattr(getattr(error, "param", None), "opts", [])
    for option, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if option in options and value:
            return f"; got {value!r}"
        if any(option.startswith(f"{name}=") for name in options):
            return f"; got {option.partition('=')[2]!r}"
    return ""


def _print_error(message: str, prefix: str = "error: ") -> None:
    print(prefix + " ".join(message.split()), file=sys.stderr)
