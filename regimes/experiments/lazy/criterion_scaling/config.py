"""Settings of the scaling of the lazy criterion: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.experiments.lazy.criterion_scaling.laws import LAWS
from regimes.lab.config import Settings

Law = Literal[
    "linear", "one output", "commuting", "anticommuting", "α, centred", "α, not centred", "λ, linear net, q = 2",
    "λ, linear net, q = 3", "λ, squares, q = 3", "λ, not centred",
    "m, α = 1", "m, α = m^-1/2", "m, α = m^-3/4", "m, α = 1/m",
]  # fmt: skip
assert set(Law.__args__) == set(LAWS)


class Config(Settings):
    """Laws, factors and sizes; configs/criterion_scaling.yaml is the real size."""

    law: tuple[Law, ...] = Field(
        ("linear", "anticommuting", "α, centred", "m, α = m^-1/2"), min_length=1, description="laws of κ to test"
    )
    factor: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 4), min_length=1, description="what α, λ, the width or the size is multiplied by; an exponent needs two"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh; all factors of a seed share data")
    wide_seeds: int = Field(2, ge=1, description="the same of the laws in the width, which fluctuate")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    inputs: int = Field(3, ge=1, description="dimension d of the inputs")
    samples: int = Field(8, ge=3, description="inputs n on the unit sphere")
    hidden: int = Field(8, ge=1, description="neurons of a layer in the laws of α and λ")
    width: int = Field(16, ge=1, description="neurons of a wide net at the factor 1")
    starts: int = Field(1, ge=1, description="random starts of the search for ‖D²h‖ from below")
    tolerance: float = Field(0.2, gt=0, description="relative width at which the search from above ends, nets")
    quadratic_tolerance: float = Field(0.01, gt=0, description="the same for linear and quadratic models")
