"""Nets from initial weights of many laws and gains, and what least action gains from each of them."""

from typing import Annotated, Any

from pydantic import Field

from regimes.experiments.least_action.initialisations import correlations
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.course import Start, course, rows_of
from regimes.experiments.least_action.small_nets.settings import VANILLA, SmallNets
from regimes.lab.numbers import Number

LAWS = ("kaiming", "orthogonal", "normal")
Gain = Annotated[float, Field(gt=0)]


class Config(SmallNets):
    """Gains of each law, data, nets and training; configs/bad_initialisations.yaml is the real size."""

    kaiming: tuple[Gain, ...] = Field((0.2, 0.4), description="gains of Kaiming normal weights, N(0, 2/fan_out)")
    orthogonal: tuple[Gain, ...] = Field((0.1, 0.3), description="gains of orthogonal weights")
    normal: tuple[Gain, ...] = Field((0.03, 0.1), description="standard deviations of normal weights")
    train_size: int = Field(50, ge=2, description="training images")
    width: int = Field(16, ge=1, description="features of the states")


def points(config: Config) -> list[dict[str, Any]]:
    """Every gain of every law, with every arm and seed."""
    return [
        {"arm": arm, "law": law, "gain": gain, "seed": seed}
        for arm in config.arm
        for law in LAWS
        for gain in getattr(config, law)
        for seed in range(config.seeds)
    ]


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: accuracies and transport costs after the protocol's steps and at equal risk."""
    starts = [Start(point["seed"], point["gain"], point["law"]) for point in points]
    return rows_of(course(config, points[0]["arm"], config.train_size, config.width, starts))


def advantages(rows: Any, other: str, prefix: str) -> Any:
    """A row a start: least action's accuracy less the other arm's, in points, and the cost of plain training.

    At equal risk (prefix equal_) of the starts from which all arms reached it.
    """
    import pandas

    keys = ("law", "gain", "seed")
    first, second = contrasts.pairs(rows, prefix + "accuracy", other, keys)
    moved = contrasts.of_arm(rows, VANILLA, prefix + "transport", keys)
    both = first.index.intersection(moved.index, sort=None)
    return pandas.DataFrame({"advantage": 100 * (first - second)[both], "moved": moved[both]}).reset_index()


def growth(rows: Any, other: str, prefix: str) -> Number | None:
    """Spearman's ρ of the two over the initialisations of a seed; mean over seeds, interval over laws and seeds."""
    return correlations(advantages(rows, other, prefix), "moved", "advantage")
