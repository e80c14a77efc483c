"""Settings of the unbalanced-layers statement: the defaults are a smoke run of seconds."""

from typing import Literal

from pydantic import Field

from regimes.lab.config import Settings

LINEAR, RELU_NET = "identity", "relu"


class Config(Settings):
    """Activations, imbalances, sizes and integration; configs/unbalanced_layers.yaml is the real size."""

    activation: tuple[Literal["identity", "relu"], ...] = Field(
        (LINEAR, RELU_NET), min_length=1, description="linear nets, and ReLU nets"
    )
    imbalance: tuple[float, ...] = Field(
        (-3.0, -1.5, 0.0, 1.5, 3.0), min_length=1, description="decimal logarithms of β₁/β₂; above 0 is upstream"
    )
    seeds: int = Field(
        2, ge=1, description="repetitions: nets and samples drawn afresh; all imbalances of a seed share"
    )
    width: int = Field(64, ge=2, multiple_of=2, description="number m of neurons")
    scale: float = Field(1.0, gt=0, description="κm: the output of m neurons that agree; small is rich, large is lazy")
    inputs: int = Field(8, ge=1, description="dimension d of the inputs")
    samples: int = Field(4, ge=1, description="training points n on the unit sphere")
    left: float = Field(0.01, gt=0, lt=1, description="every net is trained to this share of the risk at the start")
    tolerance: float = Field(2e-3, gt=0, description="relative tolerance of the finer integration")
