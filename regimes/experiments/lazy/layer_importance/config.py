"""Settings of the layer-importance statement: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(gt=0)]


class Config(Settings):
    """Scales, nets, samples and training; configs/layer_importance.yaml is the real size."""

    activation: tuple[Literal["tanh", "relu"], ...] = Field(
        ("tanh", "relu"), min_length=1, description="activations: a smooth one, and one with a kink"
    )
    alpha: tuple[Scale, ...] = Field(
        (1.0, 100.0, 1000.0), min_length=1, description="scales α of the output; 1 is the mean-field scaling"
    )
    seeds: int = Field(2, ge=1, description="repetitions: nets and samples drawn afresh; all α of a seed share them")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    width: int = Field(32, ge=1, description="neurons m of each hidden layer")
    hidden: int = Field(3, ge=1, description="hidden layers; the net has one layer of weights more")
    samples: int = Field(50, ge=10, description="training digits")
    test_samples: int = Field(200, ge=10, description="other digits, on which the effects are measured")
    step: float = Field(0.1, gt=0, description="flow time of the first iteration of gradient descent")
    iterations: int = Field(3000, ge=1, description="most iterations of full-batch gradient descent")
    loss_ratio: float = Field(0.3, gt=0, lt=1, description="training ends when the loss has fallen to this share")
