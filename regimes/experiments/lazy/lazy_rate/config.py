"""Settings of the lazy-rate statement: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Starts, scales, sizes and integration; configs/lazy_rate.yaml is the real size."""

    start: tuple[Literal["doubled", "centred", "plain"], ...] = Field(
        ("doubled", "centred", "plain"), min_length=1, description="initial nets to compare; only `plain` has h(w0) ≠ 0"
    )
    alpha: tuple[Scale, ...] = Field(
        (30.0, 100.0), min_length=1, description="scales α of the output; an exponent needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh")
    width: int = Field(16, ge=2, multiple_of=2, description="neurons m")
    inputs: int = Field(4, ge=1, description="dimension d of the inputs")
    samples: int = Field(8, ge=1, description="training points n on the unit sphere")
    activation: Literal["tanh", "erf", "softplus"] = Field(
        "tanh", description="activation σ; the theorem needs it smooth"
    )
    horizon: float = Field(2.0, gt=0, description="end T of the time interval, in flow time of the α-scaled risk")
    times: int = Field(5, ge=1, description="equally spaced times at which the distances are looked at")
    tolerance: float = Field(1e-8, gt=0, description="relative and absolute tolerance of the finer integration")
