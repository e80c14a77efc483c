"""Table 1 of the least-action paper, MNIST with few samples: is the gain due to transport or to larger steps?

Published (50 runs): least action (LAP) gains 13.6, 7.1 and 2.7 points of test accuracy over plain training ("vanilla")
with 100, 200 and 300 training samples. LAP minimises λ·risk + transport with λ = 5 and growing, so its steps on the
risk are λ times larger than those of vanilla at the same learning rate. A gain over vanilla alone does not tell the
one from the other. Two more comparisons do: `control` minimises λ·risk, with λ by the same rule, without transport;
"vanilla, tuned" is vanilla at the best of several learning rates.

Protocol of the author code of 2019: ResNet9 with 32 filters and batch norm, orthogonal weights with gain 0.01, SGD of
momentum 0.9, learning rate 0.01, weight decay 10⁻⁴, batches of 128, 30 epochs (its schedule starts after that), λ_0 =
5, λ += risk every 5 steps (the batch's risk, measured again after the step), transport cost as a mean over samples
and features, normalised images, no augmentation. Arms: `vanilla`, `lap` (λ·risk + transport), `lap_divided` (risk +
transport/λ, the steps of vanilla), `control` (λ·risk), and `METHOD_lrRATE`, the same at another learning rate.
All arms of one seed and size share training, validation and test images, initial weights and the order of batches:
differences are paired by seed. Smaller training sets of a seed are parts of its larger ones.

Two ways to count accuracy. `paper`: the largest over the epochs on images of one random half of the test set.
`held_out`: on images of the other half, at the epoch that was best on validation images. Departures: the encoder learns
with the rest (in 2019 it was a frozen autoencoder); accuracy is measured on a part of each half and in some epochs
only, and, for the choice of epochs, in bfloat16 (`held_out` itself is measured in float32).

A third one, `refreshed`, was added when two seeds had been run and a third begun; nothing is predicted for it: the
images of `held_out` after the last epoch, batch norm's running statistics replaced by those of the training set. An
epoch on 100 samples is one step; the running statistics are means over about ten steps, and after 30 steps of a net
that changes fast they belong to other weights.

The tuned rate of each size is the one with the best mean validation accuracy over the seeds. The validation images
(1,000 at the published size) come from the training part of the data and are more labels than the training set has,
so "tuned" says what the method can do, not what a user with n labels would find. `extra_arm`, run at
`extra_train_size` only, tune LAP and the control in the same way.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from regimes.experiments.least_action.low_data import comparison
from regimes.experiments.least_action.low_data.arms import ArmName
from regimes.experiments.least_action.low_data.comparison import (
    CONTROL,
    DIVIDED,
    LAP,
    VANILLA,
    Comparison,
    published_gain,
)
from regimes.experiments.least_action.low_data.course import Course
from regimes.experiments.least_action.low_data.pictures import panels
from regimes.experiments.least_action.low_data.together import measured
from regimes.lab import numbers
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Statement
from regimes.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Test accuracy in percent: mean, low and high end of the 95 % interval over 50 runs. [Karkar2020] Table 1.
PUBLISHED = {
    "vanilla": {
        100: (56.4, 54.9, 58.0),
        200: (74.9, 73.9, 75.9),
        300: (83.5, 83.0, 84.1),
        400: (88.4, 88.0, 88.8),
        500: (90.8, 90.4, 91.2),
    },
    "lap": {
        100: (70.0, 69.0, 71.0),
        200: (82.0, 81.5, 82.5),
        300: (86.2, 85.8, 86.6),
        400: (88.4, 88.0, 88.8),
        500: (90.9, 90.7, 91.1),
    },
}
SIZES = (100, 200, 300)  # of the predictions
TUNED, LAP_TUNED, CONTROL_TUNED = ("vanilla", True), ("lap", True), ("control", True)
PAIRS = ((LAP, VANILLA), (LAP, CONTROL), (LAP, TUNED), (LAP_TUNED, CONTROL_TUNED), (LAP_TUNED, TUNED))
REPORTED = (*PAIRS, (CONTROL, VANILLA), (TUNED, VANILLA))
PROTOCOLS = ("held_out", "refreshed")
COMPARED = (
    *(Comparison(LAP, VANILLA, size, "paper", published_gain(PUBLISHED, size), "published") for size in SIZES),
    *(Comparison(LAP, CONTROL, size, "held_out", Interval.at_least(0.0), "derived") for size in SIZES),
    *(Comparison(LAP, TUNED, size, "held_out", Interval.at_least(0.0), "derived") for size in SIZES),
    Comparison(LAP_TUNED, CONTROL_TUNED, 100, "held_out", Interval.at_least(0.0), "derived"),
    Comparison(LAP_TUNED, TUNED, 100, "held_out", Interval.at_least(0.0), "derived"),
)
STATEMENT = Statement(
    claim="On 100 to 300 samples of MNIST least-action training gains 13.6, 7.1 and 2.7 points of test accuracy over "
    "plain training, and transport is the reason: neither the multiplier without transport nor a tuned learning rate "
    "does as well.",
    source="[Karkar2020] Table 1",
    predictions=comparison.predictions(COMPARED),
    baselines=comparison.baselines(PUBLISHED, COMPARED),
)
GRID = ("seed", "train_size", "arm")
BATCHED = ("seed",)  # in groups of `ensemble`
# Settings that say what is measured, or how fast, not how.
PLAN = ("seeds", "train_size", "arm", "extra_train_size", "extra_arm", "more", "ensemble")


class More(Settings):
    """Further seeds, sizes and arms, trained and looked at like the rest."""

    first_seed: int = Field(0, ge=0)
    seeds: int = Field(1, ge=1)
    train_size: list[int] = Field([100], min_length=1)
    arm: list[ArmName] = Field(["vanilla", "lap", "control"], min_length=1)


class Config(Settings):
    """Data, arms, training and looks; the defaults are a smoke run, configs/mnist_low_data.yaml is the real size."""

    dataset: Literal["digits", "mnist"] = "digits"
    data_dir: str | None = None
    train_size: list[int] = Field([100], min_length=1)
    arm: list[ArmName] = Field(["vanilla", "lap", "lap_divided", "control", "vanilla_lr0.1"], min_length=1)
    extra_train_size: list[int] = [100]
    extra_arm: list[ArmName] = ["lap_lr0.1", "control_lr0.1"]
    seeds: int = Field(2, ge=1)
    more: list[More] = []
    validation: int = Field(100, ge=1)
    first_half: int = Field(100, ge=1)
    second_half: int = Field(100, ge=1)
    epochs: int = Field(6, ge=1)
    first_look: int = Field(4, ge=1)
    look_every: int = Field(1, ge=1)
    look_precision: Literal["float32", "bfloat16"] = "float32"
    filters: int = Field(8, ge=2)
    blocks: int = Field(3, ge=1)
    learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    batch: int = Field(128, ge=2)
    gain: float = Field(0.1, gt=0)
    encoder_gain: float = Field(1.0, gt=0)
    multiplier: float = Field(5.0, gt=0)
    growth: float = Field(1.0, ge=0)
    every: int = Field(5, ge=1)
    ensemble: int = Field(1, ge=1)  # seeds trained side by side: how fast, not what


def points(config: Config) -> list[dict[str, Any]]:
    """Seed after seed, so that a run cut short is a whole one of fewer seeds."""
    plans = [
        [(config.train_size, config.arm), (config.extra_train_size, config.extra_arm)] if seed < config.seeds else []
        for seed in range(max([config.seeds, *(more.first_seed + more.seeds for more in config.more)]))
    ]
    for more in config.more:
        for seed in range(more.first_seed, more.first_seed + more.seeds):
            plans[seed].append((more.train_size, more.arm))
    return [
        {"seed": seed, "train_size": size, "arm": arm}
        for seed, plan in enumerate(plans)
        for size, arm in dict.fromkeys((size, arm) for sizes, arms in plan for size in sizes for arm in arms)
    ]


def course(config: Config) -> Course:
    """The training of all arms as `train` knows it, and when it is looked at."""
    shared = ("momentum", "weight_decay", "batch", "epochs", "gain", "multiplier", "growth", "every")
    train = TrainConfig.model_validate(
        {name: getattr(config, name) for name in shared}
        | {"dataset": config.dataset, "data_dir": config.data_dir, "lr": config.learning_rate}
        | {"arch": "resnet9", "arch_options": {"filters": config.filters, "blocks": config.blocks}}
        | {"init": "orthogonal", "optimiser": "sgd", "schedule": "constant", "level": "batch_after"}
    )
    looks = {name: getattr(config, name) for name in ("encoder_gain", "first_look", "look_every", "look_precision")}
    return Course(train, **looks, refreshed=True)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a point: accuracies as shares by both protocols, and the net at the end of training."""
    return measured(config, points, course(config), points[0]["train_size"])


def judge(rows: "DataFrame") -> Judgement:
    """Student intervals over seeds of paired differences of accuracy, in points."""
    rows = comparison.read(rows)
    merits = comparison.merits(rows, REPORTED, PROTOCOLS)
    return numbers.judged(STATEMENT, comparison.measured(rows, COMPARED), merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Accuracy in percent beside the published one, medians of transport and λ at the end, for each size and arm."""
    return comparison.to_table(comparison.lines(comparison.read(rows), PUBLISHED, ("paper", *PROTOCOLS)))


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy of each method with the published values, and what LAP gains over the others."""
    return panels(comparison.read(rows), (VANILLA, LAP, DIVIDED, CONTROL, TUNED), PAIRS, PUBLISHED, PROTOCOLS)
