"""Settings of the abc-phases statement: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """The plane, widths, samples and steps; configs/abc_phases.yaml is the real size."""

    width: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (16, 64), min_length=1, description="neurons of each hidden layer; an exponent needs at least two widths"
    )
    readout: tuple[float, ...] = Field(
        (0.5, 1.0), min_length=1, description="s = a_{L+1} + b_{L+1}: output weights start at n^-s"
    )
    hidden: tuple[float, ...] = Field(
        (0.0, 0.5), min_length=1, description="a: hidden weights learn at n^-2a, input weights at n^(1-2a)"
    )
    seeds: int = Field(
        2, ge=1, description="repetitions: nets and samples drawn afresh; the plane shares those of a seed"
    )
    hidden_layers: int = Field(2, ge=1, description="L, with tanh")
    inputs: int = Field(8, ge=1, description="dimension d of the inputs")
    samples: int = Field(4, ge=1, description="training points on the sphere of radius √d")
    steps: int = Field(3, ge=1, description="steps of gradient descent")
    rate: float = Field(1.0, gt=0, description="learning rate η, before its power of the width")
