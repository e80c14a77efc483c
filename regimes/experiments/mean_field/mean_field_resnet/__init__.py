"""Do residual nets classify better when the times of their blocks are trained, too?

Algorithm 1 of Lu et al. takes each residual block as a particle with weights θ and a time τ: sorted by their times,
block l moves the state by a weight proportional to τ^l − τ^{l−1}, and both θ and τ follow the gradient. Published for
CIFAR-10 (test error, vanilla → mean-field): ResNet20 8.75 → 8.19, down to ResNet164 5.46 → 5.19. The vanilla values
there are quoted from other papers, so that the differences mix the method with the recipe; here one recipe trains both.

Set-up. Pre-activation ResNet; SGD with momentum 0.9, weight decay 10⁻⁴ on θ, the rate divided by 10 after 1/2 and 3/4
of the epochs (80 and 120 of 160 in the paper), random shifts by up to 4 pixels and flips. All arms of one seed share
training, validation and test samples, initial weights, the order of batches and their augmentation: differences are
paired by seed. What counts is the test error after the last epoch; nothing is chosen on test samples.

The paper leaves open where τ starts, its learning rate, decay and clipping, whether the first gap is used, by what
factor gaps are multiplied, and when blocks are sorted. Arm `mean_field`: particles within each stage, the uniform grid
τ^l = l/L with gaps times L, so that it starts as the vanilla net; first gap used, learning rate of θ, no decay, no
clipping, sorted at every forward pass. `mean_field_default` has that rate over L², the default of `train`. A stage's
first block that changes the space is no particle. Other arms change one choice each, see `arms`.

The learning rate of the reduced size is the one of 0.05, 0.1, 0.2 with the least validation error, mean of both
methods, in a pilot on seed 100, which is in no result: vanilla 60.4, 60.0, 63.0 %, mean_field 61.6, 61.1, 61.6 %.
From seed to seed the difference of `mean_field` to vanilla has a standard deviation of 1.1 points (ten seeds), so that
an interval of ± 0.5, as large as the published gains, needs 22 seeds; that of `mean_field_default`, with 1.0, needs 19.

Predictions: the test error of vanilla less that of mean_field is above 0, as the paper says, made before any run; the
same of mean_field_default, made when the other arms had been run (at a tenth of the rate: 0.2 [−0.9, 1.3]). Both are
judged where vanilla errs as published, to half of the published gain of ResNet20.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regimes.experiments.mean_field.mean_field_resnet.arms import (
    DEFAULT,
    MEAN_FIELD,
    NEAR,
    PUBLISHED,
    VANILLA,
    run,
    spelled,
)
from regimes.experiments.mean_field.mean_field_resnet.config import Config
from regimes.experiments.mean_field.mean_field_resnet.config import points as points
from regimes.experiments.mean_field.mean_field_resnet.numbers import PERCENT, difference, differences
from regimes.experiments.mean_field.mean_field_resnet.pictures import panels
from regimes.lab.averages import average
from regimes.lab.numbers import Number, by_seed, cells, judged, mean, spread
from regimes.lab.report import Baseline, Interval, Judgement, Prediction, Statement
from regimes.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

GAIN = "vanilla − mean_field, test error after the last epoch, points"
USUAL_RATE = "vanilla − mean_field_default, test error after the last epoch, points"
PLAIN = "vanilla, test error after the last epoch, %"
STATEMENT = Statement(
    title="A ResNet with trained, sorted times has a lower test error",
    claim="A pre-activation ResNet whose blocks carry trained times, sorted by them, has a lower test error than the "
    "same net with fixed equal steps, trained by the same recipe.",
    source="[Lu2020] Algorithm 1 and its table",
    predictions=(
        Prediction(GAIN, Interval.at_least(0.0), "published"),
        Prediction(USUAL_RATE, Interval.at_least(0.0), "after a pilot"),
    ),
    baselines=(Baseline(PLAIN, Interval(PUBLISHED[164][0], PUBLISHED[20][0]), NEAR, (GAIN, USUAL_RATE)),),
)
GRID = ("seed", "arm")
BATCHED = ()
RESUMABLE = True  # within a point
PLAN = ("seeds", "first_seed", "arm", "extra_seeds", "extra_arm")  # say what is measured, not how


def measure(config: Config, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[dict[str, Any]]:
    """One row a point: errors in percent after the last epoch, and the weights of the blocks."""
    TrainConfig.model_validate(config.settings())  # names a mistake before anything is trained
    folders = [None if unfinished is None else unfinished / f"{point['arm']}-{point['seed']}" for point in points]
    return [
        run(config.settings(), point["arm"], point["seed"], config.pool, folder)
        for point, folder in zip(points, folders, strict=True)
    ]


def judge(rows: "DataFrame") -> Judgement:
    """The gains over vanilla, paired by seed; and every other arm less mean_field, which says what its choice does."""
    found = {gain: difference(rows, VANILLA, arm) for gain, arm in ((GAIN, MEAN_FIELD), (USUAL_RATE, DEFAULT))}
    merits: dict[str, float | Number | None] = {"seeds": float(rows[rows.arm == MEAN_FIELD].seed.nunique()), **found}
    found[PLAIN] = mean(by_seed(rows[rows.arm == VANILLA], "test_error"), within=PERCENT)
    for arm, number in differences(rows, MEAN_FIELD, first=False).items():
        if arm != VANILLA:
            merits |= spread(f"{spelled(arm)} − {spelled(MEAN_FIELD)}, points", number)
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Errors in percent of each arm, its paired difference to vanilla, its weights; then the published values."""
    import pandas

    weights = [name for name in rows.columns if name.startswith("weight_")]
    gains = differences(rows, VANILLA, first=True)
    lines: list[dict[str, Any]] = []
    for arm in dict.fromkeys(rows.arm):
        some: Any = rows[rows.arm == arm]
        line: dict[str, Any] = {"arm": spelled(arm), "setting": arm, "seeds": len(some)}
        line["learning rate"] = float(some.learning_rate.iloc[0])
        for part in ("train", "validation", "test"):
            line[f"{part} error, %"] = average(some[f"{part}_error"])
        ended = some[weights].to_numpy(dtype=float)
        line |= cells("vanilla − arm, points", gains.get(arm))
        line["block weights"] = f"{ended.min():.2f} to {ended.max():.2f}"
        lines.append(line | {"exchanges a seed": average(some.exchanges)})
    for depth, (vanilla, own) in PUBLISHED.items():
        name, gained = f"published, ResNet{depth}", {"vanilla − arm, points": vanilla - own}
        lines.append({"arm": f"{name}: vanilla (quoted from other papers)", "test error, %": vanilla})
        lines.append({"arm": f"{name}: mean-field", "test error, %": own, **gained})
    return pandas.DataFrame(lines).astype(object).fillna("")


def draw(rows: "DataFrame") -> "Figure":
    """What each arm gains over vanilla, and the weights that blocks have ended with."""
    gains = differences(rows, VANILLA, first=True)
    return panels(rows, gains, {f"ResNet{depth}": vanilla - own for depth, (vanilla, own) in PUBLISHED.items()})
