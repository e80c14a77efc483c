"""Where a compiled network runs as it is written, so that no other size, mode or purpose is compiled for."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def is_compiled(model: nn.Module) -> bool:
    """Whether `model.compile()` was called."""
    return getattr(model, "_compiled_call_impl", None) is not None


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Within, a compiled network runs as it is written, where torch can (from 2.6 on); any other is left alone."""
    stance = getattr(torch.compiler, "set_stance", None)
    if not is_compiled(model) or stance is None:
        yield
        return
    with stance("force_eager"):
        yield
