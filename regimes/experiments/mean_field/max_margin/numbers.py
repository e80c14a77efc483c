"""Margins over the largest ones, and test errors: verdict, table and figure share these numbers."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.max_margin.config import PLANE
from regimes.lab.intervals import SHARE
from regimes.lab.numbers import Number, each, geometric_mean, mean, paired

if TYPE_CHECKING:
    from pandas import DataFrame

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


def at_level(rows: "DataFrame", trained: str, level: float) -> Any:
    """The looks in the plane at a level, by seed; NaN for a seed that has none there, nothing if no seed has one."""
    looks = in_plane(rows, trained)
    found = looks[looks.level == level].set_index("seed")
    return found.reindex(looks.seed.unique()) if len(found) else found


def closing(rows: "DataFrame", early: float, late: float) -> Number | None:
    """Gap 1 − margin/largest margin of nets of both layers at one level over that at an earlier one, paired by seed."""
    one, other = (1 - at_level(rows, BOTH, level).variation_share for level in (late, early))
    return geometric_mean(paired(one, other, lambda gap, before: gap / before))


def errors(rows: "DataFrame") -> dict[tuple[str, int], Number]:
    """Mean test error by what is trained and dimension."""
    return each(ends(rows), ["trained", "inputs"], lambda some: mean(some.error, within=SHARE))
