"""Exponents of κ, and the figure that shows them."""

import re
from typing import TYPE_CHECKING

from regimes.experiments.lazy.criterion_scaling.laws import EXPONENTS
from regimes.lab import figures
from regimes.lab.numbers import Number, each, geometric_mean, slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def exponents(rows: "DataFrame", column: str = "estimate") -> dict[str, Number]:
    """The exponent of κ in the factor for each law: one a seed, with Student's interval over the seeds."""
    some = rows[rows.law.isin(list(EXPONENTS))]
    return each(some, "law", lambda at: slope(at.factor, at[column], at.seed), sort=False)


def draw(rows: "DataFrame") -> "Figure":
    """κ against the factor on double logarithmic axes, three panels: α, λ, m."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.4, sharey=False)
    found = exponents(rows)
    with figures.style():
        for ax, sign, name in zip(axes, "αλm", ("factor of α", "factor of λ", "factor of the width m"), strict=True):
            shown = [law for law in EXPONENTS if law.startswith(sign) and law in found]
            for number, law in enumerate(shown):
                means = each(rows[rows.law == law], "factor", lambda at: geometric_mean(at.estimate))
                label = figures.with_exponent(re.sub(r"m\^(-\d/\d)", r"$m^{\1}$", law[2:].strip()), found[law])
                figures.curve(ax, means, number=number, label=label)
            ax.set(xscale="log", yscale="log", xlabel=name)
            if shown:
                ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), title="law: exponent")
        axes[0].set_ylabel(r"lazy criterion $\kappa$")
        wide = rows.law.str.startswith("m,")
        least = min(some.seed.nunique() for _, some in rows.groupby("law"))
        counts = [
            f"{some.seed.nunique()} seeds {of}" for some, of in ((rows[~wide], "for α, λ"), (rows[wide], "for m"))
        ]
        figures.explain(made, f"Geometric means, {', '.join(counts)}; {figures.intervals('bands', least)}.")
    return made
