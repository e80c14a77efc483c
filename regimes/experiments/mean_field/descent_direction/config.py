"""Settings of the descent over measures: the defaults are a smoke run of seconds."""

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """Measures, candidates and steps; configs/descent_direction.yaml is the real size."""

    seeds: int = Field(4, ge=1, description="random measures, each with samples of its own")
    layers: int = Field(4, ge=1, description="number L of cells of depth")
    particles: int = Field(4, ge=1, description="particles M of a measure in each cell")
    inputs: int = Field(4, ge=1, description="dimension d of the states")
    samples: int = Field(8, ge=1, description="samples n")
    candidates: int = Field(64, ge=1, description="random (v, c) among which the best particle of a cell is sought")
    steps: int = Field(10, ge=1, description="steps of descent")
