"""The bytes that a call takes: counted tensor by tensor as it runs, so that a few samples tell what many will take."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from regimes.modules import dense_parts


class _Live(TorchDispatchMode):
    """Bytes of all storages made inside that are alive, and the most that were."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self._seen = {part.untyped_storage()._cdata for tensor in known for part in dense_parts(tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and not isinstance(args[0], Tensor):
            return args[0]  # a number that a graph saved comes as a number, which this operation does not take
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            for part in dense_parts(leaf) if isinstance(leaf, Tensor) else ():
                self._add(part.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def most_bytes(call: Callable[[], Any], known: Iterable[Tensor]) -> tuple[int, Any]:
    """The most bytes of tensors that were alive during the call, without the known ones, and its result."""
    with _Live(known) as live:
        result = call()
    return live.most, result
