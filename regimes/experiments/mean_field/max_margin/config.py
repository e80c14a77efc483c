"""Settings of the maximal margins: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

PLANE = 2  # inputs of the problem whose largest margins are known


class Config(Settings):
    """Samples, nets and descent; configs/max_margin.yaml is the real size."""

    inputs: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (2, 10),
        min_length=1,
        description="dimension d; 2: arcs of the circle, more: four clusters in two of d dimensions",
    )
    trained: tuple[Literal["both layers", "output layer"], ...] = Field(
        ("both layers", "output layer"), min_length=1, description="which weights move"
    )
    seeds: int = Field(3, ge=1, description="repetitions: samples and net drawn afresh")
    samples: int = Field(40, ge=8, description="training samples n")
    neurons: int = Field(60, ge=2, description="neurons m")
    step: float = Field(0.05, gt=0, description="step η of the flow of both layers")
    levels: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 2.0, 5.0), min_length=1, description="least y f at which the nets of both layers are looked at"
    )
    iterations: int = Field(3_000, ge=10, description="steps at most; those of the output layer, whose step is 1/L")
    test: int = Field(500, ge=1, description="test samples")
