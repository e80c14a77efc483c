"""Settings: which cells are run, and how nets are trained and looked at."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from regimes.data.classification import SIZES, refuse_sizes
from regimes.errors import UserError
from regimes.experiments.least_action.low_data.arms import ArmName
from regimes.experiments.least_action.low_data.config import (
    ARM,
    COMPILE,
    DATA_DIR,
    DATASET,
    DEVICE,
    ENSEMBLE,
    FIRST_HALF,
    FIRST_LOOK,
    LOOK_EVERY,
    SECOND_HALF,
    SEEDS,
    TRAIN_SIZE,
)
from regimes.lab.config import Settings
from regimes.training.config import TrainConfig

Encoder = Literal["gain_0.01", "gain_1", "autoencoder"]
Norm = Literal["batch", "group"]
Size = Annotated[int, Field(ge=1)]
CLASSES = 10  # of digits and MNIST
ENCODERS: dict[str, float | None] = {"gain_0.01": 0.01, "gain_1": 1.0, "autoencoder": None}  # gain at the start


class Config(Settings):
    """The defaults are a smoke run on digits, configs/mnist_low_data.yaml is the real size."""

    dataset: Literal["digits", "mnist"] = Field("digits", description=DATASET)
    data_dir: str | None = Field(None, description=DATA_DIR)
    train_size: list[Size] = Field([60], min_length=1, description=TRAIN_SIZE)
    encoder: list[Encoder] = Field(
        ["gain_0.01", "gain_1", "autoencoder"],
        min_length=1,
        description="encoders: orthogonal with this gain and trained with the rest, or a frozen autoencoder's",
    )
    norm: list[Norm] = Field(["batch", "group"], min_length=1, description="normalisations of the net")
    arm: list[ArmName] = Field(["vanilla", "lap", "control", "vanilla_lr0.1"], min_length=1, description=ARM)
    seeds: int = Field(2, ge=1, description=SEEDS)
    further_seeds: int = Field(0, ge=0, description="more seeds, of the following sizes alone")
    further_train_size: list[Size] = Field([100], description="training samples of the further seeds")
    first_half: int = Field(40, ge=1, description=FIRST_HALF)
    second_half: int = Field(60, ge=1, description=SECOND_HALF)
    epochs: int = Field(4, ge=1, description="epochs of training by the published protocol")
    equal_risk: float = Field(0.1, ge=0, description="risk to which all are trained besides; 0: no such training")
    most_epochs: int = Field(8, ge=1, description="epochs after which training to equal risk is given up")
    first_look: int = Field(2, ge=1, description=FIRST_LOOK)
    look_every: int = Field(2, ge=1, description=LOOK_EVERY)
    look_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="precision of these looks; scores at the end of training are in float32"
    )
    filters: int = Field(8, ge=2, description="filters of each convolution of ResNet9")
    blocks: int = Field(2, ge=1, description="residual blocks")
    groups: int = Field(2, ge=1, description="groups of each group norm")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of SGD, constant")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    batch: int = Field(128, ge=2, description="samples a batch")
    gain: float = Field(0.01, gt=0, description="gain of the orthogonal initial weights but for the encoder's")
    multiplier: float = Field(5.0, gt=0, description="λ at the start")
    growth: float = Field(1.0, ge=0, description="λ grows by this times the risk")
    every: int = Field(5, ge=1, description="steps between two growths of λ")
    encoder_images: int | None = Field(
        200, ge=2, description="unlabelled images that the autoencoder is trained on; none: the whole training part"
    )
    encoder_epochs: int = Field(2, ge=1, description="epochs of the autoencoder")
    device: Literal["cpu", "cuda"] = Field("cpu", description=DEVICE)
    compile: bool = Field(False, description=COMPILE)
    ensemble: int = Field(1, ge=1, description=ENSEMBLE)

    @model_validator(mode="after")
    def _fit(self) -> "Config":
        """Sizes that the data set has, and groups that divide what they norm."""
        for size in {*self.train_size, *(self.further_train_size if self.further_seeds else ())}:
            refuse_sizes(self.dataset, size, size, self.first_half + self.second_half)
        if (images := SIZES[self.dataset][0]) < (self.encoder_images or 0):
            raise UserError(f"encoder_images: {self.dataset} has {images} training images; got {self.encoder_images}")
        if "group" in self.norm and (self.filters % self.groups or 10 * CLASSES % self.groups):
            raise UserError(
                f"groups needs to divide filters and the {10 * CLASSES} features of the head; got {self.groups} groups "
                f"and {self.filters} filters"
            )
        return self

    def training(self, norm: str) -> TrainConfig:
        """The training of all arms as `train` knows it, but for their own settings."""
        shared = ("momentum", "weight_decay", "batch", "epochs", "gain", "multiplier", "growth", "every")
        groups = self.groups if norm == "group" else None
        return TrainConfig.model_validate(
            {name: getattr(self, name) for name in shared}
            | {name: getattr(self, name) for name in ("dataset", "data_dir", "device", "compile")}
            | {"lr": self.learning_rate}
            | {"arch": "resnet9", "arch_options": {"filters": self.filters, "blocks": self.blocks, "groups": groups}}
            | {"init": "orthogonal", "optimiser": "sgd", "schedule": "constant", "level": "batch_after"}
        )


def points(config: Config) -> list[dict[str, Any]]:
    """Seed after seed, so that a run cut short is a whole one of fewer seeds; batch norm and few samples first."""
    plans = [config.train_size] * config.seeds + [config.further_train_size] * config.further_seeds
    return [
        {"seed": seed, "norm": norm, "train_size": size, "encoder": encoder, "arm": arm}
        for seed, sizes in enumerate(plans)
        for norm in config.norm
        for size in dict.fromkeys(sizes)
        for encoder in config.encoder
        for arm in config.arm
    ]
