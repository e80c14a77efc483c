"""The published protocol on the circles: nets, objective, training until the accuracy is perfect."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Classification, Labelled, classification
from regimes.lab.config import Settings
from regimes.models.image_nets import dense_net
from regimes.models.initialise import initialise, kaiming, normal
from regimes.models.residual import ResidualNet
from regimes.streams import FewSamples
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Objective, Plain, multiplied

Arm = Literal["kaiming", "normal", "normal_bn", "normal_bn_transport"]
ARMS: tuple[Arm, ...] = ("kaiming", "normal", "normal_bn", "normal_bn_transport")
PERFECT = 3  # epochs in a row with perfect accuracy that end training
OFFSET = 20.0  # the classifier decides for class 1 where x + y < −20


class Config(Settings):
    """Arms, seeds and length of training; configs/circles.yaml is the published size."""

    arm: tuple[Arm, ...] = Field(ARMS, description="initialisations, with and without batch norm and penalty")
    seeds: int = Field(2, ge=2, description="number of seeds: data, initial weights, order of batches")
    epochs: int = Field(2, ge=1, description="most epochs; three in a row with perfect accuracy end training")
    blocks: int = Field(9, ge=1, description="residual blocks in the plane")
    batch: int = Field(10, ge=2, description="points a batch")
    rate: float = Field(0.01, gt=0, description="learning rate of Adam")
    deviation: float = Field(5.0, gt=0, description="standard deviation of the wild initial weights and biases")
    multiplier: float = Field(0.1, gt=0, description="λ of the risk at the start, beside the penalty Σ‖v‖")
    growth: float = Field(0.1, ge=0, description="λ grows by this times the risk")
    every: int = Field(5, ge=1, description="steps between two growths of λ")
    drawn: int = Field(1, ge=1, description="seeds whose clouds are kept for the figure")


class Trained(NamedTuple):
    """A net at the end of training, with its data; `stopped` tells whether perfect accuracy ended it."""

    model: ResidualNet
    data: Classification
    epochs: int
    stopped: bool
    multiplier: float | None


def frobenius(step: Float[Tensor, "n *feature"], p: float) -> Float[Tensor, ""]:
    """‖v‖_F^p = (Σ_i Σ_k v_ik²)^(p/2): one norm over the whole batch, a sum over samples and features.

    At p = 1 it is √n times the root mean square of ‖v_i‖. Source: author code of [Karkar2020], circles, at p = 1.
    """
    return torch.linalg.vector_norm(step).pow(p)


def net(config: Config, arm: Arm, seed: int) -> ResidualNet:
    """Blocks in the plane with the arm's initial weights, and the fixed classifier with logits (x + y + 20, 0)."""
    model = dense_net((2,), 2, blocks=config.blocks, batch_norm=arm in ("normal_bn", "normal_bn_transport"), head=False)
    model = model.double()
    law, gain = (kaiming, 1.0) if arm == "kaiming" else (normal, config.deviation)
    initialise(model, law, gain, generator=generator(seed, FewSamples.WEIGHTS), biases=arm != "kaiming")
    head = nn.Linear(2, 2).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        head.bias.copy_(torch.tensor([OFFSET, 0.0]))
    model.head = head.requires_grad_(False)
    return model


def objective(config: Config, arm: Arm) -> Objective:
    """The mean cross-entropy, or λ times it plus Σ_k ‖v_k‖_F."""
    if arm != "normal_bn_transport":
        return Plain()
    return LeastAction(
        multiplier=config.multiplier,
        growth=config.growth,
        every=config.every,
        p=1.0,
        convention=frobenius,
        form=multiplied,
        level="batch_after",
    )


def train(config: Config, arm: Arm, seed: int) -> Trained:
    """One run of the protocol; data, initial weights and order of the batches depend on the seed only."""
    data = classification("circles", seed=seed).to(dtype=torch.float64)
    model, minimised = net(config, arm, seed), objective(config, arm)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=config.rate, betas=(0.9, 0.99), fused=True)
    training = Training(model, minimised, optimizer)
    batches = Batches(data.train, config.batch, seed=seed, normalise=data.normalise)
    perfect = 0
    for _ in descend(training, batches, epochs=config.epochs):
        if training.step == 0:  # an epoch has ended
            both = accuracy(model, data, data.train) == accuracy(model, data, data.test) == 1
            perfect = perfect + 1 if both else 0
            if perfect == PERFECT:
                break
    multiplier = float(minimised.multiplier) if isinstance(minimised, LeastAction) else None
    return Trained(model.eval(), data, training.epoch, perfect == PERFECT, multiplier)


@torch.no_grad()
def accuracy(model: ResidualNet, data: Classification, part: Labelled) -> float:
    """Share of points classified rightly, in eval mode."""
    output = model.eval()(data.normalise(part.x))
    return float((output.argmax(1) == part.labels).double().mean())
