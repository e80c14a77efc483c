"""Settings of the statement on optimisers: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]
Name = Literal[
    "gradient descent",
    "SGD",
    "momentum",
    "Adam, rate 1/α",
    "Adam, large ε",
    "Adam, rate 1/√α",
    "Adam, fixed rate",
    "Adam, tuned rate",
]
NAMES: tuple[Name, ...] = get_args(Name)


class Config(Settings):
    """Optimisers, scales, sizes and steps; configs/optimisers_and_laziness.yaml is the real size."""

    optimiser: tuple[Name, ...] = Field(NAMES, min_length=1, description="what trains net and tangent model")
    alpha: tuple[Scale, ...] = Field(
        (1000.0, 10000.0), min_length=1, description="scales α of the output; exponents are fitted from α = 1000 on"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets, data and batches drawn afresh")
    width: int = Field(16, ge=1, description="neurons m")
    inputs: int = Field(4, ge=1, description="dimension d of the inputs")
    samples: int = Field(8, ge=2, description="training points n on the unit sphere")
    batch: int = Field(4, ge=1, description="samples of a batch of SGD, drawn without repetition at each step")
    steps: int = Field(40, ge=1, description="steps of training; the distances are looked at after each")
    tuned: int = Field(
        4, ge=1, description="rates a decade that are tried where the rate is tuned, from 10 / the largest α down"
    )
    ensemble: int = Field(40, ge=1, description="runs trained together; fewer need less memory")
