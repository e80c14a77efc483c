"""Trainings in the midst of a call of `measure`, kept on the disk: a call that was stopped goes on from there."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from torch import Tensor

from regimes.errors import UserError, one_line, out_of_memory
from regimes.lab.runs import differences
from regimes.lab.tensor_files import read_tensors, write_tensors
from regimes.machine import rng_state, set_rng_state, stoppable

FILE, PROGRAM, VERSION = "trainings.pt", "regimes verify", 1
SECONDS = 60.0  # between two times of keeping, as in `train`
_ADVICE = "delete it, and what it is of is measured from the start"


@runtime_checkable
class Resumable(Protocol):
    """What moves, such as a `Training`: its state as tensors and plain values, and how it is put back."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the same back."""
        ...


class Unfinished:
    """Trainings at one position, and what was seen of each on the way, in one file of a folder; None keeps nothing.

    whose: settings, seeds and samples, as plain values, by which the file is known as theirs.
    """

    def __init__(self, folder: Path | None, whose: Mapping[str, Any], trainings: Sequence[Resumable]) -> None:
        self.path = None if folder is None else folder / FILE
        self.whose, self.trainings = json.loads(json.dumps(whose)), trainings
        self.kept = time.monotonic()

    def take_up(self) -> list[Any]:
        """Put trainings and random state where they were left; what was seen of each, nothing where all is new.

        UserError where the file is damaged, or was kept for something else.
        """
        if self.path is None or not self.path.exists():
            return []
        held = read_tensors(self.path, _ADVICE)
        try:
            if (held["program"], held["version"]) != (PROGRAM, VERSION):
                raise ValueError(f"it is of {held['program']!r}, version {held['version']!r}")
            for key, there, here in differences(held["whose"], self.whose, ""):
                raise UserError(
                    f"{self.path} was kept for something else: {key} is {there!r} in it, {here!r} here; {_ADVICE}"
                )
            for training, state in zip(self.trainings, held["trainings"], strict=True):
                training.load_state_dict(state)
            set_rng_state(held["rng"])
            seen = list(held["seen"])
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            unfit = UserError(f"{self.path} does not fit ({one_line(error, 120)}); {_ADVICE}")
            raise error if out_of_memory(error) else unfit from None
        return seen

    def keep(self, seen: Sequence[Any]) -> None:
        """Write what the trainings go on from, in one step: until then the old file stays.

        It stays, too, where a state is no longer finite, which no training can take up: a diverged one goes on from
        where it was finite, and diverges again.
        """
        if self.path is None:
            return
        states = [training.state_dict() for training in self.trainings]
        if not _finite(states):
            self.kept = time.monotonic()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"program": PROGRAM, "version": VERSION, "whose": self.whose, "trainings": states}
        write_tensors(self.path, {**content, "rng": rng_state(), "seen": list(seen)})
        self.kept = time.monotonic()

    @contextmanager
    def watched(self, seen: Callable[[], Sequence[Any]]) -> Iterator[Callable[[], None]]:
        """Within, call what is yielded after each step: it keeps from time to time, and stops where that was asked.

        The end is kept as well, so that nothing is trained again where a call is stopped in what follows.

        seen: what was seen of each training so far; called before these are kept, which may be moved to their present
        position by it. After Ctrl-C or SIGTERM, once the state of that step was kept: KeyboardInterrupt, and in a
        worker process its end, however many signals came.
        """
        if self.path is None:
            yield lambda: None
            return
        with stoppable() as stop:

            def stepped() -> None:
                if stop.asked or time.monotonic() - self.kept >= SECONDS:
                    self.keep(seen())
                if stop.asked:
                    _end()

            yield stepped
            self.keep(seen())  # the end, too: what is measured next may be stopped as well
        if stop.asked:
            _end()


def _finite(state: Any, *, masks: bool = True) -> bool:
    """Whether all tensors in these containers are finite; masks, which models hold as buffers, may hold −inf."""
    if isinstance(state, Tensor):
        return bool((state.isfinite() | (state == -inf)).all() if masks else state.isfinite().all())
    if isinstance(state, Mapping):
        return all(_finite(part, masks=masks and name != "optimizer") for name, part in state.items())
    return all(_finite(part, masks=masks) for part in state) if isinstance(state, list | tuple) else True


def _end() -> NoReturn:
    """End this call; a worker ends as a whole, as it would take an exception for that of one call and go on."""
    if multiprocessing.parent_process() is not None:
        os._exit(128 + signal.SIGTERM)
    raise KeyboardInterrupt
