"""Reduced costs ‖x_i − y_j‖^p − u_i − v_j over ALL pairs in O(n) memory: which are smallest, which are negative."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.transport.cost import Matrix, Vector, edge_cost
from regimes.transport.partition import Blocks, kd_blocks, lower_bound

LOW_DIMENSION = 8  # up to here boxes tell far from near, beyond they all overlap
BLOCK = 128  # points of a block where boxes help
ENTRIES = 4_000_000  # pairs looked at together where they do not


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


class Pricer:
    """Looks at all pairs of two clouds, again and again with other potentials.

    A matrix product gives every reduced cost with a known rounding error; it serves as a filter that errs on the safe
    side, and the pairs that pass are computed anew from differences. In up to 8 dimensions pairs of blocks whose
    lower bound exceeds the level are passed over. The work runs on `device` (float64), the answer is on the CPU.
    """

    def __init__(self, x: Matrix, y: Float[np.ndarray, "m d"], p: float, *, device: torch.device | str = "cpu"):
        self.x, self.y, self.p, self.device = x, y, p, torch.device(device)
        self.compact = x.shape[1] <= LOW_DIMENSION and len(x) * len(y) > 500_000
        centre = np.median(np.concatenate([x, y]), axis=0)
        self.centred = (x - centre, y - centre)
        self.row_blocks, self.column_blocks = (
            self._blocks(z, o) for z, o in zip(self.centred, (len(y), len(x)), strict=True)
        )
        self.x_centred, self.y_centred = (self._move(z) for z in self.centred)
        self.x_square, self.y_square = self.x_centred.square().sum(1), self.y_centred.square().sum(1)
        # Rounding of the d + 2 products, of the squares and of the centring, a factor 2 to spare.
        self.epsilon = (4 * x.shape[1] + 24) * torch.finfo(torch.float64).eps

    def transposed(self) -> "Pricer":
        """The same pairs seen from the columns."""
        other = object.__new__(Pricer)
        other.x, other.y, other.p, other.device, other.compact = self.y, self.x, self.p, self.device, self.compact
        other.centred = self.centred[::-1]
        other.row_blocks, other.column_blocks = self.column_blocks, self.row_blocks
        other.x_centred, other.y_centred = self.y_centred, self.x_centred
        other.x_square, other.y_square, other.epsilon = self.y_square, self.x_square, self.epsilon
        return other

    def _move(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _blocks(self, points: Matrix, others: int) -> Blocks:
        if self.compact:
            return kd_blocks(points, BLOCK)
        size = max(1, min(len(points), ENTRIES // others))
        members = [np.arange(s, min(s + size, len(points))) for s in range(0, len(points), size)]
        empty = np.zeros((len(members), points.shape[1]))
        return Blocks(members, empty, empty)

    def _near(
        self, u: Vector, v: Float[np.ndarray, "m"], level: float, chosen: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Row blocks, each with the columns that may hold a reduced cost below the level."""
        keep = None if chosen is None else np.isin(np.arange(len(self.x)), chosen)
        everything, near = torch.arange(len(self.y), device=self.device), None
        if self.compact:
            near = lower_bound(self.row_blocks, self.column_blocks, *self.centred, u, v, self.p) <= level
        for b, block in enumerate(self.row_blocks.members):
            rows = block if keep is None else block[keep[block]]
            if len(rows) == 0:
                continue
            if near is None:
                yield rows, everything
            elif near[b].any():
                yield rows, self._move(np.concatenate([self.column_blocks.members[c] for c in np.flatnonzero(near[b])]))

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

        `row_least` is exact wherever it is below the level: it is min_j ‖x_i − y_j‖^p − u_i − v_j.
        """
        potential_x, potential_y = self._move(u), self._move(v)
        error_x = self.epsilon * (2 * self.x_square + potential_x.abs())
        error_y = self.epsilon * (2 * self.y_square + potential_y.abs())
        left, right = self._factors(potential_x, potential_y, error_x, error_y)
        found = _Found()
        for rows, columns in self._near(u, v, level, chosen):
            at = self._move(rows)
            excess = self._excess(left[at], right, columns, potential_x[at], potential_y, error_x[at], error_y)
            hits = (excess > -level).sum(1)
            if int(hits.sum()) == 0:
                continue

            exact = partial(self._exact, rows, columns, u, v)
            crowded = hits > 4 * most
            found.add(*exact(*torch.nonzero((excess > -level) & ~crowded[:, None], as_tuple=True)))
            if bool(crowded.any()):
                for pairs in self._crowded(excess, torch.nonzero(crowded)[:, 0], level, most, exact):
                    found.add(*pairs)
        end = found.count
        return self._sort(found.rows[:end], found.columns[:end], found.reduced[:end], level, most)

    def _crowded(self, excess: Tensor, which: Tensor, level: float, most: int, exact: Callable) -> list[tuple]:
        """Rows with many hits: only the largest are computed anew, all of them where rounding could hide the least."""
        values, places = excess[which].topk(most, dim=1)
        i, j, reduced = exact(which.repeat_interleave(most), places.flatten())
        least = torch.from_numpy(reduced.reshape(-1, most).min(1)).to(values.device)
        unsafe = which[values[:, -1] > -least]
        if len(unsafe) == 0:
            return [(i, j, reduced)]
        local, place = torch.nonzero(excess[unsafe] > -level, as_tuple=True)
        kept = ~np.isin(i, i[::most][(values[:, -1] > -least).cpu().numpy()])
        return [(i[kept], j[kept], reduced[kept]), exact(unsafe[local], place)]

    def least(self, v: Float[np.ndarray, "m"]) -> Vector:
        """min_j ‖x_i − y_j‖^p − v_j of every row, up to rounding: for starting values, not for proofs."""
        zero_x, zero_y, potential = torch.zeros_like(self.x_square), torch.zeros_like(self.y_square), self._move(v)
        left, right = self._factors(zero_x, potential, zero_x, zero_y)
        everything, out = torch.arange(len(v), device=self.device), torch.empty_like(self.x_square)
        for at in torch.arange(len(self.x), device=self.device).split(max(1, ENTRIES // len(v))):
            excess = self._excess(left[at], right, everything, zero_x[at], potential, zero_x[at], zero_y)
            out[at] = -excess.amax(1)
        return out.cpu().numpy()

    def _factors(self, u: Tensor, v: Tensor, error_x: Tensor, error_y: Tensor) -> tuple[Tensor, Tensor]:
        """Matrices whose product is an upper bound of u + v − c (p = 2) or minus a lower bound of ‖x − y‖² (else)."""
        one_x, one_y = torch.ones_like(u)[:, None], torch.ones_like(v)[:, None]
        shift_x, shift_y = error_x - self.x_square, error_y - self.y_square
        if self.p == 2:
            shift_x, shift_y = shift_x + u, shift_y + v
        left = torch.cat([2 * self.x_centred, one_x, shift_x[:, None]], dim=1)
        return left, torch.cat([self.y_centred, shift_y[:, None], one_y], dim=1)

    def _excess(
        self, left: Tensor, right: Tensor, columns: Tensor, u: Tensor, v: Tensor, error_x: Tensor, error_y: Tensor
    ) -> Tensor:
        """Upper bounds of u_i + v_j − ‖x_i − y_j‖^p."""
        product = left @ (right if len(columns) == len(right) and not self.compact else right[columns]).T
        if self.p == 2:
            return product
        squared = product.neg_().clamp_(min=0)
        cost = squared.sqrt_() if self.p == 1 else squared.pow_(self.p / 2)
        # The power and the sums round once more, relative to their own size.
        cost.mul_(1 - self.epsilon)
        return cost.neg_().add_((u + error_x)[:, None]).add_((v + error_y)[columns])

    def _exact(
        self, rows: np.ndarray, columns: Tensor, u: Vector, v: np.ndarray, local: Tensor, place: Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reduced costs from differences of the pairs at (local, place) of a block."""
        i, j = rows[local.cpu().numpy()], columns[place].cpu().numpy()
        return i, j, edge_cost(self.x, self.y, i, j, self.p) - u[i] - v[j]

    def _sort(self, rows: np.ndarray, columns: np.ndarray, reduced: np.ndarray, level: float, most: int) -> Priced:
        row_least = np.full(len(self.x), float(level))
        np.minimum.at(row_least, rows, reduced)
        below = np.flatnonzero(reduced < level)
        order = below[np.lexsort((reduced[below], rows[below]))]
        first = np.searchsorted(rows[order], rows[order], side="left")
        order = order[np.arange(len(order)) - first < most]
        return Priced(rows[order], columns[order], reduced[order], row_least)
