"""How many cores the operations of a thread use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Numbers in a tensor up to which an operation on it is short.
SHORT = 2**20


@contextmanager
def one_core() -> Iterator[None]:
    """Operations of the calling thread use one core inside, and as many as before afterwards.

    For short operations, a millisecond or less, where waiting for other threads costs more than they help; if another
    program holds a core that wait is several milliseconds each time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_core_if_short(part: Tensor) -> Iterator[None]:
    """`one_core` for operations on tensors like this one if they are on a CPU and short."""
    if part.device.type == "cpu" and part.numel() <= SHORT:
        with one_core():
            yield
    else:
        yield
