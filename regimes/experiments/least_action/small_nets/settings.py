"""Settings of small nets on few images, which all statements about them share."""

from typing import Literal

from pydantic import Field

from regimes.lab.config import Settings

Arm = Literal["vanilla", "lap", "control"]
ARMS: tuple[Arm, ...] = ("vanilla", "lap", "control")
VANILLA, LAP, CONTROL = ARMS


class SmallNets(Settings):
    """Data, nets and training; the defaults are a smoke run."""

    dataset: Literal["digits", "mnist"] = Field("digits", description="data set; digits needs no files")
    arm: tuple[Arm, ...] = Field(ARMS, min_length=1, description="the risk; least action; its λ without transport")
    seeds: int = Field(4, ge=2, description="training and test images, initial weights")
    test_size: int = Field(200, ge=1, description="test images")
    blocks: int = Field(9, ge=1, description="residual blocks")
    gain: float = Field(0.3, gt=0, description="gain of the Kaiming weights")
    rate: float = Field(0.001, gt=0, description="learning rate of SGD on the whole training set")
    momentum: float = Field(0.9, ge=0, lt=1, description="its momentum")
    decay: float = Field(1e-4, ge=0, description="weight decay")
    multiplier: float = Field(5.0, gt=0, description="λ at the start")
    growth: float = Field(1.0, ge=0, description="τ: λ grows by τ times the risk")
    every: int = Field(5, ge=1, description="steps between two updates of λ")
    steps: int = Field(30, ge=1, description="steps of the protocol")
    most_steps: int = Field(60, ge=1, description="steps after which a net is given up that is not at equal risk")
    equal_risk: float = Field(0.1, gt=0, description="training risk at which arms are compared")
    ensemble: int = Field(25, ge=1, description="nets trained side by side: how fast, not what")
