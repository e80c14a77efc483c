"""Settings of the longest contractive steps: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from regimes.control.tableau import TABLEAUS
from regimes.experiments.control.layered import one_of
from regimes.lab.config import Settings

METHODS = {each.name: each for each in TABLEAUS}


class Config(Settings):
    """Methods, steps, nets and search; configs/euler_step_limit.yaml is the real size."""

    method: tuple[Annotated[str, AfterValidator(one_of(METHODS))], ...] = Field(
        ("Euler", "Kutta 3"), min_length=1, description="names of tableaus in control.tableau"
    )
    activation: tuple[Literal["relu", "tanh", "logistic", "softplus", "identity"], ...] = Field(
        ("tanh",), min_length=1, description="σ, with slopes from 0 to 1; the logistic function is scaled"
    )
    place: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        (1.0, 1.5, 2.1),
        min_length=1,
        description="of the step: 1 at the radius of contractivity, 2 at the end of the real stability interval, "
        "linear between and beyond",
    )
    seeds: int = Field(2, ge=1, description="nets of one layer")
    width: int = Field(3, ge=2, description="width of the states, and rows of A")
    radius: float = Field(3.0, gt=0, le=100, description="of the ball in which the search starts")
    pairs: int = Field(12, ge=2, description="pairs from which the search starts")
    search: int = Field(80, ge=0, description="steps of the search for the pair that expands most")
    implicit_search: int = Field(20, ge=0, description="the same for implicit methods, each step of which takes long")
