"""Settings of the convexity of the risk: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

DRAWN, TRAINED = "drawn", "trained"


class Config(Settings):
    """Nets, samples and training; configs/convexity.yaml is the real size."""

    nets: tuple[Literal["drawn", "trained"], ...] = Field(
        (DRAWN, TRAINED), min_length=1, description="pairs of nets as drawn, or after training from there"
    )
    width: tuple[Annotated[int, Field(ge=1)], ...] = Field((8, 32), min_length=1, description="numbers m of neurons")
    seeds: int = Field(4, ge=1, description="repetitions: pairs of nets and samples drawn afresh")
    inputs: int = Field(4, ge=1, description="dimension d of the inputs")
    samples: int = Field(16, ge=1, description="training points n on the unit sphere")
    left: float = Field(0.01, gt=0, lt=1, description="share of the risk that is left when the training stops")
    horizon: float = Field(1e4, gt=0, description="flow time at which the training stops at the latest")
    tolerance: float = Field(1e-5, gt=0, description="relative tolerance of the flow")
