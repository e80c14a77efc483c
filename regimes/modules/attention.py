"""One path through torch's attention layers, with and without gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from regimes.modules.settings import counted


@contextmanager
def _slow_path() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_one_path, _by_formula = counted(_slow_path), counted(lambda: sdpa_kernel(SDPBackend.MATH))


@contextmanager
def one_path() -> Iterator[None]:
    """Within, torch's transformer layers take the way that they take in training.

    Without gradients and in eval mode they take a fused one by default, which with a padding mask gives zeros in the
    padded places, and nested tensors between the layers: another function than the one that is trained. It is a
    setting of the process, put back where the last thread leaves; a compiled call keeps the way that the compiler
    found.
    """
    if torch.compiler.is_compiling():
        yield
        return
    with _one_path():
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within, attention is computed by its formula and on `one_path`: fused kernels have one derivative or none."""
    if torch.compiler.is_compiling():
        with sdpa_kernel(SDPBackend.MATH):
            yield
        return
    with _one_path(), _by_formula():
        yield
