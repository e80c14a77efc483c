"""Settings of the first variation: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """Depths, shares and sizes; configs/first_variation.yaml is the real size."""

    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field((4, 16), min_length=1, description="numbers L of blocks")
    share: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.001, 0.01, 0.1), min_length=1, description="shares λ of the second measure; an order needs at least two"
    )
    seeds: int = Field(3, ge=1, description="repetitions: two measures and samples drawn afresh")
    particles: int = Field(4, ge=1, description="particles M of each measure in each block")
    inputs: int = Field(4, ge=1, description="dimension d of the states")
    samples: int = Field(16, ge=1, description="samples n")
