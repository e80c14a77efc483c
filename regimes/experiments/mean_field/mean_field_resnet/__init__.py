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
clipping, sorted at every forward pass. A stage's first block that changes the space is no particle. Other arms change
one choice each: `_epoch` (sorted after each epoch), `_never`, `_tauF` (the learning rate of τ times F), `_nofirst` (the
first gap is 1), `_clipC` (norm of τ's gradient at most C), `_random` (τ starts uniform on [0, 1]), `_decayD` (weight
decay on τ), and for both methods `_lrR` (another learning rate).

The learning rate of θ on τ moves the weights of blocks by L² times what it would move a weight of the net. In 8 epochs
on 400 digits (resnet9, nine blocks in one stage, 5 seeds) they went from −87 to 72 with it, from −8 to 11 with a tenth,
from 0.11 to 1.89 with a hundredth, at validation errors of 5.3, 5.0 and 4.9 % (vanilla 5.0). So `train` takes 1/L² for
`tau_lr_factor` where nothing else is said; arms here have the factor 1, or their own.

The learning rate of the reduced size is the one of 0.05, 0.1, 0.2 with the least validation error, mean of both
methods, in a pilot on seed 100, which is in no result: vanilla 60.4, 60.0, 63.0 %, mean_field 61.6, 61.1, 61.6 %.

Prediction, made before any run: the test error of vanilla less that of mean_field is above 0, as the paper says.

Measured at the reduced size (2,000 images of 16 × 16 pixels, 8 epochs, 10 seeds): −0.54 [−1.33, 0.25] points, at test
errors of 61.1 % (vanilla) and 61.7 %. No gain is seen, and one of 0.25 points or less is not excluded; of nets trained
for 160 epochs on all images this says nothing. By figures for which nothing was predicted mean_field is behind: vanilla
less mean_field has a training error of −1.6 [−2.8, −0.4] points, a test risk of −0.037 [−0.054, −0.020].

The ablation (3 seeds) decides none of the choices: other arms less mean_field lie within 1.5 points of 0, with half
widths of 2.4 to 4.8. Weights of blocks end between −0.55 and 4.14 (0.24 and 1.46 at a tenth of the learning rate of τ),
and 1.2 pairs of blocks a seed change places.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from regimes.errors import UserError
from regimes.experiments.mean_field.mean_field_resnet.arms import read_arm, run, spelled
from regimes.experiments.mean_field.mean_field_resnet.pictures import panels
from regimes.lab import numbers
from regimes.lab.config import Settings
from regimes.lab.numbers import Number, by_seed, cells, paired, spread
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.training.config import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Test error in percent, [Lu2020]: depth: (vanilla, quoted there from other papers; mean-field). CIFAR-10.
PUBLISHED = {
    20: (8.75, 8.19),
    32: (7.51, 7.15),
    44: (7.17, 6.91),
    56: (6.97, 6.72),
    110: (6.37, 6.10),
    164: (5.46, 5.19),
}
VANILLA, MEAN_FIELD = "vanilla", "mean_field"
GAIN = "vanilla − mean_field, test error after the last epoch, points"
STATEMENT = Statement(
    title="A ResNet with trained, sorted times has a lower test error",
    claim="A pre-activation ResNet whose blocks carry trained times, sorted by them, has a lower test error than the "
    "same net with fixed equal steps, trained by the same recipe.",
    source="[Lu2020] Algorithm 1 and its table",
    predictions=(Prediction(GAIN, Interval.at_least(0.0), "published"),),
)
GRID = ("seed", "arm")
BATCHED = ()
OWN = {
    *("dataset", "data_dir", "train_size", "validation", "test_size", "device", "bf16", "seed", "seeds"),
    *("max_steps", "mean_field", "checkpoint_seconds", "tensorboard"),
}
SMOKE = {"arch": "preact_resnet", "arch_options": {"depth": 14}, "epochs": 3, "batch": 25}


class Config(Settings):
    """Data, arms and training; the defaults are a smoke run, configs/mean_field_resnet.yaml is the real size here.

    `training` holds settings of `train`: what differs from the recipe of the data set, on digits from SMOKE.
    """

    dataset: Literal["digits", "cifar10", "cifar100"] = Field("digits", description="data set")
    data_dir: str | None = Field(None, description="folder with the data files; null: REGIMES_DATA_DIR")
    arm: list[str] = Field([VANILLA, MEAN_FIELD], min_length=1, description="nets that are compared")
    seeds: int = Field(2, ge=1, description="repetitions; intervals are over these")
    first_seed: int = Field(0, ge=0, description="the first of the seeds")
    extra_arm: list[str] = Field(
        ["mean_field_epoch", "mean_field_tau0.1"], description="nets that are shown beside them"
    )
    extra_seeds: int = Field(1, ge=0, description="seeds of the extra arms: the first of the seeds")
    train_size: int | None = Field(100, ge=2, description="training images; null: all that validation leaves")
    validation: int = Field(100, ge=0, description="validation images; their error is tabled, they choose nothing")
    test_size: int | None = Field(100, ge=1, description="test images; null: all")
    pool: int = Field(1, ge=1, description="side of the squares of pixels that images are averaged over")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    bf16: bool = Field(False, description="products in bfloat16")
    training: dict[str, Any] = Field({}, description="settings of `train` that differ from the recipe of the data set")

    @field_validator("arm", "extra_arm")
    @classmethod
    def readable(cls, names: list[str]) -> list[str]:
        """Refuse names that are no arms."""
        for name in names:
            read_arm(name)
        return names

    @field_validator("training")
    @classmethod
    def allowed(cls, training: dict[str, Any]) -> dict[str, Any]:
        """Refuse what the statement's own settings decide."""
        if taken := OWN & training.keys():
            raise UserError(f"training cannot set {', '.join(sorted(taken))}: set it outside of training, if at all")
        return training

    def settings(self) -> dict[str, Any]:
        """Settings of `train` that all arms share."""
        own = ("dataset", "data_dir", "train_size", "validation", "test_size", "device", "bf16")
        small = SMOKE if self.dataset == "digits" else {}
        return {**small, **self.training, **{name: getattr(self, name) for name in own}}


def points(config: Config) -> list[dict[str, Any]]:
    """The arms seed after seed, then the extra ones, so that a run cut short is a whole one of fewer seeds or arms."""
    plans = ((config.seeds, config.arm), (min(config.extra_seeds, config.seeds), config.extra_arm))
    return [
        {"seed": config.first_seed + number, "arm": arm}
        for seeds, arms in plans
        for number in range(seeds)
        for arm in arms
    ]


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a point: errors in percent after the last epoch, and the weights of the blocks."""
    TrainConfig.model_validate(config.settings())  # names a mistake before anything is trained
    return [run(config.settings(), point["arm"], point["seed"], config.pool) for point in points]


def difference(rows: "DataFrame", arm: str, other: str, column: str = "test_error") -> Number | None:
    """Mean of arm − other, in points, with its interval over the seeds that have both."""
    first, second = (by_seed(rows[rows.arm == name], column) for name in (arm, other))
    return numbers.mean(paired(first, second, lambda a, b: a - b), within=Interval(-100.0, 100.0))


def differences(rows: "DataFrame", arm: str, *, first: bool) -> dict[str, Number]:
    """Of every other arm: this one less it if it is the `first`, else it less this one; by the other's name."""
    others = [other for other in dict.fromkeys(rows.arm) if other != arm]
    pairs = {other: (arm, other) if first else (other, arm) for other in others}
    return numbers.known({other: difference(rows, *pair) for other, pair in pairs.items()})


def judge(rows: "DataFrame") -> Judgement:
    """The gain over vanilla, paired by seed; and every other arm less mean_field, which says what its choice does."""
    gain = difference(rows, VANILLA, MEAN_FIELD)
    merits: dict[str, float | Number | None] = {"seeds": float(rows[rows.arm == MEAN_FIELD].seed.nunique()), GAIN: gain}
    for arm, found in differences(rows, MEAN_FIELD, first=False).items():
        if arm != VANILLA:
            merits |= spread(f"{spelled(arm)} − {spelled(MEAN_FIELD)}, points", found)
    return numbers.judged(STATEMENT, {GAIN: gain}, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Errors in percent of each arm, its paired difference to vanilla, its weights; then the published values."""
    import pandas

    weights, gains = (
        [name for name in rows.columns if name.startswith("weight_")],
        differences(rows, VANILLA, first=True),
    )
    lines: list[dict[str, Any]] = []
    for arm in dict.fromkeys(rows.arm):
        some: Any = rows[rows.arm == arm]
        line: dict[str, Any] = {"arm": spelled(arm), "setting": arm, "seeds": len(some)}
        line["learning rate"] = float(some.learning_rate.iloc[0])
        for part in ("train", "validation", "test"):
            line[f"{part} error, %"] = float(some[f"{part}_error"].astype(float).mean())
        ended = some[weights].to_numpy(dtype=float)
        line |= cells("vanilla − arm, points", gains.get(arm))
        line |= {"block weights": f"{ended.min():.2f} to {ended.max():.2f}"}
        lines.append(line | {"exchanges a seed": float(some.exchanges.mean())})
    for depth, (vanilla, own) in PUBLISHED.items():
        quoted = {"arm": f"published, ResNet{depth}: vanilla (quoted from other papers)", "test error, %": vanilla}
        gained = {"test error, %": own, "vanilla − arm, points": vanilla - own}
        lines += [quoted, {"arm": f"published, ResNet{depth}: mean-field", **gained}]
    return pandas.DataFrame(lines).astype(object).fillna("")


def draw(rows: "DataFrame") -> "Figure":
    """What each arm gains over vanilla, and the weights that blocks have ended with."""
    gains = differences(rows, VANILLA, first=True)
    return panels(rows, gains, {f"ResNet{depth}": vanilla - own for depth, (vanilla, own) in PUBLISHED.items()})
