"""Settings of certified robustness: the defaults are a smoke run of seconds, which needs no other library."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from regimes.data.classification import SIZES, refuse_sizes
from regimes.errors import UserError
from regimes.lab.config import Settings

CONTRACTIVE, PLAIN, DEEL = "contractive", "resnet", "deel"
FOOLBOX = ("pgd", "deepfool", "ddn")
Positive = Annotated[float, Field(gt=0)]


class Task(Settings):
    """One data set: which nets learn it, how, and what is asked of them."""

    dataset: Literal["digits", "mnist", "cifar10"] = Field("digits", description="images with values from 0 to 1")
    net: tuple[Literal["contractive", "resnet", "deel"], ...] = Field(
        (CONTRACTIVE, PLAIN), min_length=1, description="contractive steps, plain residual blocks, or deel-torchlip's"
    )
    seeds: int = Field(1, ge=1, description="repetitions: samples, weights and batches drawn afresh")
    train_size: int | None = Field(400, ge=1, description="training images; null: all that validation leaves")
    validation: int = Field(100, ge=1, description="images that say when the plain net has learned enough")
    test_size: int | None = Field(100, ge=1, description="test images, of which certificates are counted; null: all")
    attacked: int = Field(20, ge=1, description="of these, so many are attacked, drawn by the seed")
    epsilon: tuple[Positive, ...] = Field((0.2, 0.5), min_length=1, description="sizes of changes, Euclidean")
    augment: bool = Field(False, description="random crop and flip")
    epochs: int = Field(4, ge=1, description="passes over the training images")
    batch: int = Field(50, ge=1, description="images a step")
    lr: Positive = Field(0.004, description="learning rate of Adam at the start; a half cosine by epochs")
    plain_lr: Positive = Field(0.001, description="the same of the plain net")
    offset: float = Field(0.3, ge=0, description="ε of the margin that the loss of 1-Lipschitz nets asks for")
    temperature: Positive = Field(0.25, description="of that loss")
    enough: float = Field(0.9, gt=0, le=1, description="validation accuracy at which the plain net stops learning")
    look_every: int = Field(10, ge=1, description="steps between two looks at it")
    deel_seeds: int = Field(1, ge=0, description="repetitions of the net deel: the first of the seeds")
    deel_epochs: int = Field(
        2, ge=1, description="passes over the training images by the net deel, whose steps cost more"
    )
    layers: Literal["convolutional", "dense"] = Field("convolutional", description="kind of the contractive steps")
    filters: int = Field(8, ge=2, description="channels of the convolutional steps")
    blocks: int = Field(1, ge=1, description="steps of that kind")
    unshuffle: int = Field(2, ge=1, description="side of the squares of pixels that become channels")
    dense_blocks: int = Field(1, ge=1, description="dense steps after convolutional ones")
    width: int = Field(16, ge=2, multiple_of=2, description="width of dense steps")
    hidden: int = Field(8, ge=2, multiple_of=2, description="rows of their matrices A")

    @model_validator(mode="after")
    def _fit(self) -> "Task":
        """Sizes that the data set has, of the images attacked as well."""
        refuse_sizes(self.dataset, self.train_size, self.validation, self.test_size)
        tested = SIZES[self.dataset][1] if self.test_size is None else self.test_size
        if self.attacked > tested:
            raise UserError(f"attacked: of {tested} test images at most so many are attacked; got {self.attacked}")
        return self

    def times(self, net: str) -> int:
        """Repetitions of a net."""
        return min(self.seeds, self.deel_seeds) if net == DEEL else self.seeds


class Config(Settings):
    """The data sets and the attacks; configs/contractive_robustness.yaml is the real size."""

    task: tuple[Task, ...] = Field((Task(**{}),), min_length=1, description="data sets with their settings")
    attack: tuple[Literal["pgd", "deepfool", "ddn"], ...] = Field(
        (), description="attacks of foolbox, besides the one here; each needs the extra `robustness`"
    )
    steps: int = Field(10, ge=1, description="steps of an attack")
    data_dir: str | None = Field(None, description="folder with the data files; null: REGIMES_DATA_DIR")

    def of(self, dataset: str) -> Task:
        """The settings of a data set."""
        return next(task for task in self.task if task.dataset == dataset)


def points(config: Config) -> list[dict[str, Any]]:
    """Each data set's nets, seed after seed, so that a run cut short is a whole one of fewer seeds."""
    return [
        {"dataset": task.dataset, "seed": seed, "net": net}
        for task in config.task
        for seed in range(task.seeds)
        for net in task.net
        if seed < task.times(net)
    ]
