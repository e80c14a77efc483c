"""What is left of the risk, by arm, at the steps that were best on the problems set aside for that choice."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.lab.numbers import Number, each, geometric_mean, means, paired
from regimes.lab.numbers import share as share_of

if TYPE_CHECKING:
    from pandas import DataFrame

FLOOR = 1e-12  # shares of the risk below it count as it: rounding
PART = 4  # one of so many problems is for the choice of the steps


def finished(rows: "DataFrame") -> Any:
    """The rows of the runs, with what is left at the end; a run that has diverged (∞) has the whole risk left."""
    found: Any = rows[rows.kind == "run"].dropna(axis=1, how="all")
    last = max(steps(found))
    return found.assign(left=share(found, last))


def steps(some: Any) -> list[int]:
    """The steps at which risks are kept."""
    return sorted(int(name.removeprefix("risk_")) for name in some.columns if name.startswith("risk_"))


def share(some: Any, step: int) -> Any:
    """The share of the risk that is left at a step, between FLOOR and 1; NaN where it is not known."""
    return (some[f"risk_{step}"] / some.risk_0).clip(FLOOR, 1.0)


def for_choice(some: Any) -> Any:
    """Which of the rows belong to the problems that choose."""
    return some.seed < max(1, (some.seed.max() + 1) // PART)


def best(some: Any) -> tuple[float, float] | None:
    """(relative, rate) of the least geometric mean on the problems that choose; None if one mean is not known."""
    chosen = some[for_choice(some)]
    found = means(np.log(chosen.left).groupby([chosen.relative, chosen.rate]))
    return None if found.empty or found.isna().any() else found.idxmin()


def judged_runs(some: Any, relative: float, rate: float) -> Any:
    """The other problems at these steps."""
    return some[~for_choice(some) & (some.relative == relative) & (some.rate == rate)]


def at_best(found: Any, arm: str) -> Any:
    """The judged runs of an arm at its best steps; none where the arm is not there."""
    some = found[found.arm == arm]
    chosen = best(some)
    return some.iloc[:0] if chosen is None else judged_runs(some, *chosen)


def at_rate(found: Any, arm: str, rate: float) -> Any:
    """The judged runs of an arm at this rate, and the relative step that is best there."""
    some = found[(found.arm == arm) & (found.rate == rate)]
    chosen = best(some)
    return some.iloc[:0] if chosen is None else judged_runs(some, *chosen)


def ratio(one: Any, other: Any) -> Number | None:
    """What one has left over what the other has, paired by problem: geometric mean."""
    return geometric_mean(paired(one.set_index("seed").left, other.set_index("seed").left, lambda a, b: a / b))


def changed_places(some: Any) -> Number | None:
    """The share of nets in which blocks have changed places; only problems count as repetitions."""
    return share_of(some.moved > 0, some.moved, some.seed)


def by_relative(found: Any, arm: str) -> dict[Any, Number]:
    """`changed_places` of the judged problems at all rates, by relative step."""
    some = found[found.arm == arm]
    return each(some[~for_choice(some)], "relative", changed_places)
