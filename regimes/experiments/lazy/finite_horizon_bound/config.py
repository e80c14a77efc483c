"""Settings of the finite-horizon statement: the defaults are a smoke run of seconds."""

from typing import Literal, get_args

from pydantic import Field

from regimes.lab.config import Settings

Family = Literal["scalar", "rotated", "sine", "tanh", "softplus"]
FAMILIES: tuple[Family, ...] = get_args(Family)


class Config(Settings):
    """Families of problems, their number and the integration; configs/finite_horizon_bound.yaml is the real size."""

    family: tuple[Family, ...] = Field(
        FAMILIES,
        min_length=1,
        description="kinds of maps with known Lipschitz constants; `scalar` comes close to the bound",
    )
    seeds: int = Field(8, ge=1, description="random problems of each family")
    tolerance: float = Field(1e-8, gt=0, description="relative and absolute tolerance of the finer integration")
    shrink: float = Field(
        1.0, gt=0, description="factor on the Lipschitz constant of Dh; below 1 the hypothesis is false, as a check"
    )
