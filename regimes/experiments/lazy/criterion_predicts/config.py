"""Settings of the statement on what κ foretells: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Config(Settings):
    """From what the models are drawn, and how they are trained; configs/criterion_predicts.yaml is the real size."""

    alpha: tuple[Positive, ...] = Field((1.0, 8.0), min_length=1, description="factors α of each net")
    seeds: int = Field(3, ge=1, description="nets: architecture, scale, weights and data drawn afresh")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    width: tuple[Count, ...] = Field((8,), min_length=1, description="neurons of a layer; one is drawn for each net")
    depth: tuple[Count, ...] = Field((1,), min_length=1, description="hidden layers; one number is drawn")
    activation: tuple[Literal["tanh", "erf", "softplus", "gelu"], ...] = Field(
        ("tanh",), min_length=1, description="smooth activations; one is drawn"
    )
    scale: tuple[Positive, ...] = Field(
        (1.0, 2.0), min_length=1, description="σ_w of the initial weights; one is drawn"
    )
    inputs: tuple[Count, ...] = Field((2, 4), min_length=1, description="dimension d of the inputs; one is drawn")
    samples: int = Field(8, ge=2, description="training points n")
    test_samples: int = Field(100, ge=2, description="points on which a net is compared with its tangent model")
    loss_ratio: float = Field(0.1, gt=0, lt=1, description="training ends when the loss has fallen to this share")
    stiffest: float = Field(
        200.0, gt=1, description="largest K, the time of the tangent model times ‖Dh‖²; nets above are drawn again"
    )
    patience: float = Field(10.0, gt=1, description="longest training, in units of the time of the tangent model")
    tolerance: float = Field(1e-4, gt=0, description="relative tolerance of the finer integration, absolute a tenth")
    starts: int = Field(2, ge=1, description="random starts of the search for ‖D²h‖ from below")
