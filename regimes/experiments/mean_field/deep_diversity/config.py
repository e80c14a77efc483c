"""Settings of the diversity of deep measures: the defaults are a smoke run of seconds."""

from typing import Literal

from pydantic import Field

from regimes.lab.config import Settings

FULL, THIN, FLAT, BALL = "full", "thin", "flat", "ball"
FLAT_FULL, FLAT_FLAT, BALL_FULL = "flat, then full", "flat, then flat", "ball, then full"
ARMS = (FULL, THIN, FLAT, BALL, FLAT_FULL, FLAT_FLAT, BALL_FULL)


class Config(Settings):
    """Measures, samples and flow; configs/deep_diversity.yaml is the real size."""

    arm: tuple[
        Literal["full", "thin", "flat", "ball", "flat, then full", "flat, then flat", "ball, then full"], ...
    ] = Field(ARMS, min_length=1, description="where the particles start, and with what support some are added later")
    seeds: int = Field(2, ge=1, description="problems, each with samples and particles of its own")
    layers: int = Field(2, ge=1, description="number L of cells of depth")
    particles: int = Field(4, ge=2, description="particles M in each cell; half as many are added in one cell")
    inputs: int = Field(3, ge=2, description="dimension d of the states")
    groups: int = Field(3, ge=1, description="places of the other coordinates; each has four samples")
    radius: float = Field(0.01, gt=0, description="size of the ball, relative to full support")
    thickness: float = Field(0.001, gt=0, description="distance of the thin support from the hyperplane, likewise")
    share: float = Field(0.1, gt=0, lt=1, description="mass of the particles that are added in one cell")
    horizon: float = Field(4.0, gt=0, description="flow time, before particles are added and again after")
    tolerance: float = Field(1e-4, gt=0, description="relative tolerance of the flow")
    left: float = Field(1e-6, gt=0, lt=1, description="share of the risk of f = 0 at which a flow stops")
    candidates: int = Field(64, ge=1, description="random (v, c) among which the steepest particle of a cell is sought")
