"""Settings of the contraction of gradient nets: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """Nets, states and search; configs/contraction_bound.yaml is the real size."""

    activation: tuple[Literal["relu", "tanh", "logistic", "softplus", "identity"], ...] = Field(
        ("relu", "identity"), min_length=1, description="σ, with slopes from 0 to 1; the logistic function is scaled"
    )
    width: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (2, 3), min_length=1, description="widths of the states; at 2 the exact constant is known as well"
    )
    seeds: int = Field(3, ge=1, description="nets of each activation and width")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    layers: int = Field(2, ge=1, description="layers of a net, each with weights of its own")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 3), min_length=1, description="rows of A over its columns"
    )
    horizon: float = Field(2.0, gt=0, le=40, description="time T of all layers together")
    radius: float = Field(2.0, gt=0, le=100, description="of the ball in which states start")
    states: int = Field(16, ge=2, description="states sampled in each layer")
    pairs: int = Field(8, ge=2, description="pairs from which the search starts, and pairs of the flow")
    hops: int = Field(2, ge=0, description="random searches around the worst state")
    search: int = Field(60, ge=0, description="steps of the search for the worst pair")
    substeps: int = Field(8, ge=2, description="steps of Kutta's method in a layer; half as many measure the error")
    grid: int = Field(60, ge=2, description="points on an axis of the grid on which the constant at width 2 is known")
