"""Gradients added up over several processes in few calls, most of them while the backward pass still goes on."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

PART = 2**23  # bytes of gradients sent at once: few calls, and little is left when the backward pass ends


class Reduction:
    """Backward passes through some parameters, whose gradients are summed over the processes of torch's default group.

    Gradients are joined to parts of about PART bytes. A part is sent as soon as its gradients are there and the parts
    before it are sent, so that the calls of all processes meet. Which gradients come, and in which order, is seen in
    the first backward pass; `agreed` makes what one process saw that of all. The last part of each pass, and in the
    first one every part, is sent at its end. Gradients are None before it; all processes use the parameters alike.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], agreed: Callable[[list[int]], list[int]]) -> None:
        self.parameters, self._agreed = list(parameters), agreed
        self._parts: list[list[int]] | None = None  # parameters by their number

    def backward(self, value: Tensor, numbers: Sequence[Tensor] = ()) -> list[Tensor]:
        """Differentiate the value; the sums of `numbers` over the processes, which go along with the last part.

        Whole numbers are exact up to 16 million.
        """
        came: dict[int, None] = {}  # in this order
        early = (self._parts or [])[:-1]
        sent: list[_Sum] = []

        def come(number: int, parameter: nn.Parameter) -> None:
            came[number] = None
            while len(sent) < len(early) and all(one in came for one in early[len(sent)]):
                sent.append(_Sum(self._gradients(early[len(sent)])))

        hooks = [
            parameter.register_post_accumulate_grad_hook(partial(come, number))
            for number, parameter in enumerate(self.parameters)
            if parameter.requires_grad
        ]
        try:
            value.backward()
        finally:
            for hook in hooks:
                hook.remove()
        if self._parts is None:
            self._parts = self._cut(self._agreed(list(came)))
        known = {one for part in self._parts for one in part}
        *rest, last = self._parts[len(sent) :] or [[]]
        last = [*last, *(one for one in came if one not in known)]
        sent += [_Sum(self._gradients(part)) for part in rest]
        sums = [number.detach().clone() for number in numbers]
        sent.append(_Sum(self._gradients(last), sums))
        for each in sent:
            each.receive()
        return sums

    def _gradients(self, part: Sequence[int]) -> list[Tensor]:
        return [grad for one in part if (grad := self.parameters[one].grad) is not None]

    def _cut(self, order: Sequence[int]) -> list[list[int]]:
        """Parts of one dtype and about PART bytes."""
        parts: list[list[int]] = []
        size, dtype = 0, None
        for number in order:
            parameter = self.parameters[number]
            if not parts or size >= PART or parameter.dtype != dtype:
                parts.append([])
                size, dtype = 0, parameter.dtype
            parts[-1].append(number)
            size += parameter.numel() * parameter.element_size()
        return parts


class _Sum:
    """A sum over the processes on its way: of gradients of one dtype, and of numbers, which are exact in float32."""

    def __init__(self, gradients: Sequence[Tensor], numbers: Sequence[Tensor] = ()) -> None:
        self.targets = [*gradients, *numbers]
        least = [torch.float32] if numbers else []
        dtypes = [*(target.dtype for target in self.targets), *least]
        self.joined, self.work = None, None
        if self.targets:
            dtype = reduce(torch.promote_types, dtypes)
            self.joined = torch.cat([target.reshape(-1).to(dtype) for target in self.targets])
            self.work: Any = dist.all_reduce(self.joined, async_op=True)

    def receive(self) -> None:
        """Wait for the sums, and put them in the place of what was sent."""
        if self.joined is None:
            return
        self.work.wait()
        parts = self.joined.split([target.numel() for target in self.targets])
        for target, part in zip(self.targets, parts, strict=True):
            target.copy_(part.view(target.shape))
