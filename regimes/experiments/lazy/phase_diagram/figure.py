"""Figure of the phase-diagram statement: the plane as a map of exponents, and cuts through it beside theory."""

from typing import TYPE_CHECKING, Any

import numpy as np

from regimes.experiments.lazy.phase_diagram.numbers import exponents, zeros
from regimes.experiments.lazy.phase_diagram.theory import boundary, exponent
from regimes.experiments.lazy.planes import heat_map, named, of_points
from regimes.lab import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

RANGE = 1.5  # exponents beyond have the end colours
CUTS = 3
NAMED = {"NTK": (0.5, 0.0), "mean field": (1.0, 0.0), "fan-in": (0.5, 0.5)}


def draw(rows: "DataFrame") -> "Figure":
    """Above: exponent over the plane, with the theoretical boundary and the measured zeros; below: cuts at fixed γ'."""
    made, (above, below) = figures.figure(2, 1, height=5.6, height_ratios=(1.25, 1))
    with figures.style():
        found = exponents(rows)
        numbers = of_points(found)
        if numbers:
            _plane(made, above, numbers, zeros(found))
            _cuts(below, numbers)
        seeds = rows.seed.nunique()
        figures.explain(
            made,
            f"Exponent in the width of ‖w − w₀‖/‖w₀‖, means of {seeds} seeds. Line above: critical line of Luo et al.; "
            f"circles: where the measured exponent is 0. Lines below: derived; {figures.intervals('bars', seeds)}.",
        )
    return made


def _plane(made: "Figure", ax: Any, numbers: dict[tuple[float, float], Any], found: Any) -> None:
    heat_map(made, ax, numbers, extent=RANGE)
    low, high = ax.get_ylim()
    line = np.array([low, 0.0, high]) if low < 0 < high else np.array([low, high])
    ax.plot([boundary(prime) for prime in line], line, color="black", linewidth=1.6)
    places = found.groupby(level="gamma_prime").mean()
    ax.plot(places, places.index, "o", color="white", markeredgecolor="black", markersize=4.5)
    named(ax, NAMED, figures.NOTE)
    ax.set(xlabel="γ  (κ = β₁β₂/α = m$^{-γ}$)", ylabel="γ'  (β₁/β₂ = m$^{-γ'}$)")


def _cuts(ax: Any, numbers: dict[tuple[float, float], Any]) -> None:
    primes = sorted({prime for _, prime in numbers})
    chosen = [primes[place] for place in sorted({0, len(primes) // 2, len(primes) - 1})][:CUTS]
    for number, prime in enumerate(chosen):
        cut = {gamma: value for (gamma, other), value in numbers.items() if other == prime}
        fine = np.linspace(min(cut), max(cut), 200)
        colour = figures.PALETTE[number]
        ax.plot(fine, [exponent(gamma, prime) for gamma in fine], color=colour, linewidth=1.0)
        label = f"γ' = {figures.signed(prime)}"
        figures.curve(ax, cut, number=number, bars=True, linestyle="none", label=label)
    ax.axhline(0.0, color=figures.GREY, linewidth=0.8)
    ax.set(xlabel="γ", ylabel="exponent")
    ax.legend(loc="lower right")
