"""Settings of the two gradients: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import AfterValidator, Field

from regimes.control.tableau import TABLEAUS
from regimes.experiments.control.layered import one_of
from regimes.lab.config import Settings

# A partner divides by the weights.
METHODS = {each.name: each for each in TABLEAUS if 0 not in each.b}
ZERO = " among those without zero weights"


class Config(Settings):
    """Methods, steps and sizes; configs/dto_equals_otd.yaml is the real size."""

    method: tuple[Annotated[str, AfterValidator(one_of(METHODS, ZERO))], ...] = Field(
        ("Euler", "Heun", "implicit midpoint"), min_length=1, description="names of tableaus without zero weights"
    )
    substeps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (4, 8), min_length=1, description="steps of the method in each layer; an order needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: weights, samples and targets drawn afresh")
    layers: int = Field(4, ge=1, description="layers of the network, each with weights of its own")
    horizon: float = Field(1.0, gt=0, description="time T of all layers together")
    width: int = Field(2, ge=1, description="width of the states")
    samples: int = Field(4, ge=1, description="samples")
