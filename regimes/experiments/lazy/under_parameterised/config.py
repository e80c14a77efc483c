"""Settings of the under-parameterised statement: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Scales, sizes and integration; configs/under_parameterised.yaml is the real size."""

    alpha: tuple[Scale, ...] = Field(
        (300.0, 1000.0), min_length=1, description="scales α of the output; an exponent needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh")
    width: int = Field(1, ge=1, description="neurons m; the net has m(d + 1) weights, fewer than samples")
    inputs: int = Field(6, ge=1, description="dimension d of the Gaussian inputs")
    samples: int = Field(50, ge=2, description="training points n")
    span: float = Field(
        25.0, gt=0, description="end of the flow, in units of 1/λ, λ the slowest rate of the tangent model"
    )
    times: int = Field(40, ge=4, description="equally spaced times at which the distance to the limit is looked at")
    tolerance: float = Field(1e-8, gt=0, description="relative and absolute tolerance of the finer integration")
    newton_steps: int = Field(6, ge=1, description="steps of Newton's method from the end of the flow to its limit")
