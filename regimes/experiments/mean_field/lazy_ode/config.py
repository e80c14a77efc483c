"""Settings of the lazy ODE: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

MIRRORED, CORRELATED = "mirrored", "correlated"


class Config(Settings):
    """Laws of the weights, depths, scales and training; configs/lazy_ode.yaml is the real size."""

    law: tuple[Literal["mirrored", "correlated"], ...] = Field(
        (MIRRORED, CORRELATED), min_length=1, description="laws of the initial weights, see nets.py"
    )
    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field((4, 16), min_length=1, description="numbers L of blocks")
    alpha: tuple[Annotated[float, Field(ge=1)], ...] = Field(
        (1.0, 30.0, 100.0), min_length=1, description="scales α of the residual branch; exponents are of those above 1"
    )
    seeds: int = Field(3, ge=1, description="repetitions: samples and weights drawn afresh")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    width: int = Field(8, ge=2, multiple_of=2, description="neurons M of a block")
    inputs: int = Field(3, ge=1, description="dimension d of the states")
    samples: int = Field(4, ge=1, description="samples n")
    steps: int = Field(10, ge=1, description="steps of gradient descent")
    rate: float = Field(0.2, gt=0, description="step in units of the limit: L M / α² times the step in the weights")
