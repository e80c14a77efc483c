"""The machine around a computation: precision, denormals, random state, memory, speed, Ctrl-C."""

import ctypes
import multiprocessing
import os
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from regimes.conventions import generator

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product gives the device's rate
PRODUCTS = 7
BYTES = 1 if sys.platform == "darwin" else 1024  # unit of the resident set there and on Linux
MEMINFO = Path("/proc/meminfo")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


@contextmanager
def prepared(seed: int, device: str, *, precision: str = "tf32", cudnn_benchmark: bool | None = None) -> Iterator[None]:
    """Denormal floats are flushed to zero (they slow a CPU down tenfold) and torch's global random state is seeded.

    On a card float32 products take TF32 unless `precision` is fp32, and cudnn tries its algorithms where asked to.
    Afterwards all of this is what it was, and denormals count again, as is torch's default. The peak of a GPU's memory
    counts from here; on a CPU the process keeps its memory from now on.
    """
    if device == "cpu":
        keep_memory()  # before the random state is read, which is a tensor
    with (
        card_settings(device, precision, cudnn_benchmark),
        torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []),
    ):
        torch.manual_seed(seed)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)


@contextmanager
def card_settings(device: str, precision: str, cudnn_benchmark: bool | None = None) -> Iterator[None]:
    """How a card multiplies float32 numbers: in float32 (fp32) or TF32 (any other); whether cudnn tries algorithms.

    Settings of the whole process, put back afterwards. cudnn_benchmark None leaves that one alone; a CPU has none.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    try:
        if device == "cuda":
            matmul.allow_tf32 = cudnn.allow_tf32 = precision != "fp32"
            cudnn.benchmark = before[2] if cudnn_benchmark is None else cudnn_benchmark
        yield
    finally:
        if device == "cuda":
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def keep_memory() -> None:
    """Have Linux's malloc keep what is freed for the next step, which needs as much, and torch take huge pages.

    By default malloc gives large tensors back to the system at each step, which then hands out zeroed pages anew.
    torch reads its variable before its first tensor of this process: later there is no change, and elsewhere than on
    Linux none at all. Both are settings of the whole process, so it is runs that ask for them, and no import does.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Have Linux's malloc give the pages back that hold nothing, which it keeps by default; elsewhere nothing happens.

    Freed tensors below 32 MB stay with it, and new ones of other sizes do not always fit where they were.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def autocast(device: str, bf16: bool) -> AbstractContextManager[Any]:
    """Products in bfloat16 where asked for, otherwise everything as it is."""
    return torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext()


class Stop:
    """Whether somebody has asked the run to stop."""

    asked = False


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, the first Ctrl-C (or SIGTERM) asks the run to stop at its next step; a second one stops it at once.

    A worker of a pool leaves Ctrl-C to its parent, as it was told, and is asked to stop by SIGTERM. There further
    signals change nothing: a pool that has seen one worker end sends all others another SIGTERM, and would take an
    exception for the end of one call only.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    worker = multiprocessing.parent_process() is not None

    def ask(number: int, frame: Any) -> None:
        if stop.asked and not worker:
            raise KeyboardInterrupt
        stop.asked = True

    left = worker and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    kinds = (signal.SIGTERM,) if left else (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, ask) for kind in kinds}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def rng_state() -> dict[str, Any]:
    """State of torch's global random generators."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None}


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put the same back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def matrix_rate(device: str, *, bf16: bool = False) -> float:
    """Flops a second of a large square matrix product on the device, the fastest of a few.

    A CPU's clock is that of the process, all of whose threads work: what others do at the time does not count. float32
    products on a GPU are measured with TF32 where convolutions may use it.
    """
    n = SIDE[device]
    a = torch.randn(n, n, generator=generator(0)).to(device, torch.bfloat16 if bf16 else torch.float32)
    clock = time.perf_counter if device == "cuda" else lambda: time.process_time() / torch.get_num_threads()
    seconds = []
    with card_settings(device, "tf32" if torch.backends.cudnn.allow_tf32 else "fp32"):
        for _ in range(PRODUCTS):
            _wait(device)
            began = clock()
            _ = a @ a
            _wait(device)
            seconds.append(clock() - began)
    return 2 * n**3 / min(seconds)


def peak_memory(device: str) -> float:
    """Most memory so far, in MiB: allocated on a GPU since the run began; on a CPU the process's resident set."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES / 2**20


def free_memory(device: str = "cpu") -> float | None:
    """Bytes that are free on the device, None where the system does not say."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines() if ":" in line)
    return float(lines["MemAvailable"].split()[0]) * 2**10 if "MemAvailable" in lines else None


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
