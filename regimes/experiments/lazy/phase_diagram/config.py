"""Settings of the phase-diagram statement: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """The plane, widths, samples and integration; configs/phase_diagram.yaml is the real size."""

    width: tuple[Annotated[int, Field(ge=2, multiple_of=2)], ...] = Field(
        (16, 64), min_length=1, description="even numbers m of neurons; an exponent needs at least two"
    )
    gamma: tuple[float, ...] = Field(
        (0.5, 1.0, 1.5), min_length=1, description="γ: κ = β₁β₂/α = m^-γ is the size of one neuron's output"
    )
    gamma_prime: tuple[float, ...] = Field(
        (-0.5, 0.0, 0.5), min_length=1, description="γ': β₁/β₂ = m^-γ' is the ratio of output to input weights"
    )
    seeds: int = Field(
        2, ge=1, description="repetitions: nets and samples drawn afresh; the plane shares those of a seed"
    )
    inputs: int = Field(8, ge=1, description="dimension d of the inputs")
    samples: int = Field(4, ge=1, description="training points n on the unit sphere")
    left: float = Field(0.01, gt=0, lt=1, description="every net is trained to this share of the risk at the start")
    tolerance: float = Field(4e-3, gt=0, description="relative tolerance of the finer integration")
