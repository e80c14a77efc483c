"""How large a network of the table would be, told before any of it is made."""

from collections.abc import Mapping
from typing import Any

import torch

from regimes.errors import UserError, one_line
from regimes.machine import free_memory
from regimes.models.build import build
from regimes.models.residual import parameter_count

NUMBER = 4  # bytes of a float32


def refuse_too_large(arch: str, options: Mapping[str, Any], shape: tuple[int, ...], classes: int) -> None:
    """UserError if the weights alone need more memory than is free: counted from their shapes, without any."""
    said = ", ".join(f"{name}={value!r:.40}" for name, value in options.items()) or "its own options"
    try:
        with torch.device("meta"):
            count = parameter_count(build(arch, shape, classes, **options))
    except ValueError as error:
        text = str(error)
        raise UserError(text if len(text) <= 500 else f"{text[:497]}...") from error
    except (RuntimeError, OverflowError, MemoryError) as error:
        reason = one_line(error, 100)
        raise UserError(f"{arch} with {said} cannot be made ({reason}): take smaller arch_options") from error
    free = free_memory()
    if free is not None and NUMBER * count > free:
        raise UserError(
            f"{arch} with {said} has {count:.3g} parameters, {NUMBER * count / 2**30:,.1f} GiB of weights alone, and "
            f"{free / 2**30:.1f} GiB of memory are free: take smaller arch_options"
        )
