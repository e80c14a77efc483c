"""One path through torch's attention layers, with and without gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_path() -> Iterator[None]:
    """Within, torch's transformer layers take the way that they take in training.

    Without gradients and in eval mode they take a fused one by default, which with a padding mask gives zeros in the
    padded places, and nested tensors between the layers: another function than the one that is trained. It is a
    setting of the process, put back afterwards; a compiled call keeps the way that the compiler found.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    if torch.compiler.is_compiling() or not before:
        yield
        return
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
