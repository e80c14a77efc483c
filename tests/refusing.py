"""Calls that may be refused: what they give, or the words of the refusal."""

from collections.abc import Callable
from typing import Any


def given_or_refused(call: Callable[[], Any], error: type[Exception] = ValueError) -> tuple[Any, str]:
    """What the call gives and no words, or None and the words of an error of this kind."""
    try:
        return call(), ""
    except error as refusal:
        return None, str(refusal)
