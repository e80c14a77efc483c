"""How many threads a computation takes: by the size of its products, never by the environment or the load.

Threads that share small products spend their time waiting for each other, and where the cores are busy with other work
they wait for ever: the main job took over an hour where one thread needed half a minute. So small work takes one
thread, and large work all cores. The number is a function of the settings and of the machine, so that a run that is
taken up again sums in the same order.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Multiply-adds of one product that are worth one more thread: a few milliseconds of a core, which is what a scheduler
# lets others run for before it comes back.
PER_THREAD = 5e7
_CGROUP = Path("/sys/fs/cgroup/cpu.max")
_sharers = 1


def threads(work: float | int) -> int:
    """Threads for products of `work` multiply-adds each: work / PER_THREAD, at least 1, at most the cores there are.

    `work` is that of the typical operation, the one in which most of the time goes, not the sum of all.
    """
    if not work >= 0:
        raise ValueError(f"threads needs the multiply-adds of a typical product, at least 0; got {work}.")
    return max(1, int(min(work / PER_THREAD, own_cores())))


@contextmanager
def threads_for(work: float | int) -> Iterator[int]:
    """Within, torch, BLAS and OpenMP take `threads(work)` threads, whatever OMP_NUM_THREADS says; then as before.

    For whole computations: it costs milliseconds. Not to be held open by a generator, whose caller would be inside.
    """
    import torch
    from threadpoolctl import threadpool_limits

    count, before = threads(work), torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield count
        finally:
            torch.set_num_threads(before)


def own_cores() -> int:
    """The share of this process in the cores: all of them, unless it is one of several workers of one machine."""
    together = os.environ.get("LOCAL_WORLD_SIZE", "")  # set by torchrun
    sharers = max(_sharers, int(together) if together.isdigit() else 1)
    return max(1, available_cores() // sharers)


def share_cores(workers: int) -> None:
    """From now on this process is one of so many that share the cores; for worker processes, at their start."""
    global _sharers
    _sharers = workers


def wait_quietly() -> None:
    """Have threads that wait give up their core; to be called by a program before it imports torch.

    By default they spin, which on busy cores takes the time of the very threads they wait for. Own settings of the
    user are left as they are, and so are the results: only the waiting changes.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def available_cores() -> int:
    """Cores that this process may use: of the machine, by its affinity, by the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP.read_text(encoding="ascii").split()
        return min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return cores
