"""Settings of the energy over long depth: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import AfterValidator, Field

from regimes.experiments.control.halves import METHODS
from regimes.experiments.control.layered import one_of
from regimes.lab.config import Settings


class Config(Settings):
    """Methods, depth and steps; configs/non_autonomous_energy.yaml is the real size."""

    method: tuple[Annotated[str, AfterValidator(one_of(METHODS))], ...] = Field(
        ("Störmer-Verlet", "Kutta 3"), min_length=1, description="names of pairs and tableaus in control.tableau"
    )
    halvings: tuple[Annotated[int, Field(ge=0, le=4)], ...] = Field(
        (0, 1), min_length=1, description="how often the steps of the orders are halved; an order needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: weights and starts drawn afresh")
    layers: int = Field(200, ge=40, description="depth over which energies are followed, each layer one step")
    size: float = Field(0.2, gt=0, description="step h of these layers, by every method")
    shorter: float = Field(0.05, gt=0, le=1, description="times of the runs for the orders, as a share of the real one")
    half: int = Field(2, ge=1, description="features of z, and as many of p")
    hidden: int = Field(4, ge=1, description="rows of A")
    samples: int = Field(4, ge=1, description="starts, half of them those of the other half with −p")
    swing: float = Field(0.3, ge=0, description="ε: amplitude of the weights' change in time")
    frequency: float = Field(1.3, gt=0, description="ω: their frequency")
