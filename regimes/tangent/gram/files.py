"""A kernel in a memory-mapped .npy file, with a note beside it of how far it is: what was stopped goes on."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regimes.modules import dense_parts

_SECONDS = 5.0  # between two notes
_KERNEL = 2  # words of a plan that say which kernel it is; the others say in which order its tiles come


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of names, shapes, dtypes and entries."""
    found = hashlib.sha256()
    for name, tensor in tensors:
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        for part in dense_parts(tensor.detach()):
            plain = part.cpu().contiguous()
            found.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return found.hexdigest()


class KernelFile:
    """The file of one kernel. `plan` says which kernel it is; `sizes` how it is cut, kept from the first launch."""

    def __init__(self, caller: str, path: Path | str, shape: tuple[int, ...], dtype: torch.dtype, plan: str) -> None:
        self.path, self.shape, self.dtype, self.plan = Path(path).expanduser(), shape, dtype, plan
        self.note = self.path.with_name(self.path.name + ".progress.json")
        self.done, self.complete = 0, False
        self.sizes: dict[str, Any] = {}
        self._noted = 0.0
        if not self.path.parent.is_dir():
            raise ValueError(f"{caller} needs out= in a folder that is there; {self.path.parent} is not.")
        if self.note.exists():
            self._go_on(caller)
        elif self.path.exists():
            raise ValueError(
                f"{caller} needs out= as a new file, or one that it began; {self.path} is there. Name another one."
            )

    def _go_on(self, caller: str) -> None:
        try:
            known = json.loads(self.note.read_text())
            plan, done = str(known["plan"]), int(known["done"])
            sizes, complete = dict(known["sizes"]), known["complete"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{caller} cannot read {self.note}: {error}. Delete it and {self.path}.") from error
        words = _KERNEL if complete else None
        if plan.split()[:words] != self.plan.split()[:words]:
            raise ValueError(
                f"{caller} needs out= as a new file, or one begun for this kernel; {self.path} belongs to other "
                "weights, inputs, outputs, blocks or memory, or to another version of regimes. Name another file, or "
                "delete that one and its note."
            )
        if self.path.exists():
            self.done, self.sizes, self.complete = done, sizes, complete

    def begin(self, sizes: Mapping[str, Any]) -> None:
        """Note how a new kernel is cut."""
        self.done, self.complete, self.sizes = 0, False, dict(sizes)
        self._write()

    def opened(self, caller: str) -> Tensor:
        """The kernel in the file."""
        kind = np.dtype(str(self.dtype).removeprefix("torch."))
        if self.done == 0:
            needed, free = prod(self.shape) * kind.itemsize, shutil.disk_usage(self.path.parent).free
            if needed > free + (self.path.stat().st_size if self.path.exists() else 0):
                raise ValueError(
                    f"{caller} needs {needed} bytes for {self.path}; the disk has {free}. Use another one."
                )
            self.map = np.lib.format.open_memmap(self.path, mode="w+", dtype=kind, shape=self.shape)
        else:
            self.map = np.lib.format.open_memmap(self.path, mode="r+")
            if self.map.shape != self.shape or self.map.dtype != kind:
                raise ValueError(f"{caller} finds another array in {self.path}. Delete it and {self.note}.")
        return torch.from_numpy(self.map)

    def restart(self) -> None:
        """Forget what is done: it was cut in another way."""
        self.done, self.sizes, self.complete = 0, {}, False

    def finished(self, done: int, total: int) -> None:
        """Note it, if the last note is some seconds old or this is the end; what is noted is on the disk."""
        self.done, self.complete = done, done == total
        if done == total or time.monotonic() - self._noted > _SECONDS:
            self.map.flush()
            self._write()
            self._noted = time.monotonic()

    def _write(self) -> None:
        fresh = self.note.with_name(self.note.name + ".new")
        fresh.write_text(json.dumps({name: getattr(self, name) for name in ("plan", "done", "complete", "sizes")}))
        os.replace(fresh, self.note)
