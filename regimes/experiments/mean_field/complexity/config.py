"""Settings of the statements on particle complexity, and their grid: the defaults are a smoke run of seconds."""

from typing import Annotated, Any

from pydantic import Field

from regimes.lab.config import Settings

FLOW, CONVEX = "flow", "convex"


class ComplexityConfig(Settings):
    """Nets, inputs and descent; each statement adds its activations, `unit`."""

    width: tuple[Annotated[int, Field(ge=1)], ...] = Field((2, 4, 8), min_length=1, description="numbers m of neurons")
    features: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32,), description="further widths at which the output weights alone are fitted"
    )
    seeds: int = Field(2, ge=1, description="trials: teacher and start drawn afresh; all widths of a trial share both")
    inputs: int = Field(6, ge=2, description="dimension d of the Gaussian inputs")
    teachers: int = Field(4, ge=2, multiple_of=2, description="neurons m0 of the teacher, half of them of each sign")
    radius: float = Field(1.0, gt=0, description="ReLU: radius of the sphere from which a neuron (a, b) starts")
    step: float = Field(0.5, gt=0, description="first step of the descent in units of flow time; it adapts")
    steps: int = Field(400, ge=1, description="most steps of the descent")
    round: int = Field(20, ge=1, description="steps between two looks at the loss")
    enough: float = Field(0.1, gt=0, lt=1, description="a run ends where its loss is this part of the band")


def points(config: Any) -> list[dict[str, Any]]:
    """The flow at each width, and the fit of the output weights alone there and at the further widths."""
    found = []
    for unit in config.unit:
        wide = sorted({*config.width, *config.features})
        for way, widths in ((FLOW, config.width), (CONVEX, wide)):
            found += [
                {"unit": unit, "way": way, "width": width, "seed": seed}
                for width in widths
                for seed in range(config.seeds)
            ]
    return found
