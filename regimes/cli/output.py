"""What the program says: on streams that may be closed, full, or of few characters, it never ends a run.

A reader who has seen enough (`| head -1`) is no error: the rest of the output is dropped, and what a run has to keep it
keeps in its folder.
"""

import codecs
import errno
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PLAIN = {
    **{"α": "alpha", "β": "beta", "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu"},
    **{"π": "pi", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta", "Σ": "Sum", "√": "sqrt"},
    **{"−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "±": "+-", "≤": "<=", "≥": ">=", "≈": "~", "→": "->"},
    **{"‖": "||", "∞": "inf", "²": "^2", "³": "^3", "½": "1/2", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"'},
    **{"✓": "ok", "∈": "in", "∂": "d", "∇": "grad", "ᵀ": "^T", "₀": "0", "₁": "1", "₂": "2", "ℝ": "R", "⟨": "<"},
    **{"⟩": ">", "′": "'", "°": " degrees", "†": "+", "∫": "int", "⁻": "^-", "¹": "^1", "ᵢ": "_i", "ₚ": "_p"},
}


def plainly(error: UnicodeError) -> tuple[str, int]:
    """For codecs: what a stream cannot show in characters that it can, a question mark for the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(_plain(character) for character in error.object[error.start : error.end])
    with suppress(UnicodeError):  # é in a code page that has it not, but has e
        text.encode(error.encoding)
        return text, error.end
    return "?" * (error.end - error.start), error.end


def _plain(character: str) -> str:
    if character in PLAIN:
        return PLAIN[character]
    if unicodedata.combining(character):
        return "~"  # a bar or a tilde over the letter before
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return bare or "?"


codecs.register_error("regimes.plainly", plainly)


class Output(io.TextIOBase):
    """A stream whose writes do not fail: a broken one is replaced by nothing, and `failure` says why."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="regimes.plainly")

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How the stream shows what it has no character for."""
        return getattr(self._stream, "errors", None)

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return self.failure is None and self._stream.isatty()

    def fileno(self) -> int:
        """That of the stream."""
        return self._stream.fileno()

    def write(self, text: str, /) -> int:
        """Write, or drop what a broken stream does not take."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """From now on the file of the stream is the null device, also for what is still buffered and for children."""
        self.failure = self.failure or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        with suppress(OSError, ValueError):
            self._stream.flush()


@contextmanager
def safe_streams() -> Iterator[tuple[Output, Output]]:
    """`sys.stdout` and `sys.stderr` as Outputs, also where the caller has closed them (`>&-`)."""
    _occupy()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = Output(before[0] or nowhere), Output(before[1] or nowhere)
        sys.stdout, sys.stderr = out, err
        try:
            yield out, err
        finally:
            out.flush()
            err.flush()
            sys.stdout, sys.stderr = before


def unread(out: Output) -> OSError | None:
    """Why the output was lost, unless its reader has just stopped to read."""
    failure = out.failure
    return None if failure is None or failure.errno in (errno.EPIPE, errno.EINVAL) else failure


def _occupy() -> None:
    """Open the null device in the places of closed standard streams: the next file would take the place, and be
    written into by whatever writes to the screen."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
