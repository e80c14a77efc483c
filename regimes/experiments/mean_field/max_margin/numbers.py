"""Margins over the largest ones, and test errors: verdict, table and figure share these numbers."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.max_margin.config import PLANE
from regimes.lab.intervals import SHARE
from regimes.lab.numbers import Number, each, mean

if TYPE_CHECKING:
    from pandas import DataFrame, Series

BOTH, OUTPUT = "both layers", "output layer"


def ends(rows: Any) -> Any:
    """The last row of each run."""
    return rows[rows.kind == "end"]


def in_plane(rows: "DataFrame", trained: str) -> Any:
    """All looks of one kind of nets in the plane, with their largest margins and the margins over them."""
    some: Any = rows[(rows.inputs == PLANE) & (rows.trained == trained)]
    best = some[some.kind == "end"].set_index("seed")
    looks = some[some.kind == "look"].drop(columns=["best_variation", "best_output"])
    looks = looks.assign(
        best_variation=looks.seed.map(best.best_variation), best_output=looks.seed.map(best.best_output)
    )
    return looks.assign(
        variation_share=looks.variation / looks.best_variation, output_share=looks.output / looks.best_output
    )


def gaps(rows: "DataFrame", level: float) -> "Series":
    """1 − margin/largest margin of nets of both layers at a level, by seed."""
    looks = in_plane(rows, BOTH)
    return 1 - looks[looks.level == level].set_index("seed").variation_share


def errors(rows: "DataFrame") -> dict[tuple[str, int], Number]:
    """Mean test error by what is trained and dimension."""
    return each(ends(rows), ["trained", "inputs"], lambda some: mean(some.error, within=SHARE))
