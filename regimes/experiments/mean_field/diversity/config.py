"""Settings of the diversity of the start: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

Problem = Literal["relu 2-d", "relu 10-d", "erf 2-d"]
Start = Literal["everywhere", "half", "cap", "one sign", "few points", "few neurons"]
PROBLEMS: tuple[Problem, ...] = ("relu 2-d", "relu 10-d", "erf 2-d")
STARTS: tuple[Start, ...] = ("everywhere", "half", "cap", "one sign", "few points", "few neurons")


class Config(Settings):
    """Problems, starts and the flow; configs/diversity.yaml is the real size."""

    problem: tuple[Problem, ...] = Field(PROBLEMS, min_length=1, description="which lift, in which dimension")
    start: tuple[Start, ...] = Field(STARTS, min_length=1, description="what the support of the first measure is")
    seeds: int = Field(2, ge=1, description="repetitions: teacher and start drawn afresh")
    neurons: int = Field(16, ge=4, description="neurons m of the student; few neurons: as many as the teacher has")
    penalty: float = Field(0.003, gt=0, description="λ of λ ∫ |u|²/2 dμ for ReLU")
    times: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (5.0, 15.0), min_length=1, description="flow times at which nets are looked at; of erf three times these"
    )
    tolerance: float = Field(1e-4, gt=0, description="relative tolerance of the flow")
    drawn: int = Field(1, ge=0, description="seeds whose paths in the plane are kept for the figure")
    paths: int = Field(20, ge=2, description="times of a path, equally spaced in log time")
