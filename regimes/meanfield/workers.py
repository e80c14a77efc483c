"""Threads that each take whole tiles of an ensemble, so that they meet once a pass and not in every operation."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

from regimes.control.cores import one_core

T = TypeVar("T")


class Memory:
    """Work memory of one thread: tensors by name, kept from one use to the next; what they held is lost."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Memory of that shape, of the precision and on the device of `like`."""
        size, held = math.prod(shape), self._held.get(name)
        if held is None or held.shape[0] < size or held.dtype != like.dtype or held.device != like.device:
            self._held[name] = held = like.new_empty(size)
        return held[:size].view(shape)


class Workers:
    """Runs a function over items on as many threads as torch may use, each of them computing on one core.

    Threads inside an operation wait for each other at its end: a hundred times in a pass over many tiles, and for
    milliseconds each time if another program holds one of the cores. Results do not depend on the number of threads.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 0
        self._own = threading.local()

    def each(self, work: Callable[[T, Memory], None], items: Sequence[T], *, short: bool = False) -> None:
        """Call work on every item, with the memory of the thread; the first error is raised.

        Short work is done by the calling thread on one core. A single long item is left to the threads of torch.
        """
        threads = torch.get_num_threads()
        if short:
            with one_core():
                self._take(work, iter(items))
        elif min(threads, len(items)) <= 1:
            self._take(work, iter(items))
        else:
            pool, left = self._started(threads), _Shared(items)
            for done in [pool.submit(self._take, work, left) for _ in range(min(threads, len(items)))]:
                done.result()

    def _take(self, work: Callable[[T, Memory], None], items: Iterator[T]) -> None:
        if not hasattr(self._own, "memory"):
            self._own.memory = Memory()
        for item in items:
            work(item, self._own.memory)

    def _started(self, threads: int) -> ThreadPoolExecutor:
        if self._pool is None or self._threads != threads:
            self._pool, self._threads = ThreadPoolExecutor(threads), threads
            ready = threading.Barrier(threads + 1)
            for _ in range(threads):
                self._pool.submit(_compute_on_one_core, ready)
            ready.wait()
            # The setting of a thread is also taken as that of threads to come: put that back.
            torch.set_num_threads(threads)
        return self._pool


class _Shared(Generic[T]):
    """Items that several threads draw from."""

    def __init__(self, items: Sequence[T]) -> None:
        self._lock, self._left = threading.Lock(), iter(items)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            return next(self._left)


def _compute_on_one_core(ready: threading.Barrier) -> None:
    torch.get_num_threads()  # the first call in a thread takes over the setting of the process, and undoes what was set
    torch.set_num_threads(1)
    ready.wait()
