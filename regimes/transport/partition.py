"""Compact blocks of a cloud, and lower bounds of the reduced cost between two blocks: far pairs need no look."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from regimes.transport.cost import Matrix, Vector


class Blocks(NamedTuple):
    """A cloud cut into compact blocks: `members[b]` lists its points, `low[b]` and `high[b]` its bounding box."""

    members: list[np.ndarray]
    low: Float[np.ndarray, "b d"]
    high: Float[np.ndarray, "b d"]


class Trend(NamedTuple):
    """An affine bound of a potential on each block: f(z) ≤ offset + slope·z at every point z of the block."""

    slope: Float[np.ndarray, "b d"]
    offset: Float[np.ndarray, "b"]


def kd_blocks(points: Matrix, size: int) -> Blocks:
    """Halve the cloud at the median of its widest feature until every block has at most `size` points."""
    pending, members = [np.arange(len(points))], []
    while pending:
        block = pending.pop()
        if len(block) <= size:
            members.append(block)
            continue
        part = points[block]
        axis = int(np.argmax(part.max(0) - part.min(0)))
        order = block[np.argpartition(part[:, axis], len(block) // 2)]
        pending += [order[len(block) // 2 :], order[: len(block) // 2]]
    boxes = [(points[block].min(0), points[block].max(0)) for block in members]
    return Blocks(members, np.stack([low for low, _ in boxes]), np.stack([high for _, high in boxes]))


def thin(points: Matrix, count: int) -> np.ndarray:
    """Indices of `count` points spread evenly over the cloud: every so many along an order of neighbours."""
    order = np.concatenate(kd_blocks(points, 8).members)
    return np.sort(order[(np.arange(count) * len(points)) // count])


def affine_trend(blocks: Blocks, points: Matrix, potential: Vector) -> Trend:
    """Least-squares slope on each block, raised until it bounds the potential there."""
    slopes, offsets = [], []
    for block in blocks.members:
        z, f = points[block], potential[block]
        centred = z - z.mean(0)
        slope = (
            np.linalg.lstsq(centred, f - f.mean(), rcond=1e-10)[0] if len(block) > z.shape[1] else np.zeros(z.shape[1])
        )
        slopes.append(slope)
        offsets.append((f - z @ slope).max())
    return Trend(np.stack(slopes), np.array(offsets))


def box_distance(rows: Blocks, columns: Blocks) -> Float[np.ndarray, "b c"]:
    """Least squared distance between the boxes of every two blocks."""
    squared = np.zeros((len(rows.low), len(columns.low)))
    for k in range(rows.low.shape[1]):
        below = columns.low[None, :, k] - rows.high[:, None, k]
        above = rows.low[:, None, k] - columns.high[None, :, k]
        squared += np.maximum(np.maximum(below, above), 0) ** 2
    return squared


def quadratic_bound(rows: Blocks, columns: Blocks, row_trend: Trend, column_trend: Trend) -> Float[np.ndarray, "b c"]:
    """Least value of ‖x − y‖² − u(x) − v(y) on pairs of boxes, for affine bounds of u and v.

    It splits into one convex function (s − t)² − g s − h t a feature; its minimum over a rectangle lies on an edge
    (inside it is constant along s − t = const or has no stationary point), where it is a parabola in one variable.
    """
    total = -row_trend.offset[:, None] - column_trend.offset[None, :]
    for k in range(rows.low.shape[1]):
        s_low, s_high, g = (array[:, k, None] for array in (rows.low, rows.high, row_trend.slope))
        t_low, t_high, h = (array[None, :, k] for array in (columns.low, columns.high, column_trend.slope))

        def value(s, t, g=g, h=h):
            return (s - t) ** 2 - g * s - h * t

        edges = [value(np.clip(t + g / 2, s_low, s_high), t) for t in (t_low, t_high)]
        edges += [value(s, np.clip(s + h / 2, t_low, t_high)) for s in (s_low, s_high)]
        total += np.minimum(np.minimum(edges[0], edges[1]), np.minimum(edges[2], edges[3]))
    return total


def _size(blocks: Blocks, trend: Trend) -> Float[np.ndarray, "b"]:
    """How large the numbers summed for a block can be: what rounding is measured against."""
    reach = np.maximum(np.abs(blocks.low), np.abs(blocks.high))
    return np.abs(trend.offset) + (2 * np.abs(trend.slope) * reach).sum(1) + 4 * (reach**2).sum(1)


def lower_bound(
    rows: Blocks,
    columns: Blocks,
    x: Matrix,
    y: Float[np.ndarray, "m d"],
    u: Vector,
    v: Float[np.ndarray, "m"],
    p: float,
) -> Float[np.ndarray, "b c"]:
    """A number below every reduced cost ‖x_i − y_j‖^p − u_i − v_j of each pair of blocks, rounding included."""
    epsilon = (4 * x.shape[1] + 24) * np.finfo(float).eps
    if p == 2:
        row_trend, column_trend = affine_trend(rows, x, u), affine_trend(columns, y, v)
        rounding = _size(rows, row_trend)[:, None] + _size(columns, column_trend)[None, :]
        return quadratic_bound(rows, columns, row_trend, column_trend) - epsilon * rounding
    top_u, top_v = (np.array([f[block].max() for block in side.members]) for side, f in ((rows, u), (columns, v)))
    distance = np.sqrt(box_distance(rows, columns)) ** p
    rounding = distance + np.abs(top_u)[:, None] + np.abs(top_v)[None, :]
    return distance - top_u[:, None] - top_v[None, :] - epsilon * (1 + p) * rounding
