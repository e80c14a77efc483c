"""Settings of the training of times: the defaults are a smoke run of seconds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings

FIXED, TIMES, WEIGHTS = "fixed", "times", "weights"


class Config(Settings):
    """Nets, steps and their sizes; configs/depth_coordinate.yaml is the real size."""

    arm: tuple[Literal["fixed", "times", "weights"], ...] = Field(
        (FIXED, TIMES, WEIGHTS), min_length=1, description="what is trained beside θ: nothing, times τ, or free weights"
    )
    rate: tuple[Annotated[float, Field(gt=0)], ...] = Field((0.1, 0.3), min_length=1, description="steps of the flow")
    relative: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 0.01), min_length=1, description="steps of times or weights over those of θ"
    )
    seeds: int = Field(4, ge=2, description="problems; the first quarter of them chooses the steps of each arm")
    layers: int = Field(4, ge=2, description="number L of blocks, each a particle (θ, τ)")
    neurons: int = Field(2, ge=1, description="neurons M of a block")
    inputs: int = Field(3, ge=1, description="dimension d of the states")
    samples: int = Field(8, ge=1, description="samples n")
    steps: int = Field(30, ge=1, description="steps of gradient descent")


def points(config: Config) -> list[dict[str, Any]]:
    """Every arm with all its steps; one that trains nothing beside θ has no relative step."""
    return [
        {"arm": arm, "relative": relative, "rate": rate, "seed": seed}
        for arm in config.arm
        for relative in ((0.0,) if arm == FIXED else config.relative)
        for rate in config.rate
        for seed in range(config.seeds)
    ]
