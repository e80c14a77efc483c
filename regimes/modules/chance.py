"""Random numbers that a call draws from torch's, Python's or NumPy's global generators: seen, and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Generators(NamedTuple):
    """The states of the global generators."""

    cpu: Tensor
    cards: list[Tensor]
    python: Any
    numpy: dict[str, Any]


def generators() -> Generators:
    """Where they stand now; cards are asked only if they are in use."""
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what is looked at
    return Generators(torch.get_rng_state(), cards, random.getstate(), state)


def drawn(since: Generators) -> bool:
    """Whether one of them has moved."""
    now = generators()
    own, other = since.numpy["state"], now.numpy["state"]
    same = torch.equal(since.cpu, now.cpu) and since.python == now.python
    same = same and own["pos"] == other["pos"] and np.array_equal(own["key"], other["key"])
    # Cards that came into use since are not counted: their generators were not asked before.
    return not (same and all(map(torch.equal, since.cards, now.cards)))


@contextmanager
def chance_restored() -> Iterator[Generators]:
    """Afterwards the generators stand where they stood; gives their states from before."""
    before = generators()
    try:
        yield before
    finally:
        torch.set_rng_state(before.cpu)
        if before.cards:
            torch.cuda.set_rng_state_all(before.cards)
        random.setstate(before.python)
        np.random.set_state(before.numpy)  # noqa: NPY002
