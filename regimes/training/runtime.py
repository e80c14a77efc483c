"""The machine around a run: precision, denormals, random state, Ctrl-C, finite numbers."""

import ctypes
import math
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from regimes.training.divergence import Diverged
from regimes.training.loop import Step

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


@contextmanager
def prepared(seed: int, device: str) -> Iterator[None]:
    """Denormal floats are flushed to zero (they slow a CPU down tenfold) and torch's global random state is seeded.

    Afterwards denormals count again, as is torch's default, and the random state is what it was. The peak of a GPU's
    memory counts from here; on a CPU the process keeps its memory from now on.
    """
    if device == "cpu":
        keep_memory()  # before the random state is read, which is a tensor
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)


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


def autocast(device: str, bf16: bool) -> AbstractContextManager[Any]:
    """Products in bfloat16 where asked for, otherwise everything as it is."""
    return torch.autocast(device, dtype=torch.bfloat16) if bf16 else nullcontext()


class Stop:
    """Whether somebody has asked the run to stop."""

    asked = False


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, the first Ctrl-C (or SIGTERM) asks the run to stop at its next step; a second one stops it at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class Guard:
    """Watches that losses stay finite: each step on a CPU, else every `every` steps, so that a GPU need not wait."""

    def __init__(self, device: str, advice: Callable[[], str], every: int = 50) -> None:
        self.every = 1 if device == "cpu" else every
        self.advice = advice
        self.unread: list[Step] = []
        self.step: Step | None = None
        self.loss = float("nan")

    def see(self, step: Step) -> None:
        """Take in a step; Diverged if a loss that is read now is not finite."""
        self.step = step
        self.unread.append(step)
        if len(self.unread) >= self.every:
            self.read()

    def read(self) -> None:
        """Read the losses of the steps since the last time."""
        steps, self.unread = self.unread, []
        if not steps:
            return
        for step, loss in zip(steps, torch.stack([step.value for step in steps]).tolist(), strict=True):
            if not math.isfinite(loss):
                self._fail(step, f"the loss is {loss}")
            self.loss = loss

    def check(self, model: nn.Module) -> None:
        """Diverged unless all losses so far and all weights are finite; to be called before they are saved."""
        self.read()
        if self.step is not None and not all_finite(model.state_dict().values()):
            self._fail(self.step, "a weight is no longer finite")

    def _fail(self, step: Step, what: str) -> None:
        before = "no loss before was finite" if math.isnan(self.loss) else f"the last finite loss was {self.loss:.4g}"
        reason = f"epoch {step.epoch + 1}, step {step.number + 1}: {what}, {before}"
        raise Diverged(f"diverged at {reason}; {self.advice()}", reason)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())
