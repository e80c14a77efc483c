"""Settings and grid of the two statements on scaled nets on images: the defaults are a smoke run of seconds."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings

TRUE, SHUFFLED = "true", "shuffled"


class Config(Settings):
    """Scales, data, net and training; configs/NAME.yaml is the real size of a statement."""

    alpha: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 100.0, 300.0), min_length=1, description="output scales α; 1 is the mean-field scale"
    )
    seeds: int = Field(2, ge=2, description="repetitions: weights and images drawn afresh")
    dataset: Literal["digits", "mnist"] = Field("digits", description="images; digits need no download")
    data_dir: Path | None = Field(None, description="folder of the data files")
    samples: int = Field(30, ge=2, description="training images")
    held_out: int = Field(40, ge=2, description="images that are not trained on")
    width: int = Field(16, ge=1, description="neurons of each of two hidden layers")
    ratio: float = Field(0.1, gt=0, lt=1, description="training ends when the loss has fallen to this share")
    steps: int = Field(2000, ge=1, description="most steps of gradient descent; runs that need more are left out")


def points(config: Config) -> list[dict[str, Any]]:
    """All scales with true labels; shuffled labels at the smallest scale, where the kernel moves most."""
    scales = {TRUE: config.alpha, SHUFFLED: (min(config.alpha),)}
    return [
        {"labels": labels, "alpha": float(alpha), "seed": seed}
        for labels, alphas in scales.items()
        for alpha in alphas
        for seed in range(config.seeds)
    ]
