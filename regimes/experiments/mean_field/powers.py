"""Columns of rows that are powers of one axis at each value of another: their exponents, table and figure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from regimes.lab import figures
from regimes.lab.numbers import Number, cells, each, geometric_mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

STYLES = ("-", "--", ":", "-.")


class PowerLaws(NamedTuple):
    """columns: what each is, in words; axis and group: a column and its symbol; error: a column, of every value."""

    columns: Mapping[str, str]
    axis: tuple[str, str]
    group: tuple[str, str]
    error: str | None = None

    def exponents(self, rows: "DataFrame", column: str) -> dict[Any, Number]:
        """The exponent by group: one a seed, with Student's interval over the seeds."""

        def of(some: Any) -> Number | None:
            return slope(some[self.axis[0]], some[column], some.seed, None if self.error is None else some[self.error])

        return each(rows, self.group[0], of)

    def values(self, rows: "DataFrame", column: str, group: Any) -> dict[Any, Number]:
        """The column along the axis in one group: geometric means over the seeds."""
        return each(rows[rows[self.group[0]] == group], self.axis[0], lambda some: geometric_mean(some[column]))

    def table(self, rows: "DataFrame") -> "DataFrame":
        """One line for each group and place on the axis."""
        import pandas

        lines = []
        for group in sorted(set(rows[self.group[0]])):
            of = {column: self.values(rows, column, group) for column in self.columns}
            for place in next(iter(of.values())):
                line: dict[str, Any] = {self.group[1]: group, self.axis[1]: place}
                for column, words in self.columns.items():
                    line |= cells(words, of[column][place])
                lines.append(line)
        return pandas.DataFrame(lines)

    def draw(self, rows: "DataFrame", xlabel: str, ylabel: str, legend: str) -> "Figure":
        """Every column against the axis, a line for each group; the exponents are in the legend."""
        made, ax = figures.figure(height=3.8)
        with figures.style():
            for number, (column, words) in enumerate(self.columns.items()):
                found = self.exponents(rows, column)
                for place, group in enumerate(sorted(set(rows[self.group[0]]))):
                    alone = len(self.columns) == 1
                    label = str(group) if alone else f"{words}, {self.group[1]} = {group}"
                    look: dict[str, Any] = {"linestyle": STYLES[place % len(STYLES)]}
                    look["label"] = figures.with_exponent(label, found.get(group))
                    values = self.values(rows, column, group)
                    figures.curve(ax, values, number=place if alone else number, **look)
            ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
            figures.legend(made, ax, title=legend)
            seeds = rows.seed.nunique()
            figures.explain(made, f"Geometric means of {seeds} seeds; {figures.intervals('bands', seeds)}.")
        return made
