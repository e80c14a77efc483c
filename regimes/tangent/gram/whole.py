"""One kernel from beginning to end: sizes of blocks, pieces of all samples, tiles; whole, by layers, or into a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from regimes.tangent.gram.blocks import Bytes, Layout, Store, cut, folder, layout, strips
from regimes.tangent.gram.features import Features
from regimes.tangent.gram.files import KernelFile
from regimes.tangent.gram.showing import Shown, shown
from regimes.tangent.gram.tiles import Target, fill, side_of


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
            return found.stays and found.samples == min(total, self.block or total)

        peak, kept = self.features.measured(self.two, fits)
        sizes = cut_by(peak, kept)
        pair = self.features.dtype.itemsize * self.features.room(min(k, sizes.outputs), n)
        return Sized(sizes, side_of(sizes.tile, pair), kept)

    def stores(self, sized: "Sized", place: str) -> list[Store]:
        """The pieces of one side, or of both."""
        k, found, sizes = len(self.features.chosen), [], sized.layout
        for name, x in (("one", self.x), ("other", self.x2)):
            if x is not None:
                home = Path(place) / name
                home.mkdir()
                size = sized.kept.stored(len(x), k, sizes.outputs)
                found.append(Store(cut(len(x), k, sizes), self.features.former(x), sizes.stays, home, size))
                if sizes.strip == 1:
                    found[-1].fill()
        return found


class Sized(NamedTuple):
    layout: Layout
    side: int  # samples of a tile
    kept: Bytes


def whole(task: Task, file: KernelFile | None) -> Tensor:
    """The kernel, in memory or in the file."""
    if file is None:
        sized, kernel = task.sized(), task.empty()
    else:
        if not file.sizes:
            sized = task.sized()
            cut_as = {"layout": list(sized.layout), "side": sized.side, "kept": list(sized.kept)}
            file.begin({**cut_as, "by_rows": not task.features.covered.groups})
        known = file.sizes
        sized = Sized(Layout(*known["layout"]), known["side"], Bytes(*known["kept"]))
        kernel = file.opened(task.caller)
    with torch.no_grad(), folder() as place, shown(task.progress) as show:

        def after(done: int, total: int) -> None:
            if file is not None:
                file.finished(done, total)
            show(done, total)

        if file is not None and file.complete:
            return kernel
        stores = task.stores(sized, place)
        every = range(len(task.features.forms))
        _filled([(kernel, every)], task, stores, sized, after, 0 if file is None else file.done)
    return kernel


def by_layer(task: Task) -> dict[str, Tensor]:
    """The kernel of the parameters of each module alone; together they are the whole."""
    names = [group.names[0] for group in task.features.covered.groups] + list(task.features.covered.rest)
    places: dict[str, list[int]] = {}
    for name in task.features.params:  # modules in their own order
        if name in names:
            places.setdefault(name.rpartition(".")[0], []).append(names.index(name))
    sized, kernels = task.sized(), {layer: task.empty() for layer in places}
    with torch.no_grad(), folder() as place, shown(task.progress) as show:
        targets = [(kernels[layer], chosen) for layer, chosen in places.items()]
        _filled(targets, task, task.stores(sized, place), sized, show, 0)
    return kernels


def _filled(
    targets: Sequence[Target], task: Task, stores: Sequence[Store], sized: Sized, after: Shown, done: int
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
