"""Settings of rebuilt states: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.control.tableau import TABLEAUS
from regimes.lab.config import Settings

METHODS = {each.name: each for each in TABLEAUS if each.explicit}
Method = Literal["Euler", "Heun", "Kutta 3", "Kutta 4", "Bogacki-Shampine", "Dormand-Prince"]
PRECISIONS = ("float32", "float64")
DEFAULT = "default"  # λ = e^(−1/N)
COUPLINGS = ("0.9", "0.99", "0.998", DEFAULT)


class Config(Settings):
    """Methods, couplings and depths; configs/reversibility_limit.yaml is the real size."""

    method: tuple[Method, ...] = Field(("Euler", "Kutta 4"), min_length=1, description="explicit methods")
    precision: tuple[Literal["float32", "float64"], ...] = Field(PRECISIONS, min_length=1, description="of the states")
    coupling: tuple[Literal["0.9", "0.99", "0.998", "default"], ...] = Field(
        ("0.9", DEFAULT), min_length=1, description="λ, or the default e^(−1/N)"
    )
    span: tuple[Annotated[float, Field(gt=0, le=12)], ...] = Field(
        (2.0, 5.0), min_length=1, description="−N log λ, from which the depth N follows; with the default N/scale"
    )
    scale: int = Field(40, ge=4, description="depth for each unit of the span with the default coupling")
    seeds: int = Field(2, ge=1, description="repetitions: weights and samples drawn afresh")
    horizon: float = Field(1.0, gt=0, description="time T of all layers together")
    width: int = Field(4, ge=1, description="width of the states")
    samples: int = Field(8, ge=1, description="samples")
