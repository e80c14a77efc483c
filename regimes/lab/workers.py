"""Worker processes for a sweep: each gets its share of the cores, and none outlives the process that started it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait

from regimes.errors import UserError
from regimes.lab.drawing import draw_plainly
from regimes.threads import share_cores, wait_quietly

MOST = 2**31 - 2  # processes that 32 bits count, in which systems do, beside the call that waits for one


@contextmanager
def worker_pool(workers: int) -> Iterator[Executor | None]:
    """A pool of processes, or None for one worker, which means this process itself.

    Left by an exception, the pool is stopped at once: its running calls are abandoned.
    """
    if workers < 1:
        raise UserError(f"the number of workers needs to be at least 1; got {workers}")
    if workers > MOST:
        raise UserError(f"the number of workers needs to be at most {MOST:,}; got {workers:,}")
    if workers == 1:
        yield None
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=prepare_worker, initargs=(workers,)
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


def prepare_worker(workers: int) -> None:
    """Make this process one of so many that share the cores, leave Ctrl-C to the parent, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share_cores(workers)
    wait_quietly()
    draw_plainly()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
