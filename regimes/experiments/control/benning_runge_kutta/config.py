"""Settings of the Runge-Kutta study: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.control.tableau import EULER, HEUN, KUTTA3, KUTTA4
from regimes.lab.config import Settings

METHODS = {each.name: each for each in (EULER, HEUN, KUTTA3, KUTTA4)}
Count = Annotated[int, Field(ge=1)]


class Config(Settings):
    """Data sets, methods and sizes; configs/benning_runge_kutta.yaml is the published size."""

    dataset: tuple[Literal["donut1d", "donut2d", "squares2d", "spiral2d"], ...] = Field(
        ("donut2d", "spiral2d"), min_length=1, description="data sets of the plane"
    )
    method: tuple[Literal["Euler", "Heun", "Kutta 3", "Kutta 4"], ...] = Field(
        ("Euler", "Heun", "Kutta 3", "Kutta 4"),
        min_length=1,
        description="methods whose steps the layers are; Heun's is the improved Euler method",
    )
    seeds: Count = Field(
        2, description="repetitions: samples and weights drawn afresh; all methods of a seed share them"
    )
    ensemble: Count = Field(10, description="nets that are trained in one call")
    samples: Count = Field(60, description="training samples")
    fresh: Count = Field(200, description="fresh samples on which the nets are tried")
    layers: Count = Field(5, description="layers of each net")
    step: float = Field(0.1, gt=0, description="step h of every layer")
    iterations: Count = Field(20, description="iterations of gradient descent")
    substeps: Count = Field(20, description="steps of Kutta 4 in each layer that stand for the exact flow")
