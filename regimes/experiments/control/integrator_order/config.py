"""Settings of the orders of integrators: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from regimes.control.tableau import TABLEAUS
from regimes.experiments.control.layered import one_of
from regimes.lab.config import Settings

OSCILLATOR, NETWORK = "oscillator", "network"
METHODS = {each.name: each for each in TABLEAUS}


class Config(Settings):
    """Problems, methods and numbers of steps; configs/integrator_order.yaml is the real size."""

    problem: tuple[Literal["oscillator", "network"], ...] = Field(
        (OSCILLATOR, NETWORK), min_length=1, description="a pushed oscillator with a known solution, or random layers"
    )
    method: tuple[Annotated[str, AfterValidator(one_of(METHODS))], ...] = Field(
        ("Euler", "Kutta 4", "Gauss, 3 stages"), min_length=1, description="names of tableaus in control.tableau"
    )
    halvings: tuple[Annotated[int, Field(ge=0, le=6)], ...] = Field(
        (0, 1), min_length=1, description="how often the longest step is halved; an order needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: pushes, starts and weights drawn afresh")
    horizon: float = Field(4.0, gt=0, description="time T over which errors are measured")
    width: int = Field(2, ge=1, description="width of the network's states")
    samples: int = Field(2, ge=1, description="samples of the network")
