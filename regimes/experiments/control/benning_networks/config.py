"""Settings of the four nets: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

NET, RESNET, ODENET, SIMPLEX = "Net", "ResNet", "ODENet", "ODENet + simplex"
RESIDUAL = (RESNET, ODENET, SIMPLEX)
Count = Annotated[int, Field(ge=1)]
DataSet = Literal["donut1d", "donut2d", "squares2d", "spiral2d"]


class Config(Settings):
    """Data sets, nets and sizes; configs/benning_networks.yaml is the published size."""

    dataset: tuple[DataSet, ...] = Field(("donut2d", "spiral2d"), min_length=1, description="data sets of the plane")
    net: tuple[Literal["Net", "ResNet", "ODENet", "ODENet + simplex"], ...] = Field(
        (NET, *RESIDUAL),
        min_length=1,
        description="without skips; with fixed steps; with learned steps; projected ones",
    )
    seeds: Count = Field(2, description="repetitions: samples and weights drawn afresh; all nets of a seed share them")
    ensemble: Count = Field(20, description="nets that are trained in one call")
    samples: Count = Field(60, description="training samples")
    fresh: Count = Field(200, description="fresh samples on which the nets are tried")
    layers: Count = Field(6, description="layers of each net")
    iterations: dict[DataSet, Count] = Field(
        {"donut1d": 30, "donut2d": 30, "squares2d": 30, "spiral2d": 30},
        description="iterations of gradient descent on each data set",
    )
    output: float | None = Field(
        None, description="output weights W of the start; null: drawn from N(0, 1), as those of the layers"
    )
