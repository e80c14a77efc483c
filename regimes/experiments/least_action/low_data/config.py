"""Settings of a table on CIFAR: rows and arms of the table, and the training, from the recipe of the data set."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from regimes.data.classification import refuse_sizes
from regimes.errors import UserError
from regimes.experiments.least_action.low_data.arms import METHODS, ArmName
from regimes.experiments.least_action.low_data.course import Course
from regimes.experiments.least_action.low_data.together import measured
from regimes.lab.config import Settings, dump, load, override
from regimes.training.config import TrainConfig

# What settings mean that several tables have.
DATASET = "data set; digits needs no files"
DATA_DIR = "folder of the data files; none: that of REGIMES_DATA_DIR"
TRAIN_SIZE = "training samples: the rows of the table"
ARM = f"methods ({', '.join(METHODS)}), perhaps with settings of their own, as in lap_lr0.1"
SEEDS = "number of seeds: data, initial weights, order of batches"
FIRST_HALF = "test samples that choose the epoch in the paper's count"
SECOND_HALF = "test samples on which held_out accuracy is measured"
FIRST_LOOK = "epoch from which accuracy is measured"
LOOK_EVERY = "epochs between two measurements of accuracy"
ENSEMBLE = "seeds trained side by side: how fast, not what"
DEVICE = "where nets are trained"
COMPILE = "torch.compile each network: how fast, not what"
CUDA_GRAPHS = "compiled, and replayed as CUDA graphs: how fast, not what"

# Of a statement on one table.
GRID = ("seed", "train_size", "arm")
BATCHED = ("seed",)  # in groups of `ensemble`
RESUMABLE = True  # within a point
PLAN = ("seeds", "train_size", "arm", "ensemble")  # say what is measured, or how fast, not how

# Settings of `train` that the table's own rows, arms and protocols decide.
OWN = {
    *("dataset", "data_dir", "train_size", "validation", "test_size", "balanced", "max_steps", "lap", "form"),
    *(
        "seed",
        "seeds",
        "device",
        "bf16",
        "precision",
        "compile",
        "cuda_graphs",
        "checkpoint_seconds",
        "evaluate_every",
        "tensorboard",
    ),
}


def on_a_card(cuda_graphs: bool, info: Any) -> bool:
    """CUDA graphs are a card's."""
    if cuda_graphs and info.data.get("device") != "cuda":
        raise UserError("cuda_graphs needs device cuda; leave it out, or set compile instead")
    return cuda_graphs


def fits(ensemble: int, info: Any) -> int:
    """Side by side only what `descend_together` can."""
    if ensemble > 1 and info.data.get("cuda_graphs"):
        raise UserError("cuda_graphs has not been tried with seeds side by side: set ensemble to 1, or compile instead")
    return ensemble


class TableConfig(Settings):
    """Rows, arms, looks and training of one table; on digits the training is that of a smoke run.

    `training` holds what differs from the recipe of the data set, and the whole of it once read. validation 0: the
    first half of the test set chooses the epoch, the second measures, so that all training images can be trained on.
    """

    TABLE: ClassVar[str] = "cifar10"  # the data set of the published table
    HALF: ClassVar[int] = 5000  # of its test set
    SMOKE: ClassVar[dict[str, Any]] = {}  # of `training`
    CURVE: ClassVar[bool] = False  # whether accuracy along training is kept

    dataset: Literal["digits", "mnist", "cifar10", "cifar100"] = Field("digits", description=DATASET)
    data_dir: str | None = Field(None, description=DATA_DIR)
    train_size: list[Annotated[int, Field(ge=1)]] = Field([60, 100], min_length=1, description=TRAIN_SIZE)
    arm: list[ArmName] = Field(["vanilla", "lap_divided", "lap", "control"], min_length=1, description=ARM)
    seeds: int = Field(2, ge=1, description=SEEDS)
    validation: int = Field(0, ge=0, description="validation samples, from the training part; 0: see above")
    first_half: int = Field(100, ge=1, description=FIRST_HALF)
    second_half: int = Field(100, ge=1, description=SECOND_HALF)
    first_look: int = Field(1, ge=1, description=FIRST_LOOK)
    look_every: int = Field(1, ge=1, description=LOOK_EVERY)
    device: Literal["cpu", "cuda"] = Field("cpu", description=DEVICE)
    bf16: bool = Field(False, description="products of training and looks in bfloat16; held_out stays in float32")
    compile: bool = Field(False, description=COMPILE)
    cuda_graphs: bool = Field(False, description=CUDA_GRAPHS)
    training: dict[str, Any] = Field({}, description="settings of `train` that differ from the data set's recipe")
    ensemble: int = Field(1, ge=1, description=ENSEMBLE)

    _on_a_card = field_validator("cuda_graphs")(on_a_card)
    _fits = field_validator("ensemble")(fits)

    @model_validator(mode="before")
    @classmethod
    def fill(cls, values: Any) -> Any:
        """The training in full."""
        if not isinstance(values, dict) or not isinstance(values.get("training", {}), dict):
            return values
        given = dict(values.get("training", {}))
        if taken := OWN & given.keys():
            raise UserError(f"training cannot set {', '.join(sorted(taken))}: the table decides it. Leave it out")
        dataset = values.get("dataset", "digits")
        small = cls.SMOKE if dataset == "digits" else {}
        settings = {**small, **given, "dataset": dataset}
        train = load(TrainConfig, overrides=[override(key, value) for key, value in settings.items()])
        return values | {"training": {key: value for key, value in dump(train).items() if key not in OWN}}

    @property
    def as_published(self) -> bool:
        """Whether a run fills rows of the published table: its data, its training, its looks at the test set."""
        usual = load(type(self), overrides=[f"dataset={self.TABLE}"]).training
        looks = (self.first_look, self.look_every, self.first_half, self.second_half)
        return (self.dataset, self.training, looks) == (self.TABLE, usual, (1, 1, self.HALF, self.HALF))

    def course(self) -> Course:
        """How all arms are trained and looked at."""
        shared = ("dataset", "data_dir", "device", "bf16", "compile", "cuda_graphs")
        own = {name: getattr(self, name) for name in shared}
        train = TrainConfig.model_validate({**self.training, **own})
        precision = "bfloat16" if self.bf16 else "float32"
        return Course(train, None, self.first_look, self.look_every, precision, curve=self.CURVE)


def refuse_other_sizes(config: TableConfig) -> None:
    """UserError: the data set does not have so many samples."""
    for size in config.train_size:
        refuse_sizes(config.dataset, size, config.validation, config.first_half + config.second_half)


def points(config: TableConfig) -> list[dict[str, Any]]:
    """Seed after seed, so that a run cut short is a whole one of fewer seeds."""
    refuse_other_sizes(config)
    return [
        {"seed": seed, "train_size": size, "arm": arm}
        for seed in range(config.seeds)
        for size in config.train_size
        for arm in config.arm
    ]


def measure(config: TableConfig, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[dict[str, Any]]:
    """One row a point: accuracies as shares by both protocols, and the net at the end of training."""
    rows = measured(config, points, config.course(), points[0]["train_size"], unfinished)
    return [row | {"as_published": config.as_published} for row in rows]
