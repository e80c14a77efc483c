"""Whether a call of a model changes what it holds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def untouched_buffers(model: nn.Module, caller: str) -> Iterator[None]:
    """Refuse a model whose call changes its buffers, and put them back as they were, also when the call fails."""
    places = [
        (f"{prefix}.{name}" if prefix else name, module, name, buffer, buffer.detach().clone())
        for prefix, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    changed: list[str] = []
    try:
        yield
    finally:
        with torch.no_grad():
            for place, module, name, buffer, before in places:
                if module._buffers.get(name) is not buffer or not _same(buffer, before):
                    changed.append(place)
                    buffer.copy_(before)
                    module._buffers[name] = buffer
    if changed:
        raise ValueError(
            f"{caller} needs a model that a call leaves as it is; this one changes its buffer {changed[0]!r} "
            "(which was put back): call model.eval() first."
        )


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
