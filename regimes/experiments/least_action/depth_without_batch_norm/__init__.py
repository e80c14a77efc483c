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
(2019) often do not move in this time; both rates are therefore run. "Tuned" are the settings that are best on the
first half of the test samples, a method, block and depth at a time, mean over seeds; that half also chooses the epoch,
and what is reported is the accuracy on the second half. A run whose weights are no longer finite has the accuracy of
its best epoch before, or that of guessing. A run twice as large was given up for its time after one seed of the least
depth.

λ0. Without batch norm the transport cost of plain nets at rate 0.01 ends between 400 and 10¹⁴, so that with λ0 = 1 the
penalty is nearly all of the objective. λ0 is therefore tuned, too. A first kept run had λ0 = 1 alone: LAP ended near
guessing in the deepest nets, and the tuned differences were −12.7 [−17.5, −8.0] and −10.7 [−18.0, −3.3] points, which
says something of λ0 and not of least action. A second one had λ0 up to 10⁴ and the rates 0.1 and 0.01. Its best
settings lay at the ends, so it decided nothing on tuned methods. The third has four rates for both methods, and λ0 up
to 10⁸ at two of them. With λ0 = ∞ LAP is plain training.

What it can decide. With 500 images all nets reach 10 to 27 % where guessing reaches 10 %, and differences have
intervals of ± 2 to ± 16 points. It tells nets that train from nets that do not, and hardly more. Where the best rate or
λ0 of the shallowest or deepest net is the least or greatest that was run, a better one may lie beyond; the tuned
predictions then decide nothing, and the measured differences are shown beside them.

Predictions, made before the first run, for each block at the usual rate and tuned, paired by seed: vanilla loses
accuracy from the shallowest to the deepest net (≥ 0 points), and more of it than LAP (difference ≥ 0).
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.depth_without_batch_norm.config import Config as Config
from regimes.experiments.least_action.depth_without_batch_norm.config import measure as measure
from regimes.experiments.least_action.depth_without_batch_norm.config import points as points
from regimes.experiments.least_action.depth_without_batch_norm.falls import BLOCKS, KEYS, Falls, fall, spared
from regimes.experiments.least_action.depth_without_batch_norm.figure import draw as draw
from regimes.experiments.least_action.low_data.comparison import diverged, named, percent, spelled, to_table
from regimes.lab import numbers
from regimes.lab.averages import average, middle
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

AT_END = (
    "Where the best rate or λ0 is the least or the greatest that was run, better ones may lie beyond: what the tuned "
    "method can do is then not known. The measured differences are among the further numbers."
)
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
RESUMABLE = True  # within a point
PLAN = ("seeds", "depth", "block", "arm", "ensemble")  # say what is measured, or how fast, not how


def judge(rows: "DataFrame") -> Judgement:
    """Means over seeds, with intervals, of the falls and of their paired differences; merits also at each depth.

    A tuned one is a merit alone where the best settings are at an end of those that were run.
    """
    falls = Falls.read(rows)
    found, merits = falls.numbers(), {"seeds": float(rows.seed.nunique())}
    for name, number in found.items():
        merits |= numbers.spread(name, number)
    ended = any(falls.at_end(block, key) for block in falls.blocks for key in KEYS[1])
    return numbers.judged(STATEMENT, falls.judged(), merits, (AT_END,) if ended else ())


def table(rows: "DataFrame") -> "DataFrame":
    """Accuracy in percent, how many runs diverged, and transport at the end, for each net and method."""
    falls, lines = Falls.read(rows), []
    for block, depth in dict.fromkeys(zip(rows.block, rows.depth, strict=True)):
        for key in (*((arm, False) for arm in dict.fromkeys(rows.arm)), *KEYS[1]):
            own = falls.of(block, int(depth), key)
            if own.empty:
                continue
            line: dict[str, Any] = {"block": block, "depth": depth, "method": named(key)}
            line |= {"learning rate": float(own.learning_rate.iloc[0]), "arm": own.arm.iloc[0]}
            for protocol in ("paper", "held_out"):
                line |= numbers.cells(spelled(protocol), percent(own, protocol))
            line |= {"training accuracy": 100 * average(own.train_accuracy), "transport": middle(own.transport)}
            lines.append(line | {"seeds": len(own), "diverged": diverged(own)})
    return to_table(lines)
