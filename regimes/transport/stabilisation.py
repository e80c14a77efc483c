"""Among optimal dual potentials well-placed ones: not at the edge of the optimal face, and small numbers."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from regimes.transport.restricted import Flow

SWEEPS = (10, 500)  # at least and at most
WORK = 4_000_000  # pairs looked at in all sweeps together, as long as these bounds allow


def stabilise(
    flow: Flow,
    rows: Int[np.ndarray, "e"],
    columns: Int[np.ndarray, "e"],
    reduced: Float[np.ndarray, "e"],
    v: Float[np.ndarray, "m"],
) -> Flow:
    """Shift each connected part of the plan's support away from the edges of the room that the listed pairs leave it.

    A part (in an assignment: one matched pair) may raise u and lower v together by t without changing the dual value;
    a pair from part A to part B allows t_A − t_B up to its reduced cost. Extreme potentials, as the simplex returns
    them, are violated by many more of the pairs left out. Every sweep moves all parts at once, at most half their
    room, towards the point, a margin from the edges, where the part's mean v is nearest 0; so every reduced cost
    stays ≥ 0, and u + v = cost is not lost in the rounding of large potentials.
    `reduced` and `v` are those before the flow's own potentials are taken off or added.
    """
    n, m = len(flow.u), len(flow.v)
    support = coo_matrix((np.ones(len(flow.rows)), (flow.rows, n + flow.columns)), shape=(n + m, n + m))
    parts, label = connected_components(support, directed=False)
    start, end = label[rows], label[n + columns]
    between = start != end
    if parts < 2 or not between.any():
        return flow
    start, end = start[between], end[between]
    # Rounding leaves some reduced costs just below 0: there is no room there.
    room = np.maximum(reduced[between] - flow.u[rows[between]] - flow.v[columns[between]], 0)
    by_start, by_end = _Groups(start, parts), _Groups(end, parts)
    count = np.maximum(np.bincount(label[n:], minlength=parts), 1)
    offset = np.bincount(label[n:], weights=v + flow.v, minlength=parts) / count
    total = np.zeros(parts)
    for _ in range(int(np.clip(WORK // len(room), *SWEEPS))):
        shift = _inward(by_start.least(room), by_end.least(room), offset - total)
        room = np.maximum(room - shift[start] + shift[end], 0)
        total += shift
    return flow._replace(u=flow.u + total[label[:n]], v=flow.v - total[label[n:]])


def _inward(
    above: Float[np.ndarray, "parts"], below: Float[np.ndarray, "parts"], wish: Float[np.ndarray, "parts"]
) -> Float[np.ndarray, "parts"]:
    """The wish, moved inside [−below, above] by a margin, at most half the room; either side may be infinite.

    The margin is a quarter of the part's whole room, or of the median part's where that is less: parts that stand
    alone have vast room, and its middle is nowhere near what the pairs not listed will allow.
    """
    finite = np.isfinite(above) & np.isfinite(below)
    if finite.any():
        quarter = (above[finite] + below[finite]) / 4
        margin = np.minimum(quarter, np.median(quarter))
        wish = wish.copy()
        wish[finite] = np.clip(wish[finite], margin - below[finite], above[finite] - margin)
    return np.clip(wish, -below / 2, above / 2)


class _Groups:
    """Least value of every group, for values that change and groups that do not."""

    def __init__(self, label: Int[np.ndarray, "e"], count: int):
        self.order = np.argsort(label, kind="stable")
        self.names, self.starts = np.unique(label[self.order], return_index=True)
        self.count = count

    def least(self, values: Float[np.ndarray, "e"]) -> Float[np.ndarray, "count"]:
        out = np.full(self.count, np.inf)
        out[self.names] = np.minimum.reduceat(values[self.order], self.starts)
        return out
