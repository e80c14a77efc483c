"""Settings of the spurious minima: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings

GLOBAL = 1e-3  # published: a risk above this is that of a spurious minimum


class Config(Settings):
    """Teachers, students and descent; configs/spurious_minima.yaml is the real size."""

    teacher: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (6, 10), min_length=1, description="neurons k of the orthogonal teacher, as many as inputs"
    )
    extra: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1), min_length=1, description="neurons m − k that the student has more than the teacher"
    )
    seeds: int = Field(12, ge=1, description="starts of each student")
    step: float = Field(0.1, gt=0, description="step of gradient descent; published: 0.1")
    iterations: int = Field(4_000, ge=1, description="steps at the latest; then a run is undecided")
    still: float = Field(1e-9, gt=0, description="a run ends where 2π ‖∂R/∂w_j‖ of each neuron is at most this")
    found: float = Field(
        1e-5, gt=0, le=GLOBAL, description="a run ends where the risk is at most this: a global minimum"
    )
    curvatures: int = Field(2, ge=0, description="minima of each size whose Hessian is computed")
    cures: int = Field(3, ge=0, description="minima of each size to which neurons are added")
    added: int = Field(4, ge=1, description="neurons added at most, one after the other")
