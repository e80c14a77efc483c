"""One kernel from beginning to end: sizes of blocks, pieces of all samples, tiles; whole, by layers, or into a file."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from regimes.machine import give_back_memory
from regimes.tangent.gram.blocks import Bytes, Layout, Store, cut, folder, layout, strips
from regimes.tangent.gram.features import Features
from regimes.tangent.gram.files import KernelFile
from regimes.tangent.gram.showing import Shown, shown
from regimes.tangent.gram.tiles import Target, fill, side_of, units

_FEW = 32  # passes over fewer samples are slow
_MORE = 2.0  # times the multiply-adds that may be spent on passes over more
_LOOKED_AT = 8  # samples by whose kernel a file is known
_SAME = 1e-3  # relative difference of a kernel formed anew, on another machine or in other blocks


class Task(NamedTuple):
    """What a kernel is made of, and within which bounds. x2 = None: of x with itself, symmetric."""

    features: Features
    x: Tensor
    x2: Tensor | None
    two: Tensor  # different samples, by which memory is foreseen
    memory: int
    block: int | None
    progress: bool | Shown
    caller: str

    @property
    def shape(self) -> tuple[int, ...]:
        n, k = len(self.x), len(self.features.chosen)
        n2 = n if self.x2 is None else len(self.x2)
        return {"full": (n, n2, k, k), "trace": (n, n2), "diagonal": (n, n2, k)}[self.features.outputs.name]

    def empty(self) -> Tensor:
        return torch.zeros(self.shape, dtype=self.features.dtype, device=self.x.device)

    def sized(self) -> "Sized":
        """How samples and outputs are cut into blocks, and how many samples a tile has."""
        n, k = len(self.x), len(self.features.chosen)
        total = n if self.x2 is None else n + len(self.x2)

        def cut_by(peak: Bytes, kept: Bytes) -> Layout:
            return layout(total, k, peak, kept, self.memory, self.block)

        def fits(peak: Bytes, kept: Bytes) -> bool:
            found = cut_by(peak, kept)
            return found.stays and found.at_once >= found.samples

        peak, kept = self.features.measured(self.two, fits)
        sizes = cut_by(peak, kept)
        pair = self.features.dtype.itemsize * self.features.room(min(k, sizes.outputs), n)
        return Sized(sizes, side_of(sizes.tile, pair), kept)

    def parts(self) -> list["Part"]:
        """The whole; of a trace or diagonal whose blocks would have few samples, outputs after outputs.

        Their pairs are those of each output with itself, so that no output waits for another.
        """
        n, k, sized = len(self.x), len(self.features.chosen), self.sized()
        together = [Part(self, slice(0, k), sized)]
        enough = sized.layout.stays or sized.layout.samples >= _FEW or self.block is not None
        if k == 1 or enough or not self.features.outputs.matched:
            return together
        size = k
        while size > 1 and not sized.layout.stays:
            size = ceil(size / 2)
            sized = self._of(slice(0, size), n).sized()
        tasks = [(each, self._of(each, n)) for each in (slice(a, min(a + size, k)) for a in range(0, k, size))]
        if sum(task.features.cost(n) for _, task in tasks) > _MORE * self.features.cost(n):
            return together
        return [Part(task, outputs, sized) for outputs, task in tasks]

    def _of(self, outputs: slice, n: int) -> "Task":
        """The same for some of the chosen outputs."""
        some = self.features._replace(chosen=self.features.chosen[outputs])
        return self._replace(features=some.sized(n, self.memory))

    def stores(self, sized: "Sized", place: str) -> list[Store]:
        """The pieces of one side, or of both."""
        give_back_memory()  # what the checks of the model took and malloc has kept
        k, found, sizes = len(self.features.chosen), [], sized.layout
        for name, x in (("one", self.x), ("other", self.x2)):
            if x is not None:
                home = Path(place) / name
                home.mkdir()
                size = sized.kept.stored(len(x), k, sizes.outputs)
                found.append(Store(cut(len(x), k, sizes), self.features.former(x, sizes), sizes.stays, home, size))
                if sizes.strip == 1:
                    found[-1].fill()
        return found


class Sized(NamedTuple):
    layout: Layout
    side: int  # samples of a tile
    kept: Bytes


class Part(NamedTuple):
    """What is formed at once: a task, its outputs among those chosen, and its sizes."""

    task: Task
    outputs: slice
    sized: Sized

    def target(self, kernel: Tensor) -> Tensor:
        """Where it goes in the kernel of all outputs; to the trace it is added."""
        return kernel[..., self.outputs] if self.task.features.outputs.name == "diagonal" else kernel


def whole(task: Task, file: KernelFile | None) -> Tensor:
    """The kernel, in memory or in the file."""
    every = range(len(task.features.forms))
    if file is None:
        return _in_memory(task, [every])[0]
    if not file.sizes:
        sized = task.sized()
        cut_as = {"layout": list(sized.layout), "side": sized.side, "kept": list(sized.kept)}
        file.begin({**cut_as, "by_rows": not task.features.covered.groups})
    known = file.sizes
    sized = Sized(Layout(*known["layout"]), known["side"], Bytes(*known["kept"]))
    kernel = file.opened(task.caller)
    if file.done:
        _require_same(task, kernel, sized, file)
    with torch.no_grad(), folder() as place, shown(task.progress) as show:

        def after(done: int, total: int) -> None:
            file.finished(done, total)
            show(done, total)

        if not file.complete:
            _filled([(kernel, every)], task, task.stores(sized, place), sized, after, done=file.done)
    return kernel


def _require_same(task: Task, kernel: Tensor, sized: Sized, file: KernelFile) -> None:
    """Refuse to go on with the kernel of another model that has these weights: the first entries are formed anew."""
    k, x2 = len(task.features.chosen), task.x if task.x2 is None else task.x2
    m, outputs = min(_LOOKED_AT, len(task.x), len(x2)), k
    if not file.complete:  # then the first tile is there
        blocks = [cut(len(each), k, sized.layout) for each in (task.x, x2)]
        left, symmetric = strips(blocks[0], sized.layout.strip), task.x2 is None
        first = next(units(left, blocks[1], task.features.outputs, sized.side, symmetric=symmetric))
        m, outputs = min(m, *(part.stop for part in first.parts)), sized.layout.outputs
    both = task.x[:m] if task.x2 is None else torch.cat([task.x[:m], task.x2[:m]])
    few = task._replace(x=both, x2=None, block=None, progress=False)
    fresh = _in_memory(few, [range(len(few.features.forms))])[0]
    some = {"full": (..., slice(outputs), slice(outputs)), "diagonal": (..., slice(outputs)), "trace": (...,)}
    which = some[task.features.outputs.name]
    gap = (kernel[:m, :m][which] - fresh[:m, -m:][which]).norm()
    if not bool(gap <= _SAME * fresh[which].norm()):
        raise ValueError(
            f"{task.caller} finds the kernel of another model in {file.path}, whose weights and inputs are the same. "
            "Name another file, or delete that one and its note."
        )


def by_layer(task: Task) -> dict[str, Tensor]:
    """The kernel of the parameters of each module alone; together they are the whole."""
    names = [group.names[0] for group in task.features.covered.groups] + list(task.features.covered.rest)
    places: dict[str, list[int]] = {}
    for name in task.features.params:  # modules in their own order
        if name in names:
            places.setdefault(name.rpartition(".")[0], []).append(names.index(name))
    return dict(zip(places, _in_memory(task, list(places.values())), strict=True))


def _in_memory(task: Task, chosen: Sequence[Sequence[int]]) -> list[Tensor]:
    """A kernel for each choice of pieces, by their numbers."""
    parts = task.parts()
    kernels = [task.empty() for _ in chosen]
    with torch.no_grad(), shown(task.progress) as show:
        for number, part in enumerate(parts):
            with folder() as place:
                _filled(
                    [(part.target(kernel), each) for kernel, each in zip(kernels, chosen, strict=True)],
                    part.task,
                    part.task.stores(part.sized, place),
                    part.sized,
                    lambda done, total, number=number: show(number * total + done, len(parts) * total),
                    onto=number > 0,
                )
    return kernels


def _filled(
    targets: Sequence[Target],
    task: Task,
    stores: Sequence[Store],
    sized: Sized,
    after: Shown,
    *,
    done: int = 0,
    onto: bool = False,
) -> None:
    features = task.features
    other = stores[1] if len(stores) > 1 else None
    blocks = (strips(stores[0].blocks, sized.layout.strip), stores[-1].blocks)
    fill(
        targets,
        stores[0],
        other,
        blocks,
        features.forms,
        features.outputs,
        sized.side,
        caller=task.caller,
        done=done,
        onto=onto,
        after=after,
    )


def contents(task: Task, pools: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """All tensors that the kernel follows from, by name."""
    model = task.features.model
    trained = torch.tensor([name in task.features.params for name, _ in model.named_parameters()])
    found = [*model.named_parameters(), *model.named_buffers(), ("inputs", task.x), ("outputs", task.features.chosen)]
    found += [("which are trained", trained)]
    found += [("other inputs", task.x2)] if task.x2 is not None else []
    return [*found, *pools.items()]
