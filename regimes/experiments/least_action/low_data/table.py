"""How a published table of two methods is judged, shown and drawn: what the tables of CIFAR share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.low_data import comparison
from regimes.experiments.least_action.low_data.comparison import CONTROL, DIVIDED, LAP, VANILLA, Comparison, Published
from regimes.experiments.least_action.low_data.pictures import panels
from regimes.lab import numbers
from regimes.lab.report import Judgement, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def judged(statement: Statement, rows: Any, published: Published, compared: Sequence[Comparison]) -> Judgement:
    """Means over seeds of paired differences of accuracy, in points; rows that were not run are not measured."""
    rows = comparison.read(rows)
    found = comparison.measured(comparison.counted(rows), compared)
    return numbers.judged(statement, found, comparison.of_rows(rows, published))


def shown(rows: Any, published: Published) -> Any:
    """Published and measured accuracy in percent by both protocols, for each size and arm, run or not."""
    return comparison.to_table(comparison.lines(comparison.read(rows), published, ("paper", "held_out")))


def drawn(rows: Any, published: Published, *, curves: bool = False) -> "Figure":
    """Accuracy of each method with the published values, the paired differences, with `curves` accuracy in training."""
    rows = comparison.read(rows)
    pairs = ((DIVIDED, VANILLA), (LAP, CONTROL), (LAP, VANILLA))
    known = {} if comparison.counted(rows).empty else published
    return panels(rows, (VANILLA, DIVIDED, LAP, CONTROL), pairs, known, ("held_out",), curves=curves)
