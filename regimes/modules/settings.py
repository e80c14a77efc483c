"""Settings of the process that are other ones for a while, whichever of its threads ask for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch


def counted(change: Callable[[], AbstractContextManager[Any]]) -> Callable[[], AbstractContextManager[None]]:
    """The same change, as a context for several threads: the first one inside makes it, the last to leave undoes it.

    A thread that undid it alone would change it under the others, and one that came later would take the changed
    setting for that of the user.
    """
    lock, made = Lock(), list[AbstractContextManager[Any]]()
    inside = 0

    @contextmanager
    def within() -> Iterator[None]:
        nonlocal inside
        with lock:
            if inside == 0:
                here = change()
                here.__enter__()
                made.append(here)
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if inside == 0:
                    made.pop().__exit__(None, None, None)

    return within


@contextmanager
def _off(owner: Any) -> Iterator[None]:
    before, owner.enabled = owner.enabled, False  # `flags` would touch other settings too, and warn
    try:
        yield
    finally:
        owner.enabled = before


without_cudnn = counted(lambda: _off(torch.backends.cudnn))
_without_onednn = counted(lambda: _off(torch.backends.mkldnn))


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Within, products are in the precision of their operands; the meta device knows no autocast."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def present_autocast(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts with the autocast that is set now; weights are cast anew in each."""
    name = device.type
    if not torch.amp.is_autocast_available(name):
        return nullcontext
    on, kind = torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)
    return lambda: torch.autocast(name, kind, enabled=on, cache_enabled=False)


@contextmanager
def own_kernels() -> Iterator[None]:
    """Within, torch computes by its own kernels, without cuDNN and oneDNN.

    For recurrent layers those of cuDNN have no backward pass in eval mode, and those of oneDNN no forward derivative.
    """
    with without_cudnn(), _without_onednn():
        yield
