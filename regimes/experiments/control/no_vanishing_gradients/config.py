"""Settings of the gradients over depth: the defaults are a smoke run of seconds."""

from typing import Annotated, Literal

from pydantic import Field

from regimes.lab.config import Settings

HAMILTONIAN, RESNET, PLAIN = "Hamiltonian", "ResNet", "plain"
INITIAL, TRAINED, HOSTILE = "initial", "trained", "hostile"


class Config(Settings):
    """Nets, weights and depths; configs/no_vanishing_gradients.yaml is the real size."""

    net: tuple[Literal["Hamiltonian", "ResNet", "plain"], ...] = Field(
        (HAMILTONIAN, RESNET, PLAIN), min_length=1, description="kinds of layers"
    )
    weights: tuple[Literal["initial", "trained", "hostile"], ...] = Field(
        (INITIAL, TRAINED, HOSTILE),
        min_length=1,
        description="as drawn, trained on two spirals, or trained to make the gradient at the first layer small",
    )
    depth: tuple[Annotated[int, Field(ge=1)], ...] = Field((2, 4), min_length=1, description="numbers of layers")
    seeds: int = Field(2, ge=1, description="repetitions: weights and points drawn afresh")
    half: int = Field(2, ge=2, description="half of the width of all nets")
    samples: int = Field(4, ge=2, description="points of the spirals")
    size: float = Field(0.2, gt=0, description="step h of the Hamiltonian nets and ResNets")
    iterations: int = Field(3, ge=1, description="steps of Adam of trained and hostile weights")
    rate: float = Field(0.02, gt=0, description="learning rate of Adam")
