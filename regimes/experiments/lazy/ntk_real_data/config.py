"""Settings of the statement on real images, and its grid: the defaults are a smoke run of seconds on digits."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings

NET, FINITE, INFINITE, TUNED, LIMIT, CURVE = "net", "finite", "infinite", "tuned", "limit", "curve"
POOLS = {"digits": 1438, "mnist": 60000}  # images that are not for the test
Count = Annotated[int, Field(ge=1)]
Dataset = Literal["digits", "mnist"]


class Config(Settings):
    """Data, nets, kernels and what is chosen; configs/ntk_real_data.yaml is the real size."""

    dataset: tuple[Dataset, ...] = Field(("digits",), min_length=1, description="images; digits need no download")
    data_dir: Path | None = Field(None, description="folder of the data files")
    n: tuple[Count, ...] = Field(
        (40, 80), min_length=1, description="training images; what a data set lacks is left out"
    )
    n_tuned: tuple[Count, ...] = Field(
        (), description="further numbers of them for the tuned kernel, on all test images"
    )
    seeds: int = Field(2, ge=2, description="repetitions: images and weights drawn afresh")
    many: int = Field(1000, ge=1, description="training images above which there are seeds_many repetitions")
    seeds_many: int = Field(2, ge=2, description="repetitions with more than `many` images")
    validation: int = Field(
        100, ge=10, description="further images for choices, at most an eighth of those not for the test"
    )
    test_size: int | None = Field(100, ge=10, description="test images; null: all, as beyond n")
    depth: int = Field(3, ge=1, description="hidden layers of the nets and of the kernels beside them")
    width: tuple[Count, ...] = Field((8, 24), min_length=1, description="neurons of a hidden layer of nets and kernels")
    depths: tuple[Count, ...] = Field((3, 5), min_length=1, description="depths that the tuned kernel chooses from")
    select: int = Field(60, ge=10, description="training images, the first ones, with which the tuned kernel chooses")
    ridges: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-4, 1e-3, 1e-2), min_length=1, description="ridges, relative to the mean diagonal of the kernel"
    )
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 0.3, 1.0), min_length=1, description="learning rates, relative to the inverse of the largest curvature"
    )
    steps: int = Field(100, ge=1, description="steps of gradient descent with momentum 0.9")
    every: int = Field(20, ge=1, description="steps after which the validation images are looked at")
    batch: int = Field(50, ge=1, description="images of a step")
    limit_width: tuple[Count, ...] = Field((16, 32, 64), min_length=2, description="widths beside the infinite one")
    limit_samples: int = Field(20, ge=2, description="training images of these")
    limit_ridge: float = Field(1.0, gt=0, description="their ridge, relative to the mean diagonal")
    limit_seeds: int = Field(2, ge=2, description="repetitions of these")
    pool: int = Field(200, ge=20, description="images that stand for the law of the learning curve")
    curve: tuple[Count, ...] = Field((20, 40), min_length=1, description="training images drawn from the pool")
    curve_ridge: float = Field(0.01, gt=0, description="their ridge, relative to the mean diagonal")
    curve_seeds: int = Field(2, ge=2, description="repetitions of these")

    def held(self, dataset: str) -> int:
        """Validation images of a data set."""
        return min(self.validation, POOLS[dataset] // 8)


def points(config: Config) -> list[dict[str, Any]]:
    """Arms of the learning curves, the tuned one at further sizes; then widths, and sizes of the theory's curve."""
    found = []

    def add(dataset: str, arm: str, n: int, width: int, seeds: int) -> None:
        found.extend({"dataset": dataset, "arm": arm, "n": n, "width": width, "seed": seed} for seed in range(seeds))

    for dataset in config.dataset:
        for n in (*config.n, *config.n_tuned):
            if n + config.held(dataset) > POOLS[dataset]:
                continue
            seeds = config.seeds if n <= config.many else config.seeds_many
            for arm in (NET, FINITE, INFINITE, TUNED) if n in config.n else (TUNED,):
                for width in config.width if arm in (NET, FINITE) else (0,):
                    add(dataset, arm, n, width, seeds)
        for width in config.limit_width:
            add(dataset, LIMIT, config.limit_samples, width, config.limit_seeds)
        for n in config.curve:
            add(dataset, CURVE, n, 0, config.curve_seeds)
    return found
