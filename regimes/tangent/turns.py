"""One thread at a time works on a model: derivatives put values in for its parameters, which every thread would see."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from regimes.modules import unwrapped
from regimes.tangent.inputs import Adapted

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_GUARD = Lock()


@contextmanager
def turn(model: Any) -> Iterator[None]:
    """Wait until no other thread works on the model, whatever it is wrapped in; what is no module has no turns."""
    inner = model.model if isinstance(model, Adapted) else model
    if not isinstance(inner, nn.Module):
        yield
        return
    with _GUARD:
        lock = _LOCKS.setdefault(unwrapped(inner), RLock())
    with lock:
        yield
