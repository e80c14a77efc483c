"""Settings of the expansion of a ResNet into shallow nets: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """Depths, strengths and sizes; configs/ensemble_expansion.yaml is the real size."""

    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 64), min_length=1, description="numbers L of blocks")
    strength: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.01, 0.1), min_length=1, description="strengths ε of the residual field; an order needs at least two"
    )
    seeds: int = Field(3, ge=1, description="repetitions: weights and samples drawn afresh")
    particles: int = Field(4, ge=1, description="neurons M of a block")
    inputs: int = Field(4, ge=1, description="dimension d of the states")
    samples: int = Field(16, ge=1, description="samples n")
