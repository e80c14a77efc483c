"""How a run can end before its result: by the user's mistake, by a failure, by Ctrl-C. All else is a bug."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class UserError(ValueError):
    """A mistake in a command, a setting, a file of settings or data, a checkpoint, a run folder: one line, exit code 2.

    Its text says what is needed, what came and what to do. The doors of the library raise plain `ValueError`s. Those
    that come out of a command are bugs: a command checks what it passes on, or passes it on within `users_choice`.
    """


class RunFailed(RuntimeError):
    """What was asked for was right and could not be done: a diverged training, a full memory. One line, exit code 1."""


class Diverged(RunFailed):
    """A loss or a weight is no longer finite, or the measured risk is beyond all bounds.

    `reason` is the cause in a few words; `outcome`, what the run has left in its folder: its result and its table.
    """

    outcome: Any = None

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class Interrupted(RuntimeError):
    """Stopped from the keyboard or by a signal; what was finished is kept. One line, exit code 130."""


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch could not get the memory that was asked for, on a CPU or a card.

    On a CPU torch says so by a plain RuntimeError. What catches RuntimeErrors to try another way, or to say what a
    model lacks, passes these on.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FULL))
    )


_FULL = ("DefaultCPUAllocator", "out of memory", "std::bad_alloc", "_STATUS_ALLOC_FAILED")


def not_finite(error: BaseException) -> bool:
    """Whether the error tells of numbers that are NaN or infinite, by a door of the library or by NumPy, SciPy, torch.

    Where these are what a measurement has made itself, its settings are too large, or a net has diverged.
    """
    if isinstance(error, (OverflowError, FloatingPointError)):
        return True
    raised = isinstance(error, ValueError) or type(error).__name__ in ("LinAlgError", "_LinAlgError")
    return raised and any(sign in str(error) for sign in _NOT_FINITE)


_NOT_FINITE = (
    *("NaN or infinite", "not finite", "non-finite", "infs or NaNs", "Infs or NaNs", "contains NaN"),
    *("failed to converge", "did not converge", "cannot convert float NaN"),
)


@contextmanager
def users_choice() -> Iterator[None]:
    """A `ValueError` raised within is a UserError with the same text.

    For a single call of a library door to which a setting goes as the user gave it. Anything longer would pass bugs
    off as mistakes.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def arguments_named() -> Iterator[None]:
    """Within, a mistake names the arguments of a Python function in place of a command's options: fresh=True, out=.

    For the doors of the library that share what they call with a command.
    """
    try:
        yield
    except (UserError, OSError) as error:
        error.args = tuple(_as_arguments(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, OSError) and isinstance(error.strerror, str):
            error.strerror = _as_arguments(error.strerror)
        raise


def _as_arguments(text: str) -> str:
    return _OPTION.sub(_as_argument, text.replace(" (in Python across_commits=True)", ""))


def _as_argument(option: re.Match[str]) -> str:
    name = option[1].replace("-", "_")
    return f"{name}=True" if name in _SWITCHES else f"{name}={option[2] or ''}"


_OPTION = re.compile(r"(?<!\S)--([a-z]+(?:-[a-z]+)*)(?: (\d+))?(?![\w-])")
_SWITCHES = ("across_commits", "fresh", "resume")


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint " Did you mean 'x'?" if a known name is near, otherwise an empty text."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def shown(value: Any, most: int = 60) -> str:
    """A value as a message shows it: on one line, cut where it is longer."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, on one line without its last stop; cut between words if longer, its kind if it is silent."""
    return _shortened(str(error), most) or type(error).__name__


def first_line(error: BaseException, most: int = 200) -> str:
    """The same of its first line: what follows that in torch's errors is a traceback."""
    return _shortened(next(iter(str(error).strip().splitlines()), ""), most) or type(error).__name__


def _shortened(text: str, most: int) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= most else f"{line[: most - 4].rpartition(' ')[0] or line[: most - 4]} ..."
