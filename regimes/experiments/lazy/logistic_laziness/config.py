"""Settings of the statement on the logistic loss: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

LOGISTIC, SQUARE = "logistic", "square"
Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Losses, scales, times, sizes and integration; configs/logistic_laziness.yaml is the real size."""

    loss: tuple[Literal["logistic", "square"], ...] = Field(
        (LOGISTIC, SQUARE), min_length=1, description="loss R; the square one is the control"
    )
    alpha: tuple[Scale, ...] = Field((1000.0, 3000.0), min_length=1, description="scales α of the output")
    log_time: tuple[Scale, ...] = Field(
        (10.0, 100.0, 200.0), min_length=1, description="values of log(1 + t), t the flow time"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh; all scales of a seed share them")
    width: int = Field(16, ge=1, description="neurons m")
    inputs: int = Field(10, ge=1, description="dimension d of the inputs")
    samples: int = Field(4, ge=1, description="training points n on the unit sphere, with labels ±1 by chance")
    held_out: int = Field(8, ge=1, description="further points, on which net and tangent model are compared")
    tolerance: float = Field(1e-5, gt=0, description="relative and absolute tolerance of the finer integration")
    converged: float = Field(
        1e-5, gt=0, description="root mean square residual at which a run with the square loss has ended"
    )
