"""Settings of the grokking statement: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field

from regimes.lab.config import Settings

LEVEL, OTHER_LEVEL = 0.2, 0.5  # shares of the loss of f = 0 that predictions, table and figure name
Scale = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Config(Settings):
    """Scales, sizes, levels and integration; configs/grokking_lazy_rich.yaml is the real size."""

    alpha: tuple[Scale, ...] = Field(
        (0.25, 4.0, 10_000.0),
        min_length=1,
        description="scales α of the output; from 1,000 on: the lazy control",
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and data drawn afresh; all α of a seed share them")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    inputs: int = Field(12, ge=2, description="dimension D of the inputs")
    samples: int = Field(48, ge=1, description="training points n, standard normal")
    width: int = Field(100, ge=1, description="neurons N")
    epsilon: float = Field(0.25, gt=0, description="bend ε of the activation h + εh²/2: how much of the target it sees")
    level: float = Field(
        LEVEL,
        ge=LEVEL,
        le=LEVEL,
        description="share of the loss of f = 0 at which training and test loss are timed; the predictions name it",
    )
    other_level: float = Field(
        OTHER_LEVEL, ge=OTHER_LEVEL, le=OTHER_LEVEL, description="a second such level, which they name, too"
    )
    final: Share = Field(1e-3, description="share of the training loss of f = 0 at which each run ends")
    horizon: float = Field(2e4, gt=1, description="flow time at which a run ends that has not reached the final loss")
    moments: int = Field(16, ge=1, description="looks at both losses in each decade of flow time, from 1 on")
    tolerance: float = Field(1e-4, gt=0, description="relative and absolute tolerance of the finer integration")
