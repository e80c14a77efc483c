"""Σ x·y over all entries of two states, in float32 at least, in one pass over memory."""

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**16  # numbers that are added up in a row: more would lose digits of float32, or leave the cache


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32 at least."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widened(state: Tensor) -> Tensor:
    """In float32 at least: differences and sums in half precision lose most of their digits."""
    return state.to(wide(state.dtype))


def inner_product(one: Float[Tensor, "n *feature"], other: Float[Tensor, "n *feature"]) -> Float[Tensor, ""]:
    """Σ one·other.

    On a CPU in chunks, so that what is widened stays in the cache; elsewhere a launch costs more than a pass.
    """
    if one.device.type != "cpu":
        return (widened(one) * widened(other)).sum()
    flat = in_memory_order(other, like=other)
    chunks = flat.split(CHUNK)
    if one is other:
        return torch.stack([torch.dot(each, each) for each in map(widened, chunks)]).sum()
    others = in_memory_order(one, like=other).split(CHUNK)
    return torch.stack([torch.dot(widened(a), widened(b)) for a, b in zip(others, chunks, strict=True)]).sum()


def in_memory_order(x: Tensor, *, like: Tensor) -> Tensor:
    """All numbers in a row, in the order in which those of `like` lie in memory."""
    if like.ndim == 4 and like.stride(1) == 1 and like.shape[1] > 1:  # channels last; vmap knows strides alone
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)
