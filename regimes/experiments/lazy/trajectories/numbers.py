"""What is counted at the end of training, for each scale τ: verdict, table and figure share these numbers."""

from typing import TYPE_CHECKING, Any

from regimes.lab.intervals import SHARE
from regimes.lab.numbers import Number, count, each, geometric_mean, mean

if TYPE_CHECKING:
    from pandas import DataFrame

FITTED = 0.01  # of the risk of f = 0: what counts as fitted


def ends(rows: "DataFrame") -> Any:
    """The last row of each run."""
    return rows[rows.kind == "end"]


def fit(rows: "DataFrame") -> dict[float, Number]:
    """Risk over that of f = 0, geometric means over seeds."""
    return each(ends(rows), "tau", lambda some: geometric_mean(some.fit.clip(lower=1e-30)))


def motion(rows: "DataFrame") -> dict[float, Number]:
    """‖w − w0‖/‖w0‖, geometric means over seeds."""
    return each(ends(rows), "tau", lambda some: geometric_mean(some.motion))


def share(rows: "DataFrame", column: str = "share") -> dict[float, Number]:
    """Share of the mass within 20° of the teacher, means over seeds; column `share_start`: at the start."""
    return each(ends(rows), "tau", lambda some: mean(some[column], within=SHARE))


def unfitted(rows: "DataFrame", tau: float) -> float | None:
    """How many runs do not fit their data."""
    fit = ends(rows)[ends(rows).tau == tau].fit
    return count(fit > FITTED, of=fit) if len(fit) else None


def elsewhere(rows: "DataFrame", tau: float) -> float | None:
    """How many runs end with less than half of their mass within 20° of the teacher."""
    shares = ends(rows)[ends(rows).tau == tau].share
    return count(shares < 0.5, of=shares) if len(shares) else None
