"""Is the map of a least-action net more regular, and is the net less disturbed by noise?

The talk: an optimal-transport map is regular, and so a least-action net should be. Set-up. Dense residual nets without
norm on few images, f = F ∘ T ∘ φ with linear φ and F, trained by SGD on the whole training set from the same weights:
plainly; by least action, λ·risk + Σ_k ‖v_k‖² with λ growing by the risk; and by a control, λ·risk with λ by the same
rule and no transport, whose steps on the risk are as long as those of least action. All are compared at the first
moment at which their training risk is at most `equal_risk`: a net that fits less would be smoother for that alone.

What speaks for it. DT is a product of factors 1 + Dv_k, so log σ_max(DT) and −log σ_min(DT) are at most about Σ_k
‖Dv_k‖. A block v(z) = W₂ relu(W₁z + b) that pays for ‖v‖² shrinks W₁ and W₂, and with them Dv. So the stretch of T,
σ_max(DT), and that of T⁻¹, 1/σ_min(DT), geometric means over test points, should be smaller: ratios of at most 1. Of
the largest stretch over pairs of points, a lower bound of the Lipschitz constant, nothing was predicted: it is shown
beside them, and that of T⁻¹ is hardly smaller. This is no derivation: nothing bounds Dv by v off the data, nor the
stretch from below. What is open. Accuracy under noise depends on the whole net; φ and F may stretch what T does not,
and ‖φ‖ among the numbers says how much φ does. The claim: the net loses no more accuracy than another arm when Gaussian
noise is added to the test images, mean over the sizes of the noise (1 is the deviation of the pixels). Trial runs with
other seeds chose rate, gain, width and steps; a smoke run on digits (3 seeds) had shown all six numbers before the
predictions were written. All is paired, noise too.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.least_action.regular_map.figure import draw as draw
from regimes.experiments.least_action.small_nets import contrasts
from regimes.experiments.least_action.small_nets.contrasts import NAMES, OTHERS
from regimes.experiments.least_action.small_nets.maps import Config as Config
from regimes.experiments.least_action.small_nets.maps import measure as measure
from regimes.lab import numbers
from regimes.lab.averages import average
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

STRETCH = {other: f"stretch of T at equal risk, least action over {NAMES[other]}" for other in OTHERS}
INVERSE = {other: f"stretch of T⁻¹ at equal risk, least action over {NAMES[other]}" for other in OTHERS}
NOISE = {other: f"accuracy lost to noise at equal risk, least action − {NAMES[other]}, points" for other in OTHERS}
BELOW, NOT_ABOVE = Interval.at_most(1.0), Interval.at_most(0.0)
STATEMENT = Statement(
    title="The map of a least-action net is regular",
    claim="At equal training risk the map of a least-action net and its inverse stretch less, on average over test "
    "points, than those of plain training and of a control without transport, and the net loses less accuracy to "
    "noise.",
    source="[Karkar2020] section 3, regularity of the transport map",
    predictions=(
        *(
            Prediction(words, Interval.at_most(1.0), "after a pilot")
            for words in (*STRETCH.values(), *INVERSE.values())
        ),
        *(Prediction(words, Interval.at_most(0.0), "after a pilot") for words in NOISE.values()),
    ),
)
GRID = ("arm", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """Ratios and differences paired by seed."""
    noisy = rows[[*contrasts.noisy(rows).values()]].mean(axis=1, skipna=False)
    rows = rows.assign(equal_lost=100 * (rows.equal_accuracy - noisy))
    found = {}
    for other in OTHERS:
        found[STRETCH[other]] = contrasts.ratio(rows, "equal_stretch", other)
        found[INVERSE[other]] = contrasts.ratio(rows, "equal_inverse_stretch", other)
        found[NOISE[other]] = contrasts.difference(rows, "equal_lost", other)
    merits: dict[str, Any] = {"seeds": float(rows.seed.nunique()), **contrasts.reached(rows)}
    for column, words in (("stretch", "stretch of T"), ("inverse_stretch", "stretch of T⁻¹"), ("encoder", "‖φ‖")):
        merits |= contrasts.of_arms(rows, f"equal_{column}", numbers.geometric_mean, words)
    for other in OTHERS:
        for column, words in (("pair_stretch", "T"), ("pair_inverse_stretch", "T⁻¹")):
            name = f"largest stretch of {words} over pairs of points, least action over {NAMES[other]}"
            merits |= numbers.spread(name, contrasts.ratio(rows, f"equal_{column}", other))
        name = f"accuracy without noise, least action − {NAMES[other]}, points"
        merits |= numbers.spread(name, contrasts.difference(rows, "equal_accuracy", other, 100.0))
    merits |= contrasts.of_arms(rows, "equal_lost", numbers.mean, "accuracy lost to noise, points")
    merits |= contrasts.of_arms(rows, "equal_transport", numbers.geometric_mean, "transport cost at equal risk")
    return numbers.judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """A line an arm, at equal risk: risks, stretches, and accuracy in percent without noise and with it."""
    import pandas

    lines = []
    for arm, some in rows[rows.reached == 1].groupby("arm", sort=False):
        line: dict[str, Any] = {"arm": NAMES[str(arm)], "nets": len(some), "steps": average(some.equal_steps)}
        line |= {"training risk": average(some.equal_train_risk), "transport cost": average(some.equal_transport)}
        for column, words in (("stretch", "stretch of T"), ("inverse_stretch", "stretch of T⁻¹")):
            line |= numbers.cells(words, numbers.geometric_mean(some[f"equal_{column}"]))
        for size, column in {0.0: "equal_accuracy", **contrasts.noisy(rows)}.items():
            line |= numbers.cells(f"accuracy, noise {size:g}", numbers.mean(100 * some[column]))
        lines.append(line)
    return pandas.DataFrame(lines)
