"""Reduced costs ‖x_i − y_j‖^p − u_i − v_j over ALL pairs in O(n) memory: which are smallest, which are negative."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import count, finite, real, shapes
from regimes.transport.cost import Matrix, Vector, check_exponent, edge_cost
from regimes.transport.partition import Blocks, kd_blocks, lower_bound
from regimes.transport.screening import WIDTH, Cloud, Screen, screen, single_screen

LOW_DIMENSION = 8  # up to here boxes tell far from near, beyond they all overlap
BLOCK = 128  # points of a block where boxes help
ENTRIES = 6_400_000  # pairs looked at together where they do not
ON_A_CARD = 16  # times as many points and pairs together where each step has to be sent to a card
PILOT = 64  # rows that tell whether single precision is sharp enough
SPURIOUS = 16  # pairs a row that it may pass in vain


class Priced(NamedTuple):
    """Pairs whose reduced cost lies below the level asked for, and the least of each row (level where none does)."""

    rows: Int[np.ndarray, "e"]
    columns: Int[np.ndarray, "e"]
    reduced: Float[np.ndarray, "e"]
    row_least: Float[np.ndarray, "n"]


class _Found:
    """Pairs collected block by block, in arrays that double when full.

    Kept as many small arrays instead, they would settle in the gaps that the large ones of each block leave behind,
    and the heap would grow by a block at every step: to 18 GB at 50,000 points.
    """

    def __init__(self):
        self.count = 0
        self.rows, self.columns, self.reduced = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024)

    def add(self, rows: np.ndarray, columns: np.ndarray, reduced: np.ndarray) -> None:
        end = self.count + len(rows)
        if end > len(self.rows):
            size = max(end, 2 * len(self.rows))
            self.rows, self.columns = np.resize(self.rows, size), np.resize(self.columns, size)
            self.reduced = np.resize(self.reduced, size)
        part = slice(self.count, end)
        self.rows[part], self.columns[part], self.reduced[part] = rows, columns, reduced
        self.count = end


class _Look:
    """The bounds of one block of rows at some columns: the pairs above a level, and the largest of a row."""

    def __init__(self, filter: Screen, at: Tensor, level: float, room: Tensor):
        width, count = room.shape[2], len(filter.right)
        self.parts = room[: -(-count // width), : len(at)]
        self.top, rows, places = torch.full((len(at),), -torch.inf, dtype=room.dtype, device=room.device), [], []
        for k, part in enumerate(self.parts):
            inside = slice(k * width, min((k + 1) * width, count))
            part[:, inside.stop - inside.start :] = -torch.inf
            bound = filter.fill(at, inside, part[:, : inside.stop - inside.start])
            top = bound.amax(1)
            self.top = torch.maximum(self.top, top)
            some = torch.nonzero(top > level)[:, 0]
            if len(some):
                i, j = torch.nonzero(bound[some] > level, as_tuple=True)
                rows.append(some[i])
                places.append(j + inside.start)
        empty = torch.empty(0, dtype=torch.int64, device=at.device)
        self.rows, self.places = torch.cat(rows or [empty]), torch.cat(places or [empty])
        self.hits = torch.bincount(self.rows, minlength=len(at))

    def of(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs above the level in rows for which `chosen` is true."""
        inside = chosen[self.rows]
        return self.rows[inside], self.places[inside]

    def largest(self, which: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The `most` largest bounds of some rows and where they are."""
        return self.parts[:, which].movedim(0, 1).flatten(1).topk(most, dim=1)


class Pricer:
    """Looks at all pairs of two clouds, again and again with other potentials.

    A matrix product bounds every reduced cost with a known rounding error; it serves as a filter that errs on the safe
    side, and the pairs that pass are computed anew from differences. In up to 8 dimensions pairs of blocks whose
    lower bound exceeds the level are passed over. The work runs on `device`, the answer is on the CPU. On a card the
    pairs that pass are computed anew there, in double precision.
    """

    def __init__(self, x: Matrix, y: Float[np.ndarray, "m d"], p: float, *, device: torch.device | str = "cpu"):
        real("Pricer", numpy=True, x=x, y=y)
        shapes("Pricer", x=(x, "n d"), y=(y, "m d"))
        self.x, self.y, self.p, self.device = x, y, p, torch.device(device)
        self.on_card = self.device.type != "cpu"
        self.points: tuple[Tensor, ...] = (self._move(x), self._move(y)) if self.on_card else ()
        check_exponent(p)
        self.compact = x.shape[1] <= LOW_DIMENSION and len(x) * len(y) > 500_000
        origin = np.median(np.concatenate([x, y]), axis=0)
        self.centred = (x - origin, y - origin)
        self.row_blocks, self.column_blocks = (
            self._blocks(z, o) for z, o in zip(self.centred, (len(y), len(x)), strict=True)
        )
        self.row_cloud, self.column_cloud = (Cloud(z, z.square().sum(1)) for z in map(self._move, self.centred))

    def transposed(self) -> "Pricer":
        """The same pairs seen from the columns."""
        other = object.__new__(Pricer)
        other.x, other.y, other.p, other.device, other.compact = self.y, self.x, self.p, self.device, self.compact
        other.on_card, other.points = self.on_card, self.points[::-1]
        other.centred = self.centred[::-1]
        other.row_blocks, other.column_blocks = self.column_blocks, self.row_blocks
        other.row_cloud, other.column_cloud = self.column_cloud, self.row_cloud
        return other

    def _check(self, u: Vector | None, v: Float[np.ndarray, "m"]) -> None:
        """One finite potential a point: a NaN compares as false, and would pass for feasible everywhere."""
        shapes("Pricer", u=(u, str(len(self.x))), v=(v, str(len(self.y))), optional=("u",))
        finite("Pricer", u=u, v=v)

    def _move(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _blocks(self, points: Matrix, others: int) -> Blocks:
        if self.compact:
            return kd_blocks(points, BLOCK * (ON_A_CARD if self.on_card else 1))
        size = max(1, min(len(points), ENTRIES * (ON_A_CARD if self.on_card else 1) // others))
        members = [np.arange(s, min(s + size, len(points))) for s in range(0, len(points), size)]
        empty = np.zeros((len(members), points.shape[1]))
        return Blocks(members, empty, empty)

    def _near(
        self, u: Vector, v: Float[np.ndarray, "m"], level: float, chosen: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Row blocks, each with the columns that may hold a reduced cost below the level; None for all columns."""
        keep = None if chosen is None else np.isin(np.arange(len(self.x)), chosen)
        near = None
        if self.compact:
            near = lower_bound(self.row_blocks, self.column_blocks, *self.centred, u, v, self.p) <= level
        for b, block in enumerate(self.row_blocks.members):
            rows = block if keep is None else block[keep[block]]
            if len(rows) == 0:
                continue
            if near is None:
                yield rows, None
            elif near[b].any():
                yield rows, np.concatenate([self.column_blocks.members[c] for c in np.flatnonzero(near[b])])

    def _room(self, rows: int, dtype: torch.dtype) -> Tensor:
        """Memory for the bounds of a block, taken once."""
        width = min(len(self.y), WIDTH) if self.device.type == "cpu" else len(self.y)
        return torch.empty(-(-len(self.y) // width), rows, width, dtype=dtype, device=self.device)

    def _filter(self, u: Vector, v: Float[np.ndarray, "m"], level: float) -> Screen:
        """Single precision where a pilot shows that it passes few pairs more than double precision."""
        potentials = self._move(u), self._move(v)
        double = screen(self.row_cloud, self.column_cloud, *potentials, self.p)
        single = single_screen(self.row_cloud, self.column_cloud, *potentials, self.p)
        if single is None:
            return double
        at = self._move(np.unique(np.linspace(0, len(u) - 1, PILOT).astype(int)))
        few, many = (
            len(_Look(one, at, one.level(-level), self._room(len(at), one.left.dtype)).rows) for one in (double, single)
        )
        return single if many <= 2 * few + SPURIOUS * len(at) else double

    def price(
        self,
        u: Vector,
        v: Float[np.ndarray, "m"],
        *,
        level: float = 0.0,
        most: int = 24,
        chosen: np.ndarray | None = None,
    ) -> Priced:
        """Pairs with reduced cost below `level`, at most the `most` smallest a row; of all rows or the `chosen` ones.

        `row_least` is exact wherever it is below the level: it is min_j ‖x_i − y_j‖^p − u_i − v_j. Where many pairs of
        a row are below, pairs that differ by less than the rounding of the filter may stand for one another.
        """
        self._check(u, v)
        count("Pricer.price", "most", most)
        filter = self._filter(u, v, level)
        potentials = (self._move(u), self._move(v)) if self.on_card else None
        room = self._room(max(map(len, self.row_blocks.members)), filter.left.dtype)
        found = _Found()
        for rows, columns in self._near(u, v, level, chosen):
            near = filter if columns is None else filter.on(self._move(columns))
            look = _Look(near, self._move(rows), filter.level(-level), room)

            def exact(local: Tensor, place: Tensor, rows=rows, columns=columns):
                if potentials:
                    at = self._move(rows)[local], place if columns is None else self._move(columns)[place]
                    return tuple(array.cpu().numpy() for array in (*at, self._reduced(*at, *potentials)))
                i, j = rows[local.cpu().numpy()], place.cpu().numpy()
                j = j if columns is None else columns[j]
                return i, j, edge_cost(self.x, self.y, i, j, self.p) - u[i] - v[j]

            crowded = look.hits > 4 * most
            found.add(*exact(*look.of(~crowded)))
            if bool(crowded.any()):
                which = torch.nonzero(crowded)[:, 0]
                values, places = look.largest(which, most)
                some = [array.reshape(-1, most) for array in exact(which.repeat_interleave(most), places.flatten())]
                # Where a bound left out exceeds the largest excess met, all pairs of the row are computed.
                unsafe = (values[:, -1].double() * filter.unit).cpu().numpy() > -some[2].min(1)
                found.add(*(array[~unsafe].ravel() for array in some))
                crowded[which] = self._move(unsafe)
                found.add(*exact(*look.of(crowded)))
        end = found.count
        return self._sort(found.rows[:end], found.columns[:end], found.reduced[:end], level, most)

    def _reduced(
        self, i: Int[Tensor, "e"], j: Int[Tensor, "e"], u: Float[Tensor, "n"], v: Float[Tensor, "m"]
    ) -> Float[Tensor, "e"]:
        """Reduced costs of listed pairs on the card, in float64 and from differences, in slices."""
        (x, y), step = self.points, max(1, ON_A_CARD * 4_000_000 // self.x.shape[1])
        squared = torch.cat([(x[a] - y[b]).square().sum(1) for a, b in zip(i.split(step), j.split(step), strict=True)])
        cost = squared if self.p == 2 else squared.sqrt() if self.p == 1 else squared.sqrt().pow(self.p)
        return cost - u[i] - v[j]

    def least(self, v: Float[np.ndarray, "m"]) -> Vector:
        """min_j ‖x_i − y_j‖^p − v_j of every row, up to rounding: for starting values, not for proofs."""
        self._check(None, v)
        zero, parts = torch.zeros_like(self.row_cloud.square), self._move(np.arange(len(self.x)))
        parts = parts.split(max(1, ENTRIES // len(v)))
        filter = screen(self.row_cloud, self.column_cloud, zero, self._move(v), self.p)
        room = self._room(len(parts[0]), torch.float64)
        return -torch.cat([_Look(filter, at, torch.inf, room).top for at in parts]).cpu().numpy()

    def _sort(self, rows: np.ndarray, columns: np.ndarray, reduced: np.ndarray, level: float, most: int) -> Priced:
        row_least = np.full(len(self.x), float(level))
        np.minimum.at(row_least, rows, reduced)
        below = np.flatnonzero(reduced < level)
        order = below[np.lexsort((reduced[below], rows[below]))]
        first = np.searchsorted(rows[order], rows[order], side="left")
        order = order[np.arange(len(order)) - first < most]
        return Priced(rows[order], columns[order], reduced[order], row_least)
