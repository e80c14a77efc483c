"""Settings of the error rate of diagnose: the defaults are a smoke run of seconds."""

from typing import Literal

from pydantic import Field

from regimes.experiments.lazy.diagnose_error_rate.nets import KINDS
from regimes.lab.config import Settings

Kind = Literal[
    "alpha 100", "alpha 30",
    "alpha 10", "alpha 1", "alpha 0.3", "1/m, ReLU", "1/m, weight decay", "1/sqrt(m)", "1/sqrt(m), decay",
    "deep NTK", "deep mean-field", "linear", "random features",
]  # fmt: skip
assert set(Kind.__args__) == set(KINDS)


class Config(Settings):
    """Kinds of nets, how many of each, and their samples; configs/diagnose_error_rate.yaml is the real size."""

    kind: tuple[Kind, ...] = Field(
        ("alpha 100", "alpha 0.3", "linear"), min_length=1, description="kinds of nets, whose regime is known"
    )
    seeds: int = Field(2, ge=1, description="nets of each kind: weights and samples drawn afresh")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    samples: int = Field(30, ge=8, description="training samples on the unit sphere, which are the points, too")
    inputs: int = Field(5, ge=2, description="dimension d of the inputs")
    width: int = Field(100, ge=2, description="neurons of a layer; 20 times as many in wide two-layer nets")
    steps: int = Field(1500, ge=1, description="most steps of gradient descent")
    loss_ratio: float = Field(0.1, gt=0, lt=1, description="training ends when the loss has fallen by this factor")
    ensemble: int = Field(20, ge=1, description="nets of a kind trained side by side: how fast, not what")
