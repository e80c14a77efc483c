"""Full precision for derivatives and kernels, whatever the settings around them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from regimes.modules import counted, one_path, without_autocast


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast on the device, and float32 products of float32 numbers (no TensorFloat-32, no bfloat16 passes).

    Transformer layers take their plain path, which has forward derivatives.

    Autocast belongs to the thread. The precision of products belongs to the process: while any thread is inside, all
    compute in full precision, and the last one to leave puts the settings back.
    """
    with one_path(), _precise(), without_autocast(device):
        yield


@contextmanager
def _exact() -> Iterator[None]:
    found = _reduced()
    for owner, name, value in found:
        _set(owner, name, "highest" if owner is torch else "ieee" if isinstance(value, str) else False)
    try:
        yield
    finally:
        for owner, name, value in found:
            _set(owner, name, value)


_precise = counted(_exact)


def _reduced() -> list[tuple[Any, str, Any]]:
    """(owner, attribute, value) of the settings by which products are less precise than their numbers."""
    backends, found = torch.backends, list[tuple[Any, str, Any]]()
    try:
        if (value := torch.get_float32_matmul_precision()) != "highest":
            found.append((torch, "float32_matmul_precision", value))
    except RuntimeError:
        pass  # set by the newer names below only
    if not hasattr(backends, "fp32_precision"):  # before torch 2.9
        return found + [(backends.cudnn, "allow_tf32", True)] * backends.cudnn.allow_tf32
    kinds = [("cuda", "matmul"), ("mkldnn", "matmul")]
    kinds += [(library, kind) for library in ("cudnn", "mkldnn") for kind in ("conv", "rnn")]
    owners = [getattr(getattr(backends, library), kind, None) for library, kind in kinds]
    return found + [
        (owner, "fp32_precision", owner.fp32_precision)
        for owner in owners
        if owner is not None and owner.fp32_precision not in ("ieee", "none")
    ]


def _set(owner: Any, name: str, value: Any) -> None:
    if owner is torch:
        torch.set_float32_matmul_precision(value)
    else:
        setattr(owner, name, value)
