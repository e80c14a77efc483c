"""κ of one model, by regimes.tangent.criterion."""

from typing import Any

from regimes.conventions import generator
from regimes.errors import users_choice
from regimes.experiments.lazy.criterion_scaling.config import Config
from regimes.experiments.lazy.criterion_scaling.laws import EXPONENTS, LAWS, Problem, Size
from regimes.streams import Criterion
from regimes.tangent.criterion import LazyCriterion, lazy_criterion


def points(config: Config) -> list[dict[str, Any]]:
    """Laws × factors × seeds; the laws in the width have a number of seeds of their own."""
    return [
        {"law": law, "factor": factor, "seed": seed}
        for law in config.law
        for factor in config.factor
        for seed in range(config.wide_seeds if law.startswith("m,") else config.seeds)
    ]


def problem(config: Config, point: dict[str, Any]) -> Problem:
    """The model of a point of the grid."""
    sizes = config.inputs, config.samples, config.hidden, config.width
    return LAWS[point["law"]](Size(config.first_seed + point["seed"], point["factor"], *sizes))


def criterion(config: Config, point: dict[str, Any]) -> LazyCriterion:
    """Its κ."""
    model, x, y, _ = problem(config, point)
    draw = generator(config.first_seed + point["seed"], Criterion.SEARCH, point["factor"])
    tolerance = config.tolerance if point["law"] in EXPONENTS else config.quadratic_tolerance
    how = {"generator": draw, "starts": config.starts, "iterations": 200, "tolerance": tolerance}
    with users_choice():  # of a factor, with which a net may be no longer smooth
        return lazy_criterion(model, x, y, **how)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a model: κ with its bounds, what it is made of, and the closed form where there is one."""
    rows = []
    for point in points:
        found = criterion(config, point)
        rows.append(
            {
                "low": found.low,
                "estimate": found.estimate,
                "high": found.high,
                "distance": found.distance,
                "slope": found.derivative.low,
                "bend": found.second_derivative.low,
                "truth": problem(config, point).truth,
            }
        )
    return rows
