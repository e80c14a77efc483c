"""Settings of the bound on the adjoint: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

RANDOM, TIGHT = "random", "tight"


class Config(Settings):
    """Problems, depths and integration; configs/adjoint_bound.yaml is the real size."""

    problems: tuple[Literal["random", "tight"], ...] = Field(
        (RANDOM, TIGHT), min_length=1, description="random measures, or those for which the bound is nearly attained"
    )
    layers: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (8, 16), min_length=1, description="numbers L of blocks whose back-propagation is compared with the flow"
    )
    seeds: int = Field(3, ge=1, description="repetitions: measure and samples drawn afresh")
    particles: int = Field(4, ge=1, description="particles M of a random measure")
    inputs: int = Field(4, ge=1, description="dimension d of the states of a random measure")
    samples: int = Field(16, ge=1, description="samples n")
    tolerance: float = Field(1e-7, gt=0, description="relative and absolute tolerance of the finer integration")
