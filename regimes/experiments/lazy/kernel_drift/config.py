"""Settings of the kernel-drift statement: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

SYMMETRIC, ONE_SIGN, MEAN_FIELD = "ntk", "ntk, one sign", "mean-field"


class Config(Settings):
    """Scalings, widths, sizes and integration; configs/kernel_drift.yaml is the real size."""

    scaling: tuple[Literal["ntk", "ntk, one sign", "mean-field"], ...] = Field(
        (SYMMETRIC, ONE_SIGN, MEAN_FIELD),
        min_length=1,
        description="1/√m with output weights of both signs, or all positive; 1/m",
    )
    width: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 128), min_length=1, description="numbers m of neurons; an exponent needs at least two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh; all widths of a seed share data")
    inputs: int = Field(4, ge=1, description="dimension d of the inputs")
    samples: int = Field(8, ge=1, description="training points n on the unit sphere")
    horizon: float = Field(2.0, gt=0, description="flow time at which the kernel is compared with that at the start")
    tolerance: float = Field(1e-8, gt=0, description="relative and absolute tolerance of the finer integration")
