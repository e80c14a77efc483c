"""Several processes that train one model together, on one machine or many, as one process on the joined batch would.

Every process holds the whole model and sees its part of each batch. Losses are joined before they are differentiated:
all processes hold the same value V, each differentiates it through its own samples, and the gradient of V is the sum of
what they found. A step with B batch norms takes 2B + 2 calls: forward and back through each norm, one for the losses,
one for gradients, counts and words, and one for each 8 MiB more of gradients, sent while the backward pass goes on.

torch's DistributedDataParallel would do no more than the last: it joins no losses, norms or counts, and in exchange it
takes a wrapper around the model, which saved weights, evaluation, compiling and times would each have to see through.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist

from regimes.errors import UserError
from regimes.launch import LAUNCHED, lacking, number
from regimes.reduction import Reduction

Result = TypeVar("Result")
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # words between processes always go by gloo
MEETING = 120  # seconds in which processes that train together come to their meeting place


class SingleProcess:
    """One process: nothing to join."""

    rank, count = 0, 1
    _heard: tuple[bool, ...] = ()

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def mean(self, samples: int, *values: Tensor) -> tuple[Tensor, ...]:
        """Means over the samples of all processes, from means over `samples` of this one.

        Differentiable where all processes do the same with these means, as with the joined risk: the gradient of each
        comes back to this process's own share, without a word between them.
        """
        return values

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes, the same bits in each; not differentiable."""
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Vectors of all processes in rows; differentiable."""
        return values[None]

    def backward(self, value: Tensor, parameters: Iterable[nn.Parameter], *counts: Tensor) -> tuple[Tensor, ...]:
        """Gradients of a value that all processes hold, and the sums of some whole numbers over the processes."""
        value.backward()
        return counts

    def say(self, *words: bool) -> None:
        """Words for all processes, which go along with the next `backward`."""
        self._heard = words

    def heard(self) -> tuple[bool, ...]:
        """Which of the last words that came along one process at least has said, the same in each."""
        return self._heard

    def by_first(self, act: Callable[[], Result]) -> Result | None:
        """Let the first process act: its result there, None elsewhere; its error everywhere."""
        return act()

    def from_first(self, make: Callable[[], Result]) -> Result:
        """What the first process makes, in each."""
        return make()


SINGLE = SingleProcess()


class ProcessGroup(SingleProcess):
    """One of the processes of torch's default group."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self._words: tuple[bool, ...] = ()
        self._told: list[Tensor] = []
        self._reduction: Reduction | None = None

    def mean(self, samples: int, *values: Tensor) -> tuple[Tensor, ...]:
        """Each process counts by its number of samples; sums in float64."""
        stacked = torch.stack([value.double() for value in values])
        mine = torch.cat([stacked * samples, stacked.new_full((1,), samples)])
        sums = _own_row(mine, self.rank, self.count).sum(0)  # type: ignore[call-arg]
        return tuple(mean.to(value) for mean, value in zip(sums[:-1] / sums[-1], values, strict=True))

    def total(self, values: Tensor) -> Tensor:
        """Added in the order of the ranks."""
        return self.gather(values.detach().flatten()).sum(0).view(values.shape)

    def gather(self, values: Tensor) -> Tensor:
        """Backward: the gradients of a row are added up over the processes."""
        return _gather(values, self.rank, self.count)  # type: ignore[call-arg]

    def backward(self, value: Tensor, parameters: Iterable[nn.Parameter], *counts: Tensor) -> tuple[Tensor, ...]:
        """Each process differentiates the whole value through its own samples; gradients, counts and words add up.

        Most gradients are on their way before the backward pass ends: see `Reduction`.
        """
        trained = list(parameters)
        if self._reduction is None or not _same(self._reduction.parameters, trained):
            self._reduction = Reduction(trained, lambda order: self.from_first(lambda: order))
        words = [value.detach().new_full((), word) for word in self._words]
        sums = self._reduction.backward(value, [*counts, *words])
        self._told = sums[len(counts) :]
        return tuple(sums[: len(counts)])

    def say(self, *words: bool) -> None:
        """Kept until then."""
        self._words = words

    def heard(self) -> tuple[bool, ...]:
        """Waits for the device."""
        return tuple(bool(word) for word in torch.stack(self._told).tolist()) if self._told else ()

    def by_first(self, act: Callable[[], Result]) -> Result | None:
        """The others wait until it is done."""
        results: list[Result] = []
        self.from_first(lambda: results.append(act()))
        return results[0] if self.first else None

    def from_first(self, make: Callable[[], Result]) -> Result:
        """Sent as a pickle from process to process of the same run; an error is raised in each."""
        word: list[Any] = [None, None]
        if self.first:
            try:
                word[0] = make()
            except (ValueError, OSError, RuntimeError) as error:
                word[1] = error
        dist.broadcast_object_list(word, src=0, device=torch.device("cpu"))
        if word[1] is not None:
            raise word[1]
        return word[0]


@contextmanager
def processes(device: str) -> Iterator[SingleProcess]:
    """The processes that torchrun has started, on the graphics card LOCAL_RANK where the device is cuda; or this one.

    A group that the caller has already made is used as it is. A UserError comes to all processes alike, and the group
    is closed: threads of it that still ran could abort the program as it ends. After any other error the group is left:
    the others of it may be gone, and the program is about to end.
    """
    if dist.is_available() and dist.is_initialized():
        yield ProcessGroup()
        return
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE
        return
    if lost := lacking(count):
        raise UserError(
            f"WORLD_SIZE={count} asks for {count} processes, but this one has no {' and no '.join(lost)}: start them "
            "with torchrun, or unset WORLD_SIZE"
        )
    if device == "cuda":
        local, cards = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= cards:
            raise UserError(f"process {local} of this machine has no graphics card: there are {cards}; start fewer")
        torch.cuda.set_device(local)
    if LAUNCHED in os.environ:  # torchrun looks after its processes
        dist.init_process_group(BACKENDS[device])
    else:
        rank = int(os.environ["RANK"])
        dist.init_process_group(BACKENDS[device], store=_meeting(rank, count), rank=rank, world_size=count)
    try:
        yield ProcessGroup()
    except UserError:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _meeting(rank: int, count: int) -> dist.Store:
    """Where processes meet that torchrun has not started; UserError where there is no such place, or nobody comes."""
    host, port = os.environ["MASTER_ADDR"], number(os.environ["MASTER_PORT"])
    if port is None or not 0 < port < 2**16:
        raise UserError(f"MASTER_PORT needs a number from 1 to 65535; got {os.environ['MASTER_PORT']!r}")
    try:
        socket.getaddrinfo(host, port)
    except OSError:
        raise UserError(
            f"MASTER_ADDR={host} is no machine that this one knows: give the address of process 0"
        ) from None
    try:
        return dist.TCPStore(host, port, count, rank == 0, timeout=timedelta(seconds=MEETING), wait_for_workers=True)
    except (dist.DistError, RuntimeError, ValueError) as error:
        if rank == 0 and "EADDRINUSE" in str(error):
            raise UserError(
                f"MASTER_PORT={port} is taken by another program on this machine: set another one, the same for all "
                f"{count} processes"
            ) from error
        raise UserError(
            f"RANK={rank} and WORLD_SIZE={count} say that {count} processes train together, and the others have not "
            f"come to {host}:{port} within {MEETING} s: start all of them, with torchrun, or unset RANK and "
            "WORLD_SIZE"
        ) from error


def restarted() -> bool:
    """Whether torchrun has started this very command before, as it does with --max-restarts where a process dies."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def lost(error: BaseException) -> bool:
    """Whether an error says that another process of the group is gone."""
    text = str(error)
    return isinstance(error, dist.DistError) or "gloo" in text or "NCCL" in text or "onnection closed" in text


def over_processes(mean: Float[Tensor, "*members"], samples: int) -> Float[Tensor, "*members"]:
    """The mean over the samples of all processes of torch's default group, the same bits in each; not differentiable.

    From the mean over `samples` of this one. Without a group, or with one process, the mean itself.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return mean
    part = torch.cat([(mean * samples).flatten(), mean.new_full((1,), samples)])
    total = ProcessGroup().total(part)
    return (total[:-1] / total[-1]).view(mean.shape)


def _same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rank: int, count: int) -> Tensor:
        ctx.rank = rank
        rows = [torch.empty_like(values) for _ in range(count)]
        dist.all_gather(rows, values.contiguous())
        return torch.stack(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        joined = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(joined)
        return joined[ctx.rank], None, None


class _OwnRow(_Gather):
    """The same rows; the gradient is that which this process finds itself, without a call."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient[ctx.rank], None, None


@torch.compiler.disable
def _own_row(values: Tensor, rank: int, count: int) -> Tensor:
    """The vectors of all processes in rows; the gradient of this one's is that which it finds itself."""
    return _OwnRow.apply(values, rank, count)


@torch.compiler.disable
def _gather(values: Tensor, rank: int, count: int) -> Tensor:
    return _Gather.apply(values, rank, count)
