"""A small experiment for the tests of the bench: y = x² with a little noise, in one or several rows a point."""

import random
import time

import pandas
from matplotlib.figure import Figure
from pydantic import Field

from regimes.lab.config import Settings
from regimes.lab.figures import figure
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import loglog_slope

SLOPE = "slope of log y against log x"
STATEMENT = Statement(
    "y grows as the square of x.", "[Toy] eq. (1)", (Prediction(SLOPE, Interval(1.9, 2.1), "derived"),)
)
GRID = ("x", "seed")
BATCHED = ("seed",)


class Config(Settings):
    x: list[float] = [1.0, 2.0, 4.0, 8.0]
    seeds: int = 3
    moments: int = Field(1, description="rows a point")
    pause: float = Field(0.0, description="seconds a call")
    broken: list[float] = Field([], description="values of x at which measure raises")


def measure(config: Config, points: list[dict]) -> list:
    time.sleep(config.pause)
    results = []
    for point in points:
        if point["x"] in config.broken:
            raise ArithmeticError(f"no square\nof {point['x']}")
        noise = random.Random(f"{point['x']} {point['seed']}")
        row = {"y": point["x"] ** 2 * (1 + 0.01 * noise.random()), "gap": float("nan"), "label": 'a "b", c'}
        results.append([{"moment": moment, **row} for moment in range(config.moments)] if config.moments > 1 else row)
    return results


def judge(rows: pandas.DataFrame) -> Judgement:
    return STATEMENT.judge({SLOPE: loglog_slope(rows.x, rows.y, rows.seed).interval})


def draw(rows: pandas.DataFrame) -> Figure:
    made, ax = figure()
    ax.loglog(rows.x, rows.y, "o")
    return made
