"""Does least action gain more, the wider and the more overfitted the net?

The talk: transport regularises, so that its gain grows with the number of filters, as the net overfits. Set-up. Dense
residual nets without norm on few images, as in `regular_map`, with 8 to 64 features; the norm of the encoded images and
the penalty Σ_k ‖v_k‖² have the same scale at every width, and λ its rule. One seed, one training and one test set for
all widths and arms: all is paired by seed.

Three questions. Does plain training overfit more in wider nets: does its test risk less its training risk, after the
protocol's steps, grow? Without that there is no "as it overfits". Does the gain of least action over plain training
grow with the width; and that over the control (λ·risk with λ by the same rule, no transport), as it should if transport
is the reason? The gains are asked after the protocol's steps and at the first moment of equal training risk. Each
answer is a slope per doubling of the width, one a seed, and their mean; predicted to be at least 0.

Wider nets are known to overfit less, not more, beyond the width at which they fit the data (double descent); so a
refuted first question would be no surprise. Trial runs of other statements on such nets at one width had been looked
at, none at several widths. Sizes are small and ours: the talk gives no numbers for this claim.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.overfitting_width.course import Config as Config
from regimes.experiments.least_action.overfitting_width.course import gains, slope
from regimes.experiments.least_action.overfitting_width.course import measure as measure
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.contrasts import ACCURACIES, NAMES, OTHERS
from regimes.experiments.least_action.small_nets.settings import ARMS, VANILLA
from regimes.lab import figures, numbers
from regimes.lab.averages import averages
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

OVERFITS = "plain training: test risk less training risk, slope per doubling of the width"
GROWS = {
    (column, other): f"gain over {NAMES[other]} {words}, slope per doubling of the width, points"
    for column, words in ACCURACIES.items()
    for other in OTHERS
}
STATEMENT = Statement(
    title="Least action gains more in wider nets, which overfit more",
    claim="The wider a net on few samples, the more plain training overfits, and the more accuracy least action gains "
    "over it and over a control with the same λ and no transport.",
    source="[Karkar2020] the talk, gain against the number of filters",
    predictions=tuple(Prediction(words, Interval.at_least(0.0), "chosen") for words in (OVERFITS, *GROWS.values())),
)
GRID = ("width", "arm", "seed")
BATCHED = ("seed",)


def overfitting(rows: Any, arm: str) -> Any:
    """Test risk less training risk after the protocol's steps, by width and seed."""
    keys = ("width", "seed")
    return contrasts.of_arm(rows, arm, "risk", keys) - contrasts.of_arm(rows, arm, "train_risk", keys)


def judge(rows: "DataFrame") -> Judgement:
    """Slopes per doubling of the width, one a seed, and their means."""
    found = {OVERFITS: slope(overfitting(rows, VANILLA))}
    found |= {words: slope(gains(rows, other, column)) for (column, other), words in GROWS.items()}
    merits: dict[str, Any] = {"seeds": float(rows.seed.nunique()), **contrasts.reached(rows)}
    for width, some in rows.groupby("width"):
        for (column, other), _ in GROWS.items():
            name = f"width {width}: gain over {NAMES[other]} {ACCURACIES[column]}, points"
            merits |= numbers.spread(name, numbers.mean(gains(some, other, column)))
    return numbers.judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Arithmetic means over the seeds; at equal risk (equal_) over the nets that reached it."""
    axes = ["width", "arm"]
    numbers = [name for name in rows.columns if name not in (*axes, "seed")]
    equal = [name for name in numbers if name.startswith(contrasts.EQUAL)]
    others = averages(rows, axes, [name for name in numbers if name not in equal])
    there = averages(rows[rows.reached == 1], axes, equal)
    return others.merge(there, on=axes, how="left")[[*axes, *numbers]]


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy of each arm against the width, what plain training overfits, and the gains of least action."""
    made, axes = figures.figure(1, 3, width=figures.DOUBLE, height=3.0)
    widths = sorted(set(rows.width))

    def at_widths(values: Any) -> dict[Any, numbers.Number]:
        return numbers.known({width: numbers.mean(values.get(width, default=[])) for width in widths})

    with figures.style():
        for number, arm in enumerate(ARMS):
            accuracy = 100 * contrasts.of_arm(rows, arm, "accuracy", ("width", "seed"))
            figures.curve(axes[0], at_widths(accuracy), number=number, bars=True, label=NAMES[arm])
            figures.curve(axes[1], at_widths(overfitting(rows, arm)), number=number, bars=True, label=NAMES[arm])
        for number, (column, other) in enumerate(GROWS):
            found = {1.05 ** (number - 1.5) * at: one for at, one in at_widths(gains(rows, other, column)).items()}
            look: dict[str, Any] = {"linestyle": ":", "markerfacecolor": "white"} if column == "accuracy" else {}
            figures.curve(axes[2], found, number=ARMS.index(other), bars=True, **look)
        axes[2].axhline(0.0, color="black", linewidth=0.8)
        for ax, words in zip(axes, ("test accuracy, %", "test risk − training risk", "gain, points"), strict=True):
            ax.set(xscale="log", xlabel="width", ylabel=words)
            ax.set_xticks(widths, [str(width) for width in widths])
            ax.minorticks_off()
        axes[0].legend()
        seeds = rows.seed.nunique()
        text = (
            "Left and middle: after the protocol's steps. Right: gain of least action over training of this mark, open "
        )
        bars = figures.intervals("bars", seeds)
        text += f"after the protocol's steps, filled at equal risk. Means of {seeds} seeds; {bars}."
        figures.explain(made, text)
    return made
