"""Settings of the nets whose layers look stable: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """Nets and their rotations; configs/frozen_eigenvalues_mislead.yaml is the real size."""

    net: tuple[Literal["Vinograd", "Markus-Yamabe", "triangular", "triangular, tanh"], ...] = Field(
        ("Vinograd", "Markus-Yamabe", "triangular", "triangular, tanh"),
        min_length=1,
        description="published matrices in the plane, or random triangular ones, without and with tanh between",
    )
    speed: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.0, 1.0), min_length=1, description="of the rotation, over that of the skew part of the matrix"
    )
    seeds: int = Field(2, ge=1, description="nets of each kind; published ones turn at random to begin with")
    width: int = Field(4, ge=2, description="width of the random nets")
    layers: int = Field(2000, ge=16, description="layers of a net: Euler steps")
    gain: float = Field(20.0, gt=1, description="amplification of the equation at speed 1, which sets its time")
    small: float = Field(1e-4, gt=0, le=1, description="size of the states at the start, where tanh is nearly linear")
