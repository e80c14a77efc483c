"""The two clouds of a map in a plane: their own, or that of their principal components."""

import numpy as np
from scipy.sparse import coo_matrix

SHOWN = 300  # points in the figure


def plane(x: np.ndarray, t: np.ndarray, plan: coo_matrix) -> dict[str, np.ndarray]:
    """First points before and after, and where the optimal plan sends them, in two coordinates (their variance share).

    Beyond two features these are the principal components of both clouds together.
    """
    target = np.arange(len(x))
    kept = plan.data > 0
    target[plan.row[kept]] = plan.col[kept]
    basis, share = _principal(np.concatenate([x, t]))
    origin = np.concatenate([x, t]).mean(0) if x.shape[1] > 2 else 0.0
    some = slice(0, SHOWN)
    before, after, optimal = ((cloud[some] - origin) @ basis for cloud in (x, t, t[target]))
    return {"before": before, "after": after, "optimal": optimal, "share": share, "dim": np.array(x.shape[1])}


def _principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Basis (d, 2) and the share of the variance along each direction."""
    n, d = points.shape
    centred = points - points.mean(0)
    total = float(np.square(centred).sum())
    if d <= 2:
        return np.eye(d, 2), np.square(centred).sum(0) / (total or 1.0)
    if d <= n:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        basis = vectors[:, [-1, -2]]
    else:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        basis = centred.T @ vectors[:, [-1, -2]]
        basis /= np.maximum(np.linalg.norm(basis, axis=0), np.finfo(float).tiny)
    return basis, np.maximum(values[[-1, -2]], 0) / (total or 1.0)
