"""Files in the safetensors format: a header in JSON, then the bytes of the tensors. No code is in them, none is run."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regimes.errors import UserError

SUFFIX = ".safetensors"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
MOST_HEADER = 100 * 2**20


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; UserError for what is damaged or of another kind."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(MOST_HEADER, len(data) - 8):
        raise _damaged(path, "its header does not fit into it")
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError:
        raise _damaged(path, "its header is no JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no table")
    body = memoryview(data)[8 + size :]
    return {name: _tensor(path, name, entry, body) for name, entry in header.items() if name != "__metadata__"}


def _tensor(path: Path, name: str, entry: Any, body: memoryview) -> Tensor:
    try:
        dtype, shape = DTYPES[entry["dtype"]], [int(size) for size in entry["shape"]]
        begin, end = (int(place) for place in entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"{name!r} has no dtype that is known, no shape or no place") from None
    length = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(body) or end - begin != length:
        raise _damaged(path, f"the bytes of {name!r} are not there")
    if length == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(body[begin:end]), dtype=dtype).reshape(shape)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is no whole safetensors file: {what}; copy it again")
