"""Settings of the width-scaling statement: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

MEAN_FIELD, LAZY = "1/m", "1/sqrt(m)"


class Config(Settings):
    """Widths, trials and sizes; configs/width_scaling.yaml is the published size."""

    width: list[Annotated[int, Field(ge=1)]] = Field([16, 128], min_length=1, description="numbers m of neurons")
    scaling: list[Literal["1/m", "1/sqrt(m)"]] = Field(
        [MEAN_FIELD, LAZY], min_length=1, description="factors before the sum over neurons"
    )
    seeds: int = Field(2, ge=1, description="trials: teacher and data drawn afresh, shared by all widths and scalings")
    inputs: int = Field(
        50,
        ge=2,
        description="dimension d of the inputs, and the teacher's |a_j|, which keeps the published steps stable",
    )
    samples: int = Field(400, ge=1, description="training samples on the unit sphere")
    test_samples: int = Field(500, ge=1, description="test samples on the unit sphere")
    iterations: int = Field(1000, ge=1, description="steps of full-batch gradient descent")
    precision: Literal["float32", "float64"] = Field("float32", description="number format of weights and gradients")
