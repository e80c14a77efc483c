"""Worker processes for a sweep: each gets its share of the cores, and none outlives the process that started it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait

from regimes.errors import UserError

# Each worker imports this module before torch and numpy, which read the number of threads at their start.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def worker_pool(workers: int) -> Iterator[Executor | None]:
    """A pool of processes, or None for one worker, which means this process itself.

    Left by an exception, the pool is stopped at once: its running calls are abandoned.
    """
    if workers < 1:
        raise UserError(f"the number of workers needs to be at least 1; got {workers}")
    if workers == 1:
        yield None
        return
    threads = max(1, available_cores() // workers)
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=prepare_worker, initargs=(threads,)
    )
    try:
        yield pool
    except BaseException:
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


def available_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_worker(threads: int) -> None:
    """Give a worker its number of threads, leave Ctrl-C to the parent, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in _THREAD_VARIABLES:
        limit = os.environ.get(variable, "")
        os.environ[variable] = str(min(threads, int(limit)) if limit.isdigit() and int(limit) > 0 else threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
