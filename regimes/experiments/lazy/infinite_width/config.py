"""Settings of the infinite-width statement, and its grid: the defaults are a smoke run of seconds."""

from typing import Annotated, Any

from pydantic import Field

from regimes.lab.config import Settings

ACTIVATIONS = ("relu", "erf")
Width = Annotated[int, Field(ge=1)]


class Config(Settings):
    """A seed is one two-layer net, or a block of `nets` deep ones; configs/infinite_width.yaml is the real size."""

    width_two_layer: tuple[Width, ...] = Field((32, 64, 128), min_length=2, description="widths m of two-layer nets")
    width_deep: tuple[Width, ...] = Field((8, 16, 32), min_length=2, description="widths m of deep nets")
    seeds: int = Field(20, ge=2, description="two-layer nets at each width")
    blocks: int = Field(10, ge=2, description="blocks of deep nets at the smallest width; in proportion to m at others")
    nets: int = Field(100, ge=50, description="deep nets in a block")
    pilot: int = Field(2000, ge=500, description="further deep nets that choose the direction v of the bias")
    samples: int = Field(6, ge=1, description="points n at which kernels are taken, on the unit sphere")
    inputs: int = Field(4, ge=1, description="dimension d of the points")
    depth: int = Field(3, ge=1, description="hidden layers of the deep nets")
    sigma_w: float = Field(1.5, gt=0, description="standard deviation of the weights of deep nets, times √fan-in")
    sigma_b: float = Field(0.5, ge=0, description="standard deviation of the biases of deep nets")
    cross_check: bool = Field(False, description="compare the limits with those of neural-tangents, where installed")


def points(config: Config) -> list[dict[str, Any]]:
    """Deep nets get blocks in proportion to their width."""
    two_layer = [("two_layer", width, config.seeds) for width in config.width_two_layer]
    narrowest = min(config.width_deep)
    deep = [("deep", width, config.blocks * width // narrowest) for width in config.width_deep]
    return [
        {"network": network, "activation": name, "width": width, "seed": seed}
        for name in ACTIVATIONS
        for network, width, seeds in (*two_layer, *deep)
        for seed in range(seeds)
    ]
