"""Settings of the tangent-spectrum statement: the defaults are a smoke run of seconds on digits."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings


class Config(Settings):
    """Data and widths; configs/tangent_spectrum_cnn.yaml is the real size."""

    dataset: Literal["digits", "mnist", "cifar10"] = Field("digits", description="images; digits need no download")
    images: int = Field(
        12, ge=12, description="images at which the kernel is taken; it has ten times as many eigenvalues"
    )
    width: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 4), min_length=1, description="channels of the first layer; the largest width is judged"
    )
    gain: float = Field(1.0, gt=0, description="factor on the Xavier initialisation")
    seeds: int = Field(2, ge=2, description="repetitions: images and weights drawn afresh")
