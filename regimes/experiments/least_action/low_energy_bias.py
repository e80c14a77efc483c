"""Does a net that moves its data little also classify new data well? Transport cost against test accuracy.

Statement, as read from the talk, which shows the figure without a caption, and from what the author code of 2019 logs:
trained without any penalty from initialisations of many laws and gains, residual nets with a low transport cost tend
to have a high test accuracy; and a small initialisation gives small displacements that stay small through training.

Set-up. ResNet9 with batch norm and few filters on a small uniform training set, vanilla training by SGD with momentum,
the rate divided by 10 after 1/2, 3/4 and 5/6 of the epochs (the proportions of the author code of 2020). The laws are
those of the author code, each with several gains: orthogonal, Kaiming normal (gain times N(0, 2/fan_out)), normal
(N(0, gain²)); the gain acts on every convolution and linear map. Sizes are ours (the talk gives none). One seed has one
training set, one test set, one order of batches; its initialisations are compared with each other only: one rank
correlation a seed, and an interval over seeds. The test set is looked at once, after the last epoch.

Transport cost is Σ_k ‖v_k‖², norm summed over features, mean over test samples (ranks would be the same with the mean
over features of the author code, since all nets have one shape). It depends on the scale of the features, which the
encoder is free to choose; a merit gives the same correlation with Σ_k ‖v_k‖²/‖z_{k−1}‖², which does not. A net that has
not fitted its training set says little of a bias: another merit counts the fitted runs (training accuracy at least
0.99) and correlates among them alone.

On CIFAR-10 (configs/cifar10/low_energy_bias.yaml: 500 training images, 30 epochs, five seeds, accuracies from 27 to
32 %) ρ of transport cost and test accuracy is −0.43 [−0.78, −0.09], that of transport cost before and after training
0.64 [0.40, 0.88], and relative displacement goes with a high accuracy (0.76) as on MNIST.

Predictions, made before the run. Spearman's ρ of transport cost and test accuracy over initialisations, mean over
seeds, in [−1, −0.3]; ρ of transport cost before and after training in [0.3, 1].
"""

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import Classification, Labelled, classification
from regimes.lab import figures
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import mean_interval
from regimes.models.image_nets import resnet9
from regimes.models.initialise import LAWS, initialise
from regimes.models.residual import ResidualNet
from regimes.threads import threads_for
from regimes.training.layout import channels_last
from regimes.training.loop import Training, descend
from regimes.training.objectives import Plain
from regimes.training.work import training_work

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

BIAS = "Spearman's ρ of transport cost and test accuracy over initialisations"
MEMORY = "Spearman's ρ of transport cost before and after training"
FITTED = 0.99  # training accuracy from which a run counts as fitted
COMPARED = ("kaiming", "orthogonal", "normal")  # laws of the initial weights
FEWEST = 4  # initialisations from which a rank correlation is taken
WEIGHTS = 62  # random stream of the initial weights

STATEMENT = Statement(
    claim="Over initialisations of vanilla residual nets, a low transport cost goes with a high test accuracy, and "
    "what moves little at the start moves little after training.",
    source="[Karkar2020] low-energy bias of the talk, author code of 2019",
    predictions=(
        Prediction(BIAS, Interval(-1.0, -0.3), "chosen"),
        Prediction(MEMORY, Interval(0.3, 1.0), "chosen"),
    ),
)
GRID = ("law", "gain", "seed")
BATCHED = ()


class Config(Settings):
    """Data, net, training and the gains of each law; configs/low_energy_bias.yaml is the real size."""

    dataset: Literal["digits", "mnist", "cifar10", "cifar100"] = "digits"
    orthogonal: tuple[float, ...] = (0.01, 0.1, 1.0)
    kaiming: tuple[float, ...] = (0.3, 1.0, 2.0)
    normal: tuple[float, ...] = (0.01, 0.1)
    seeds: int = Field(2, ge=2)
    train_size: int = Field(100, ge=2)
    test_size: int | None = Field(None, ge=1)  # None: the whole test set
    filters: int = Field(4, ge=2)
    blocks: int = Field(9, ge=1)
    epochs: int = Field(4, ge=1)
    batch: int = Field(50, ge=2)
    rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    decay: float = Field(1e-4, ge=0)


class Moved(NamedTuple):
    """Of a set of samples: accuracy, Σ_k ‖v_k‖² and Σ_k ‖v_k‖²/‖z_{k−1}‖², means over samples."""

    accuracy: float
    transport: float
    relative: float


def points(config: Config) -> list[dict[str, Any]]:
    """Every gain of every law, with every seed."""
    return [
        {"law": law, "gain": gain, "seed": seed}
        for law in COMPARED
        for gain in getattr(config, law)
        for seed in range(config.seeds)
    ]


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run: accuracies and transport costs before and after training."""
    return [_run(config, point["law"], point["gain"], point["seed"]) for point in points]


def _run(config: Config, law: str, gain: float, seed: int) -> dict[str, float]:
    data = classification(config.dataset, train_size=config.train_size, test_size=config.test_size, seed=seed)
    model = resnet9(data.shape, data.classes, filters=config.filters, blocks=config.blocks)
    initialise(model, LAWS[law], gain, generator=generator(seed, WEIGHTS))
    channels_last(model)
    batches = Batches(data.train, config.batch, seed=seed, normalise=data.normalise)
    with threads_for(training_work(model, batches)):
        return _train(config, data, model, batches)


def _train(config: Config, data: Classification, model: ResidualNet, batches: Batches) -> dict[str, float]:
    settle(model, batches)
    first = moved(model, data, data.train)
    optimizer = torch.optim.SGD(model.parameters(), config.rate, config.momentum, weight_decay=config.decay)
    milestones = [max(1, round(share * config.epochs)) for share in (1 / 2, 3 / 4, 5 / 6)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for _ in descend(Training(model, Plain(), optimizer, schedule), batches, epochs=config.epochs):
        pass
    train, test = moved(model, data, data.train), moved(model, data, data.test)
    return {
        "train_accuracy": train.accuracy,
        "test_accuracy": test.accuracy,
        "transport": test.transport,
        "transport_train": train.transport,
        "relative": test.relative,
        "transport_start": first.transport,
        "relative_start": first.relative,
    }


@torch.no_grad()
def settle(model: ResidualNet, batches: Batches) -> None:
    """Let the batch norms see one epoch, so that eval mode before training is that of the initial weights."""
    model.train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    for x, _ in batches.epoch(0):
        model(x)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def moved(model: ResidualNet, data: Classification, part: Labelled) -> Moved:
    """Accuracy and transport of one part of the data, in eval mode."""
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64)
    for x, labels in Batches(part, 500, normalise=data.normalise, shuffle=False).epoch(0):
        trace = model(x, trace=True)
        squares = torch.stack([_squares(step) for step in trace.flat_steps])
        sizes = torch.stack([_squares(state) for path in trace.paths for state in path[:-1]])
        correct = (trace.output.argmax(1) == labels).double()
        relative = squares / sizes.clamp(min=torch.finfo(torch.float64).tiny)
        totals += torch.stack([correct.sum(), squares.sum(), relative.sum()])
    return Moved(*(totals / len(part.labels)).tolist())


def _squares(step: Tensor) -> Tensor:
    return step.flatten(1).double().square().sum(1)


def spearman(x: Any, y: Any) -> float:
    """Rank correlation, ties with their mean rank; what is not finite ranks last; NaN if one of the two is constant."""
    import pandas

    ranks = np.stack(
        [pandas.Series(np.asarray(values, dtype=float)).rank(na_option="bottom").to_numpy() for values in (x, y)]
    )
    if ranks.shape[1] < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return math.nan
    return float(np.corrcoef(ranks)[0, 1])


def judge(rows: "DataFrame") -> Judgement:
    """One ρ a seed over its initialisations, Student's interval over seeds."""
    seeds: list[Any] = [some for _, some in rows.groupby("seed")]
    fitted = [some[some.train_accuracy >= FITTED] for some in seeds]
    bias = [spearman(some.transport, some.test_accuracy) for some in seeds]
    memory = [spearman(some.transport_start, some.transport) for some in seeds]
    among = [spearman(some.transport, some.test_accuracy) for some in fitted if len(some) >= FEWEST]
    merits = {
        "seeds": float(len(seeds)),
        "initialisations": float(len(rows) / len(seeds)),
        BIAS: float(np.mean(bias)),
        MEMORY: float(np.mean(memory)),
        "share of runs that fitted the training set": float((rows.train_accuracy >= FITTED).mean()),
        "ρ of transport cost and test accuracy among them": float(np.mean(among)) if among else math.nan,
        "ρ of relative displacement and test accuracy": float(
            np.mean([spearman(some.relative, some.test_accuracy) for some in seeds])
        ),
    }
    return STATEMENT.judge({BIAS: _clipped(bias), MEMORY: _clipped(memory)}, merits=merits)


def _clipped(correlations: list[float]) -> Interval:
    """Student's interval of the mean, cut to [−1, 1], where the mean of correlations lies in any case."""
    low, high = mean_interval(correlations).interval
    return Interval(max(low, -1.0), min(high, 1.0)) if low <= high else Interval(low, high)


def draw(rows: "DataFrame") -> "Figure":
    """Test accuracy against transport cost, and the cost after against before training; small: runs, large: medians."""
    from matplotlib.ticker import LogLocator

    made, axes = figures.figure(1, 2, width=figures.DOUBLE, height=3.6)
    with figures.style():
        for number, (law, some) in enumerate(rows.groupby("law", sort=False)):
            for place, (gain, runs) in enumerate(some.groupby("gain", sort=False)):
                look = {"marker": figures.MARKERS[place], "color": figures.PALETTE[number], "linestyle": "none"}
                for ax, x, y in ((axes[0], "transport", "test_accuracy"), (axes[1], "transport_start", "transport")):
                    ax.plot(runs[x], runs[y], markersize=3, alpha=0.4, **look)
                    ax.plot([runs[x].median()], [runs[y].median()], markersize=7, markeredgecolor="black", **look)
                axes[0].plot([], [], **look, label=f"{law}, {gain:g}")
        finite = rows[["transport_start", "transport"]].replace([np.inf, 0.0], np.nan)
        ends = [float(finite.min().min()), float(finite.max().max())]
        axes[1].plot(ends, ends, ":", color="#666666", label="unchanged")
        axes[1].legend()
        cost = r"transport cost $\Sigma_k \|v_k\|^2$"
        axes[0].set(xscale="log", xlabel=cost, ylabel="test accuracy")
        axes[0].xaxis.set_minor_locator(LogLocator(subs=(3,)))  # labels of more would overlap
        axes[1].set(xscale="log", yscale="log", xlabel=f"{cost} before training", ylabel=f"{cost} after")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title="law, gain")
    return made
