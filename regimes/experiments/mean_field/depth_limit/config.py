"""Settings of the limit of depth: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

FIXED, SQUARE, SMOOTH = "fixed", "as wide as deep", "smooth"


class Config(Settings):
    """Kinds of weights, depths and sizes; configs/depth_limit.yaml is the real size."""

    weights: tuple[Literal["fixed", "as wide as deep", "smooth"], ...] = Field(
        (FIXED, SQUARE, SMOOTH),
        min_length=1,
        description="independent weights at a fixed width or as wide as deep; or weights smooth in depth",
    )
    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 64), min_length=1, description="numbers L of blocks; an exponent needs at least two"
    )
    width: int = Field(2, ge=1, description="neurons M of a block where the width is fixed")
    seeds: int = Field(4, ge=1, description="repetitions: weights and samples drawn afresh")
    inputs: int = Field(4, ge=1, description="dimension d of the states")
    samples: int = Field(8, ge=1, description="samples n")
    tolerance: float = Field(1e-8, gt=0, description="relative and absolute tolerance of the limits' integration")
