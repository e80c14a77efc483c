"""Does regression with tangent kernels, finite and infinite, do as well on handwritten digits as trained nets?

Set-up. Images of the digits of scikit-learn and of MNIST, targets one-hot less 1/10, square loss. Four arms are
measured over the number n of training images; validation images make all choices, test images are looked at once.
* `net`: a dense ReLU net of `depth` hidden layers in the NTK parametrisation, f = h(w) − h(w_0), trained by gradient
  descent with momentum; rate and number of steps are chosen.
* `finite`: ridge regression with the kernel of the same net at the same w_0, the mean over its outputs.
* `infinite`: the same with the kernel of infinite width. In both the ridge is chosen.
* `tuned`: the infinite kernel, where depth, a 3 × 3 mean filter in front of the net and unit norm of the images are
  chosen, too, with the first `select` training images.

Predictions.
* MNIST, n = 10,000: 97.5 % right by `tuned`. Set beforehand as a goal; a first program had 97.2 % with a plain kernel
  and 97.8 % with a filter.
* The fit of the finite kernel tends to that of the infinite one. The kernel deviates by O(m^{−1/2}) in the width m,
  and the fit is a smooth function of it where a ridge keeps the inverse bounded: ‖f_m − f_∞‖/‖f_∞‖ ~ m^{−1/2}.
  Second-order terms flatten the slope where m is small. Widths and ridge were set after a pilot at smaller widths,
  where slopes were −0.44 and −0.47.
* The learning curve of the infinite kernel is that of the theory for Gaussian eigenfunctions
  ([BordelonCanatarPehlevan2020], [SimonDickens2023]): measured mean square error over that foretold from eigenvalues
  and target coefficients of a pool of images, which stands for the law. To 10 %, for fluctuations and for what n is of
  the pool's size.
* The infinite kernel errs less than the widest net, and filters help on MNIST. [LeeSchoenholz2020] found the first for
  dense nets on CIFAR-10, another set-up; both were seen in a pilot with other seeds. It is said of the nets
  trained here only: with the most images of each data set all of them choose the largest rate and one of the last
  steps that they are offered, so that a longer training may do better.
"""

from typing import TYPE_CHECKING

from regimes.experiments.lazy.ntk_real_data import numbers
from regimes.experiments.lazy.ntk_real_data.config import NET, TUNED
from regimes.experiments.lazy.ntk_real_data.config import Config as Config
from regimes.experiments.lazy.ntk_real_data.config import points as points
from regimes.experiments.lazy.ntk_real_data.figure import draw as draw
from regimes.experiments.lazy.ntk_real_data.runs import measure as measure
from regimes.lab.averages import middle
from regimes.lab.numbers import cells, judged
from regimes.lab.report import Interval, Judgement, Prediction, Statement

if TYPE_CHECKING:
    from pandas import DataFrame

SETS = {"digits": "digits", "mnist": "MNIST"}
GOAL = "MNIST, 10,000 training images: test accuracy of the tuned kernel"
FILTER = "MNIST: error of the infinite kernel less that of the tuned one"
EXPONENT = {key: f"{name}: exponent in m of the distance to the infinite fit" for key, name in SETS.items()}
CURVE_RATIO = {key: f"{name}: mean square error, measured over foretold" for key, name in SETS.items()}
GAIN = {key: f"{name}: error of the widest net less that of the infinite kernel" for key, name in SETS.items()}
STATEMENT = Statement(
    title="Tangent kernels err less than the nets trained here on digits",
    claim="On digits and MNIST the infinite tangent kernel errs less than dense nets of its depth, as trained here, "
    "and reaches 97.5 % with 10,000 images; finite kernels tend to it with the width, and theory foretells its "
    "learning curve.",
    source="[LeeSchoenholz2020], [BordelonCanatarPehlevan2020] and [SimonDickens2023] for the learning curve",
    predictions=(
        Prediction(GOAL, Interval(0.975, 1.0), "chosen"),
        *(Prediction(name, Interval.around(-0.5, 0.1), "derived") for name in EXPONENT.values()),
        *(Prediction(name, Interval.around(1.0, 0.1), "derived") for name in CURVE_RATIO.values()),
        *(Prediction(name, Interval.at_least(0.0), "after a pilot") for name in GAIN.values()),
        Prediction(FILTER, Interval.at_least(0.0), "after a pilot"),
    ),
)
GRID = ("dataset", "arm", "n", "width", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The goal, exponents, ratios and differences; beside them what feature learning gains at the width of a net."""
    found = {GOAL: numbers.accuracy(rows, "mnist", 10_000), FILTER: numbers.lost(rows, "mnist", "infinite", TUNED)}
    merits = {}
    for key, name in SETS.items():
        found[EXPONENT[key]] = numbers.exponent(rows, key)
        found[CURVE_RATIO[key]] = numbers.foretold(rows, key)
        found[GAIN[key]] = numbers.lost(rows, key, "net", "infinite")
        merits[f"{name}: error of the finite kernel less that of its net"] = numbers.lost(rows, key, "finite", "net")
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Test errors in percent for each data set, arm, width and number of images, and what was chosen."""
    import pandas

    lines = []
    for (dataset, arm, width), some in numbers.arms(rows).groupby(["dataset", "arm", "width"], sort=False):
        for n, error in numbers.errors(some).items():
            mine = some[some.n == n]
            line = {"data": dataset, "arm": arm, "m": width or "∞", "n": n, "seeds": len(mine)}
            line |= cells("test error", error)
            if arm == NET:
                line |= {"rate": middle(mine.rate), "steps": middle(mine.steps)}
            else:
                line["ridge"] = mine.ridge.median()
            if arm == TUNED:
                line |= {
                    "depth": mine.depth.median(),
                    "filtered": mine.window.gt(1).mean(),
                    "unit norm": mine.unit.mean(),
                }
            lines.append(line)
    return pandas.DataFrame(lines)
