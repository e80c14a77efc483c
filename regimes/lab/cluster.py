"""Many machines: the calls of a sweep on a Dask cluster, the results streamed back to the one process that writes."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from regimes.errors import UserError, one_line
from regimes.threads import share_cores

RETRIES = 3  # of a call whose worker was lost
SECONDS_TO_CONNECT = 10


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """An executor on the cluster whose scheduler listens at `address`, for example tcp://scheduler:8786.

    A call whose worker dies is given to another one. Left by an exception, the calls that wait are cancelled.
    ValueError: `distributed` is not installed, nobody answers there, or there are no workers.
    """
    if "://" not in address:  # distributed would try for long, and leave a traceback
        raise UserError(
            f"--cluster needs the address of a running Dask scheduler, such as tcp://scheduler:8786; got {address!r}. "
            "Start one with: dask scheduler"
        )
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--cluster needs the package distributed: pip install distributed") from None
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = one_line(error, 120)
        raise UserError(
            f"--cluster needs the address of a running Dask scheduler, such as tcp://scheduler:8786; got {address!r}: "
            f"{reason}. Start one with: dask scheduler, and workers with: dask worker {address}"
        ) from None
    try:
        if not client.scheduler_info()["workers"]:
            raise UserError(f"the scheduler at {address} has no workers; start some with: dask worker {address}")
        hosts: Counter[str] = Counter()
        calls_at_once: Any = client.nthreads()
        for worker, calls in calls_at_once.items():  # by address, tcp://host:port
            hosts[worker.rpartition(":")[0]] += calls
        client.run(share_cores, max(hosts.values()))
        executor = client.get_executor(pure=False, retries=RETRIES)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False)  # cancels the calls that wait
            raise
        executor.shutdown()
    finally:
        client.close()
