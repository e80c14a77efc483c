"""Settings of the ridgeless-limit statement, and its grid: the defaults are a smoke run of seconds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.experiments.lazy.starts import Start
from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Starts, scales, sizes and the end of training; configs/ridgeless_limit.yaml is the real size."""

    start: tuple[Start, ...] = Field(
        ("doubled", "centred", "plain", "wide"), min_length=1, description="initial nets to compare"
    )
    alpha: tuple[Scale, ...] = Field((50.0, 100.0), min_length=1, description="scales α of all starts but `wide`")
    wide_alpha: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (3, 5), min_length=1, description="scales α of `wide`, whose width is α²"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh")
    width: int = Field(16, ge=2, multiple_of=2, description="neurons m of all starts but `wide`")
    inputs: int = Field(8, ge=1, description="dimension d of the inputs")
    samples: int = Field(3, ge=1, description="training points n on the unit sphere")
    test_samples: int = Field(50, ge=1, description="test points, at which the distance is taken")
    activation: Literal["tanh", "erf", "softplus"] = Field(
        "tanh", description="activation σ; the theorem needs it smooth"
    )
    residual: float = Field(1e-4, gt=0, lt=1, description="training ends when the residual has shrunk by this factor")
    wide_residual: float = Field(1e-3, gt=0, lt=1, description="the same for `wide`")


def points(config: Config) -> list[dict[str, Any]]:
    """All starts at the same scales, except that the wide nets have their own, with width α²."""
    return [
        {"start": start, "width": width, "alpha": float(alpha), "seed": seed}
        for start in config.start
        for alpha in (config.wide_alpha if start == "wide" else config.alpha)
        for width in [int(alpha) ** 2 if start == "wide" else config.width]
        for seed in range(config.seeds)
    ]
