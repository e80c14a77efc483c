"""Settings of the symplectic layers: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from regimes.experiments.control.halves import METHODS
from regimes.experiments.control.layered import one_of
from regimes.lab.config import Settings

RANDOM, TRAINED = "random", "trained"


class Config(Settings):
    """Nets, methods and steps; configs/hamiltonian_symplectic.yaml is the real size."""

    nets: tuple[Literal["random", "trained"], ...] = Field(
        (RANDOM, TRAINED), min_length=1, description="weights as drawn, or trained on two spirals with Störmer-Verlet"
    )
    method: tuple[Annotated[str, AfterValidator(one_of(METHODS))], ...] = Field(
        ("Störmer-Verlet", "Euler"), min_length=1, description="names of pairs and tableaus in control.tableau"
    )
    halvings: tuple[Annotated[int, Field(ge=0, le=8)], ...] = Field(
        (0, 1), min_length=1, description="how often the longest step is halved; an order needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: weights and points drawn afresh")
    longest: float = Field(0.1, gt=0, description="longest step h of a layer")
    layers: int = Field(3, ge=1, description="layers of a network, each with weights of its own")
    half: int = Field(2, ge=2, description="features of z, and as many of p")
    hidden: int = Field(4, ge=1, description="rows of A")
    samples: int = Field(8, ge=2, description="points of the spirals at which Jacobians are taken")
    iterations: int = Field(10, ge=1, description="steps of Adam of the trained nets, with layers of step 0.5")
    rate: float = Field(0.02, gt=0, description="learning rate of Adam")
