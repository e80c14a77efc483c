"""A ResNet as an ensemble of shallow nets: how fast do the terms of the expansion shrink, and in what?

The net X_{l+1} = X_l + (ε/L) F_l(X_l) with output w·X_L. Expanding every block around the input x = X_0 gives
    w·X_L = w·x + (ε/L) Σ_l w·F_l(x) + (ε/L)² Σ_{k<l} w·∇F_l(x) F_k(x) + O(ε³):
the input, L shallow nets of one block, and L(L − 1)/2 nets that pass through two blocks.

Orders. X_l − x = O(ε), since L steps of size ε/L add up; each further block that a path passes through costs one more
factor ε. So the remainder is O(ε²) after the single sum and O(ε³) after the double sum, at every L. Depth does not
help: the sums are Riemann sums of integrals over t and over s < t, hence O(1) in L if the weights are smooth in depth,
up to a relative 1/L. (Independent weights of mean zero would make them O(L^−½), a property of those weights.)
Corrections to the orders are of relative size ε, so they move the slope over two decades below ε = 0.1 by less than
0.05. The single sum's exponent in L is 0 up to the 1/L of the Riemann sum, and the double sum's is log(1 − 1/L) between
the ends, 0.02 over the depths of the real size.
"""

from typing import TYPE_CHECKING, Any

import torch

from regimes.experiments.mean_field.ensemble_expansion.config import Config as Config
from regimes.experiments.mean_field.paths import paths, problem
from regimes.experiments.mean_field.powers import PowerLaws
from regimes.lab.numbers import Number, geometric_mean, judged, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

DEPTHS = (16, 64, 256)
REMAINDERS = {
    "after_one": ("after the single sum", Interval.around(2.0, 0.15)),
    "after_two": ("after the double sum", Interval.around(3.0, 0.2)),
}
SUMS = {"single": "the single sum", "double": "the double sum"}


def _order(column: str, layers: int) -> str:
    return f"L = {layers}: order in ε of the remainder {REMAINDERS[column][0]}"


def _size(column: str) -> str:
    return f"exponent of {SUMS[column]} in L"


STATEMENT = Statement(
    title="A ResNet is an ensemble of shallow nets, by strength of blocks",
    claim="The output of a ResNet is its input, a single sum over blocks and a double sum over pairs of blocks, with a "
    "remainder of order ε² after the first and ε³ after the second, ε the strength of blocks; the sums are O(1) in L.",
    source="[Lu2020] for the expansion; orders derived here",
    predictions=(
        *(
            Prediction(_order(column, layers), interval, "derived")
            for layers in DEPTHS
            for column, (_, interval) in REMAINDERS.items()
        ),
        *(Prediction(_size(column), Interval.around(0.0, 0.05), "derived") for column in SUMS),
    ),
)
LAWS = PowerLaws(
    {column: words for column, (words, _) in REMAINDERS.items()}, ("strength", "ε"), ("layers", "L"), "rounding"
)
GRID = ("layers", "strength", "seed")
BATCHED = ("seed",)
ROUNDING = 1e-15  # of a remainder, relative to the output


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: the remainders and the sums (without ε), root mean squares over the samples."""
    layers, strength, seeds = points[0]["layers"], points[0]["strength"], [point["seed"] for point in points]
    net = problem(config.samples, config.inputs, seeds, strength)
    blocks = paths(config.particles, config.inputs, seeds).blocks(layers)
    readout = net.readout[:, None].expand_as(net.x)
    passed = torch.zeros_like(net.x)
    double = net.x.new_zeros(net.x.shape[:2])
    for cell in range(layers):
        double += (net.pulled(blocks, cell, net.x, readout) * passed).sum(2)
        passed += net.field(blocks, cell, net.x)
    single, double = (passed * readout).sum(2) / layers, double / layers**2
    end = net.states(blocks)[:, -1]
    moved = ((end - net.x) * readout).sum(2)
    columns = {
        "after_one": moved - strength * single,
        "after_two": moved - strength * single - strength**2 * double,
        "single": single,
        "double": double,
    }
    sizes = {name: values.square().mean(1).sqrt() for name, values in columns.items()}
    sizes["rounding"] = ROUNDING * (end * readout).sum(2).square().mean(1).sqrt()
    return [{name: float(values[run]) for name, values in sizes.items()} for run in range(len(points))]


def judge(rows: "DataFrame") -> Judgement:
    """Orders of the remainders at each depth, and exponents of the sums in depth."""
    found: dict[str, Number | None] = {
        _order(column, layers): one
        for column in REMAINDERS
        for layers, one in LAWS.exponents(rows, column).items()
        if layers in DEPTHS
    }
    some = rows[rows.strength == rows.strength.min()]  # the sums do not depend on ε
    found |= {_size(column): slope(some.layers, some[column], some.seed) for column in SUMS}
    return judged(
        STATEMENT, found, {f"{SUMS[column]}, geometric mean": geometric_mean(some[column]) for column in SUMS}
    )


def table(rows: "DataFrame") -> "DataFrame":
    """The remainders for each depth and strength."""
    return LAWS.table(rows)


def draw(rows: "DataFrame") -> "Figure":
    """Remainders against the strength for every depth; the orders are in the legend."""
    return LAWS.draw(rows, r"strength $\varepsilon$ of the blocks", "remainder of the output", "remainder: order")
