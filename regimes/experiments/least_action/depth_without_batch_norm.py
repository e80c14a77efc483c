"""Figure 5 of the least-action paper: without batch norm, does least action (LAP) bear depth better than plain risk?

The talk shows accuracy against depth on CIFAR-10, blocks without batch norm, and says that LAP's accuracy falls less
with depth than vanilla's. There are no published numbers; sizes, depths and rates behind the figure are not known.

Two blocks. `two_convolutions`: z + conv(relu(conv(relu z))), the block of the paper's words. `last_convolution`:
z + conv(relu z), which is what the author code of 2020 computes without batch norm: a slip there overwrites the first
convolution's result, so that it has no effect (see `regimes.models.blocks`). The encoder has no batch norm either; the
head keeps its own (`training.arch_options.head=one_layer` is a head without).

Training is that of the author code of 2020 (Kaiming normal weights, SGD of momentum 0.9, rate 0.1, the divided form
risk + transport/λ, so that both methods take steps of one size), at a size that a processor can bear: small net, few
images, few epochs, the rate divided by 10 at the same shares of the epochs. A trial of plain training alone, on a seed
that the run does not have, showed that Kaiming weights train at rates 0.1 and 0.01 while orthogonal ones of gain 0.01
(2019) often do not move in this time; both rates are therefore run. "Tuned" is the rate that is best on the first half
of the test samples, a method, block and depth at a time, mean over seeds; that half also chooses the epoch, and what is
reported is the accuracy on the second half. A run whose weights are no longer finite has the accuracy of its best epoch
before, or that of guessing. A run twice as large was given up for its time after one seed of the least depth.

Predictions, made before the run, for each block at the usual rate and at the tuned one, paired by seed: vanilla loses
accuracy from the shallowest to the deepest net (≥ 0 points), and more of it than LAP (difference ≥ 0).
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from regimes.experiments.least_action.low_data.arms import ArmName
from regimes.experiments.least_action.low_data.comparison import (
    DIVIDED,
    POINTS,
    VANILLA,
    Key,
    lost,
    named,
    percent,
    read,
    select,
    spelled,
    to_table,
)
from regimes.experiments.least_action.low_data.config import TableConfig
from regimes.experiments.least_action.low_data.course import Course
from regimes.experiments.least_action.low_data.together import measured
from regimes.lab import figures, numbers
from regimes.lab.numbers import Number
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

BLOCKS = {"two_convolutions": "two convolutions, as published", "last_convolution": "one convolution, as the code ran"}
KEYS = ((VANILLA, DIVIDED), (("vanilla", True), ("lap_divided", True)))


def fall(block: str, key: Key) -> str:
    """Words for the accuracy that a method loses with depth."""
    return f"{block}: fall of {named(key)} from the shallowest to the deepest net, points"


def spared(block: str, key: Key) -> str:
    """Words for how much less of it LAP loses, given the key of vanilla."""
    return f"{block}: fall of {named(key)} less that of LAP, points"


STATEMENT = Statement(
    title="Without batch norm least action bears depth better",
    claim="Without batch norm plain training of ResNet9 on CIFAR-10 loses accuracy with depth, and least action less.",
    source="[Karkar2020] figure 5, without numbers in the talk; author code, 2020",
    predictions=tuple(
        Prediction(words(block, vanilla), Interval.at_least(0.0), "published")
        for block in BLOCKS
        for vanilla, _ in KEYS
        for words in (fall, spared)
    ),
)
GRID = ("seed", "depth", "block", "arm")
BATCHED = ("seed",)  # in groups of `ensemble`


class Config(TableConfig):
    """The defaults are a smoke run on digits, configs/depth_without_batch_norm.yaml is the size that was run."""

    SMOKE: ClassVar[dict[str, Any]] = {"epochs": 2, "arch_options": {"filters": 4}}

    train_size: list[int] = Field([100], min_length=1, max_length=1, description="training samples, one number")
    depth: list[int] = Field([2, 6], min_length=2, description="residual blocks")
    block: list[Literal["two_convolutions", "last_convolution"]] = Field(
        ["two_convolutions", "last_convolution"], description="kinds of block: as published, and as the code ran"
    )
    arm: list[ArmName] = Field(
        ["vanilla", "lap_divided", "vanilla_lr0.01", "lap_divided_lr0.01"],
        min_length=1,
        description="objectives that are compared",
    )


def points(config: Config) -> list[dict[str, Any]]:
    """Seed after seed, so that a run cut short is a whole one of fewer seeds."""
    return [
        {"seed": seed, "depth": depth, "block": block, "arm": arm}
        for seed in range(config.seeds)
        for depth in config.depth
        for block in config.block
        for arm in config.arm
    ]


def course(config: Config, depth: int, block: str) -> Course:
    """The training of a net of this depth, made of these blocks."""
    made = config.course()
    options = {**made.train.arch_options, "blocks": depth, "batch_norm": False, "compat": block == "last_convolution"}
    return made._replace(train=TrainConfig.model_validate({**made.train.model_dump(), "arch_options": options}))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a point: accuracies as shares, and the net at the end of training."""
    (train_size,) = config.train_size
    made = course(config, points[0]["depth"], points[0]["block"])
    return [{"train_size": train_size} | row for row in measured(config, points, made, train_size)]


EXPLANATION = (
    "Marks: means over {} seeds, bars: 95 % intervals. ×: of so many seeds so many diverged; they count with "
    "the accuracy of their best epoch before, or of guessing. Divided: risk + transport/λ. Tuned: at the rate that is "
    "best by validation, at each depth."
)


def points_of(values: Any) -> Number | None:
    """Mean of differences of accuracy, in points."""
    return numbers.mean(values, within=POINTS)


class Falls(NamedTuple):
    """What verdict, table and figure share: the rows, with what is found of each block, depth and method in them."""

    rows: "DataFrame"
    blocks: list[str]
    depths: list[int]

    @classmethod
    def read(cls, rows: "DataFrame") -> "Falls":
        """Of the rows of a run."""
        there = set(rows.block)
        return cls(read(rows), [block for block in BLOCKS if block in there], sorted(map(int, rows.depth.unique())))

    def of(self, block: str, depth: int, key: Key) -> Any:
        """The rows of one method at one depth, at its usual or its tuned rate, by seed."""
        some = self.rows[(self.rows.block == block) & (self.rows.depth == depth)]
        return select(some, key, int(self.rows.train_size.iloc[0])).set_index("seed")

    def by_seed(self, block: str, key: Key) -> Any:
        """Held-out accuracy at the least depth less that at the greatest, in points, for each seed that has both."""
        least, greatest = (self.of(block, depth, key).held_out for depth in (self.depths[0], self.depths[-1]))
        return 100 * (least - greatest).dropna()

    def numbers(self) -> dict[str, Number | None]:
        """The falls and their paired differences, and the differences at each depth: means over the seeds."""
        found: dict[str, Number | None] = {}
        for block in self.blocks:
            for vanilla, lap in KEYS:
                plain, least = self.by_seed(block, vanilla), self.by_seed(block, lap)
                found |= {fall(block, vanilla): points_of(plain), fall(block, lap): points_of(least)}
                found[spared(block, vanilla)] = numbers.mean((plain - least).dropna(), within=POINTS.widened(100.0))
                for depth in self.depths:
                    one, other = (self.of(block, depth, key).held_out for key in (lap, vanilla))
                    name = f"{block}, depth {depth}: {named(lap)} − {named(vanilla)}, points"
                    found[name] = points_of(100 * (one - other).dropna())
        return found


def judge(rows: "DataFrame") -> Judgement:
    """Means over seeds, with intervals, of the falls and of their paired differences; merits also at each depth."""
    falls = Falls.read(rows)
    found, merits = falls.numbers(), {"seeds": float(rows.seed.nunique())}
    for name, number in found.items():
        merits |= numbers.spread(name, number)
    known = {prediction.quantity for prediction in STATEMENT.predictions}
    return numbers.judged(STATEMENT, {name: one for name, one in found.items() if name in known}, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Accuracy in percent, how many runs diverged, and transport at the end, for each net and method."""
    falls, lines = Falls.read(rows), []
    for block, depth in dict.fromkeys(zip(rows.block, rows.depth, strict=True)):
        for key in (*((arm, False) for arm in dict.fromkeys(rows.arm)), *KEYS[1]):
            own = falls.of(block, int(depth), key)
            if own.empty:
                continue
            line: dict[str, Any] = {"block": block, "depth": depth, "method": named(key)}
            line["learning rate"] = float(own.learning_rate.iloc[0])
            for protocol in ("paper", "held_out"):
                line |= numbers.cells(spelled(protocol), percent(own, protocol))
            line |= {"training accuracy": 100 * own.train_accuracy.mean(), "transport": own.transport.median()}
            lines.append(line | {"seeds": len(own), "diverged": int(lost(own).sum())})
    return to_table(lines)


def draw(rows: "DataFrame") -> "Figure":
    """Held-out accuracy against depth, one panel a block; means over seeds with their 95 % intervals."""
    falls = Falls.read(rows)
    made, axes = figures.figure(1, len(falls.blocks), width=figures.DOUBLE, height=3.6, squeeze=False, sharey=True)
    with figures.style():
        for ax, block in zip(axes[0], falls.blocks, strict=True):
            for number, key in enumerate(key for pair in KEYS for key in pair):
                shift = 0.012 * (falls.depths[-1] - falls.depths[0]) * (number - 1.5)
                own = {depth + shift: falls.of(block, depth, key) for depth in falls.depths}
                found = numbers.known({place: percent(some, "held_out") for place, some in own.items()})
                look: dict[str, Any] = {"color": figures.PALETTE[number % 2], "linestyle": ":" if key[1] else "-"}
                if found:
                    figures.curve(ax, found, number=number, bars=True, label=named(key), **look)
                for place in found:
                    if diverged := int(lost(own[place]).sum()):
                        ax.plot(place, found[place].value, "x", color="#000000", markersize=7, zorder=3)
                        ax.annotate(
                            f"{diverged}/{len(own[place])}", (place, found[place].value), xytext=(4, 4),
                            textcoords="offset points", fontsize=figures.NOTE,
                        )  # fmt: skip
            ax.axhline(10, color=figures.GREY, linestyle="--", linewidth=1.0, label="guessing one of ten", zorder=1)
            ax.set(title=BLOCKS[block], xlabel="residual blocks", xticks=falls.depths)
        axes[0, 0].set(ylabel="held-out test accuracy, %")
        made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        figures.explain(made, EXPLANATION.format(rows.seed.nunique()))
    return made
