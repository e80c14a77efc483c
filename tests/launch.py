"""Several processes of one program, for the tests."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
GRACE = 5.0  # seconds; torchrun gives its workers 30


class Ended(NamedTuple):
    """How one process ended, and what it wrote."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """This process's environment for a child that imports regimes from here; what PYTHONPATH held stays on it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}


def launch(count: int, *command: str, **more: str) -> list[Ended]:
    """Run `python COMMAND...` as `count` processes that know each other; where one fails the others are ended."""
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"OMP_NUM_THREADS": "1", **more}
    running = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment(**common, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    while any(process.poll() is None for process in running):
        if any(process.poll() for process in running):  # one has failed
            end = time.monotonic() + GRACE
            while time.monotonic() < end and any(process.poll() is None for process in running):
                time.sleep(0.05)
            for process in running:
                process.terminate()
            break
        time.sleep(0.05)
    written = [process.communicate(timeout=60) for process in running]
    return [Ended(process.returncode, *texts) for process, texts in zip(running, written, strict=True)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
