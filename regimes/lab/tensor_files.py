"""Tensors and plain values in one file: whole at any moment, read without running any code."""

import io
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regimes.errors import UserError, one_line, out_of_memory
from regimes.lab.archives import damage
from regimes.lab.files import cannot_read, write_whole


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file in one step, flushed to the disk: until then the old one stays."""
    buffer = io.BytesIO()
    torch.save(_plain(content), buffer)
    write_whole(path, buffer.getvalue())


def read_tensors(path: Path, advice: str) -> Any:
    """The content on the CPU; every failure is one line that says what the file is, and the advice what to do."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {advice}")
    if path.is_dir():
        inside = next((f", for example {path / name}" for name in ("best.pt", "last.pt") if (path / name).exists()), "")
        raise FileNotFoundError(f"{path} is a folder; {advice}{inside}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        cannot_read(path, error)
    if not start:
        raise UserError(f"{path} is empty; {advice}")
    if start != b"PK\x03\x04":
        raise UserError(f"{path} is no checkpoint: it is not in torch's zip format; {advice}")
    if (wrong := damage(path)) is not None:
        raise UserError(f"{path} is truncated or damaged ({wrong}); copy it again, or {advice}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} asks for more than tensors and plain values, which could run code: it was not read. Check where "
            f"it comes from and {advice}"
        ) from None
    except OSError as error:
        cannot_read(path, error)
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        if out_of_memory(error):
            raise
        reason = one_line(error, 100)
        raise UserError(f"{path} is truncated or damaged ({reason}); copy it again, or {advice}") from None


def _plain(value: Any) -> Any:
    """Containers as dict and list, tensors detached; a schedule's milestones (a Counter) come from the settings.

    A tensor that is a part of a larger one is copied, as torch writes the whole of it.
    """
    if isinstance(value, Tensor):
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value.detach() if whole else value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not isinstance(item, Counter)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values; got {type(value).__name__}.")
