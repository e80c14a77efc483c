"""Test loss against the width m under the scalings 1/m and 1/√m: wide nets generalise worse under the second.

Student f = s(m) Σ_j a_j relu(b_j·x) with s = 1/√m or 1/m, weights N(0, 1), not doubled; inputs uniform on the unit
sphere of R^100; teacher of three ReLU neurons with ‖b_j‖ = 1, a_j = ±100 (±d, so that a smoke run with smaller d
keeps the published steps stable); 1000 training and 1000 test samples; square risk with ½; m = 2, 3, 4, 6, 8, 12,
16, 24, 32, 64, 128, 256, 512; 25000 steps of full-batch gradient descent.

Steps are the published ones, see `runs`. Repetitions are trials: teacher and data are drawn once a trial, the
initialisation anew for each width and each scaling. Losses are shown over that of f = 0, d²·3/(4d) in the mean over
teachers; the published axis is 0.1 × loss, on which that is 7.5.

Predictions (the published figure has ticks at 0 and 1 only). At m ≥ 128 the 1/√m net is at least twice as bad; its
loss rises with m from m = 16 on; it is then near what a linear function plus a constant leaves, d²·3(1 −
2/π)/(8d): above a third of it, while the 1/m net is below. The thresholds were set after a pilot of two trials with
m ≤ 128, before the run. How fast the loss of the 1/m net rises, and how lazy the nets are, is not predicted; its slope
and the motion of the weights are shown beside.
"""

from typing import TYPE_CHECKING, Any

from regimes.experiments.lazy.width_scaling.config import LAZY, MEAN_FIELD
from regimes.experiments.lazy.width_scaling.config import Config as Config
from regimes.experiments.lazy.width_scaling.figure import draw as draw
from regimes.experiments.lazy.width_scaling.numbers import losses, of_zero
from regimes.experiments.lazy.width_scaling.runs import measure as measure
from regimes.experiments.lazy.width_scaling.runs import work as work
from regimes.lab.averages import average
from regimes.lab.intervals import POSITIVE
from regimes.lab.numbers import by_seed, cells, geometric_mean, judged, mean, paired, slope
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

WIDE, RISING_FROM = 128, 16
PUBLISHED_UNIT = 0.1  # the published axis: 0.1 × test loss
RATIO = f"test loss of 1/√m over that of 1/m, m ≥ {WIDE}"
SLOPE = f"slope of log test loss against log m for 1/√m, m ≥ {RISING_FROM}"
LAZY_SHARE = f"test loss of 1/√m, m ≥ {WIDE}, over what linear + constant leaves"
MEAN_FIELD_SHARE = f"test loss of 1/m, m ≥ {WIDE}, over what linear + constant leaves"

STATEMENT = Statement(
    title="Wide nets generalise worse under 1/√m than under 1/m",
    claim="The test loss of the 1/√m scaling rises with the width m from m = 16 on; from m = 128 on it is at least "
    "twice that of the 1/m scaling, and above a third of what a linear function plus a constant leaves, which that of "
    "1/m is below.",
    source="[ChizatOyallonBach2019] Fig. 2a",
    predictions=(
        Prediction(RATIO, Interval.at_least(2.0), "after a pilot"),
        Prediction(SLOPE, Interval.at_least(0.0), "after a pilot"),
        Prediction(LAZY_SHARE, Interval.at_least(1 / 3), "after a pilot"),
        Prediction(MEAN_FIELD_SHARE, Interval.at_most(1 / 3), "after a pilot"),
    ),
)
GRID = ("width", "seed", "scaling")
BATCHED = ("scaling",)


def judge(rows: "DataFrame") -> Judgement:
    """Intervals over trials: geometric for the ratio, one slope a trial, of means for the shares."""
    wide: Any = rows[rows.width >= WIDE]
    lazy, mean_field = (by_seed(wide[wide.scaling == scaling], "test_end") for scaling in (LAZY, MEAN_FIELD))
    linear = float(rows.linear.iloc[0])
    rising, other = (rows[(rows.scaling == one) & (rows.width >= RISING_FROM)] for one in (LAZY, MEAN_FIELD))
    widest: Any = rising[rising.width == rows.width.max()]
    found = {
        RATIO: geometric_mean(paired(lazy, mean_field, lambda a, b: a / b)),
        SLOPE: slope(rising.width, rising.test_end, rising.seed),
        LAZY_SHARE: mean(lazy / linear, within=POSITIVE),
        MEAN_FIELD_SHARE: mean(mean_field / linear, within=POSITIVE),
    }
    merits = {
        "trials": float(rows.seed.nunique()),
        f"0.1 × test loss of 1/√m, m ≥ {WIDE}": mean(PUBLISHED_UNIT * lazy),
        f"0.1 × test loss of 1/m, m ≥ {WIDE}": mean(PUBLISHED_UNIT * mean_field),
        "0.1 × what a linear function plus a constant leaves": PUBLISHED_UNIT * linear,
        "ratio of the test losses, geometric mean": found[RATIO],
        "slope": found[SLOPE],
        f"slope of log test loss against log m for 1/m, m ≥ {RISING_FROM}": slope(
            other.width, other.test_end, other.seed
        ),
        "‖w − w0‖/‖w0‖ of 1/√m at the largest width": mean(widest.weight_motion, within=POSITIVE),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Losses over that of f = 0 and motion of the weights: arithmetic means over trials."""
    import pandas

    lines = []
    groups: Any = rows.groupby(["width", "scaling"], sort=False)
    for (width, scaling), some in groups:
        others = {
            "best test loss": average(of_zero(some, "test_best")),
            "train loss": average(of_zero(some, "train_end")),
            "‖w − w0‖/‖w0‖": average(some.weight_motion),
        }
        shown = cells("test loss / that of f = 0", losses(some, scaling)[width])
        lines.append({"m": width, "scaling": scaling} | shown | others)
    return pandas.DataFrame(lines)
