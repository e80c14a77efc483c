"""Settings of the trajectories statement: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings

SMALL, LARGE = 0.1, 2.0  # the scales of the predictions
SHOWN = 100  # times at which weights are looked at, equally spaced in log time


class Config(Settings):
    """Scales, seeds and the length of training; configs/trajectories.yaml is the published size."""

    tau: list[Annotated[float, Field(gt=0)]] = Field(
        [SMALL, LARGE], min_length=1, description="scales τ of the initial weights; predictions are made for 0.1 and 2"
    )
    seeds: int = Field(5, ge=1, description="repetitions: teacher, data and start drawn afresh, shared by all τ")
    neurons: int = Field(16, ge=2, multiple_of=2, description="neurons m; half are drawn, half are their mirror images")
    samples: int = Field(15, ge=1, description="training points on the unit circle")
    iterations: int = Field(2_000, ge=SHOWN, description="steps of full-batch gradient descent")
    step: float = Field(0.005, gt=0, description="learning rate")
    drawn: int = Field(1, ge=1, description="seeds whose paths are kept for the figure")
