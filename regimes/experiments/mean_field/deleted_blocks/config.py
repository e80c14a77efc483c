"""Settings of the deletion of blocks: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

MEAN_FIELD, ROOT, PLAIN = "residual 1/L", "residual 1/√L", "plain"


class Config(Settings):
    """Nets, samples, training and deletions; configs/deleted_blocks.yaml is the real size."""

    net: tuple[Literal["residual 1/L", "residual 1/√L", "plain"], ...] = Field(
        (MEAN_FIELD, ROOT, PLAIN), min_length=1, description="residual nets by the factor of a block, or a plain net"
    )
    layers: tuple[Annotated[int, Field(ge=2)], ...] = Field((4, 8), min_length=1, description="numbers L of blocks")
    seeds: int = Field(2, ge=1, description="nets, each with a split of the digits, weights and batches of its own")
    train: int = Field(200, ge=20, le=1438, description="training samples")
    test: int = Field(100, ge=10, le=359, description="test samples")
    width: int = Field(16, ge=2, description="dimension of the states")
    hidden: int = Field(16, ge=1, description="hidden neurons of a residual block")
    epochs: int = Field(5, ge=1, description="passes over the training samples")
    batch: int = Field(50, ge=1, description="samples of a step")
    rate: float = Field(3e-3, gt=0, description="learning rate of Adam at the start; it falls to 0 as a cosine")
    draws: int = Field(4, ge=2, description="random orders in which blocks are deleted")
