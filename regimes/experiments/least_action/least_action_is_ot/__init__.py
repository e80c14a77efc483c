"""Does a residual net that pays for its motion become an optimal-transport map?

Minimised: risk + w·A/V. A = L Σ_k E‖v_k‖² is the action of the L blocks in unit time (`LeastAction` with λ = V/(wL), no
growth), V = E‖x − Ex‖² the variance of the cloud α that T moves, so w has no unit; w = 0 is the risk alone.

Why T should be optimal. A ≥ E‖T(x) − x‖², equal if and only if all paths are straight and evenly paced. If the risk
knows T♯α only, put the optimal map from α to T♯α, on straight and even paths, in place of T: the risk is the same and
A falls to W₂²(α, T♯α), so at a minimiser with any w > 0 it was there already: gap 0, whatever w.
With labels this holds CLASS BY CLASS and no further. A classifier's risk knows the law of the pairs (T(x), label), not
T♯α: images may be exchanged among points of one class, but exchanged between classes they carry wrong labels. So T is
optimal within each class, and over the whole cloud it may be far from that: classes that have to cross pay for it
(problem `crossing`, whose whole-cloud gap at the minimiser is known and large). Read as a statement on the whole
cloud, the claim holds for risks without labels only. Both gaps are measured; `gap` is the one within classes.

Problems with a known minimiser: the risk is the squared distance W₂²(T♯α, ν)/V to a target law ν, so with any w > 0
    T_w = (1 − t) id + t T_ν,   t = 1/(1 + w),   least value w/(1 + w) · W₂²(α, ν)/V,
a point of the geodesic from α to ν with T_ν the optimal map to ν; classes have their own ν. Exact on the training
cloud, as risk and T_ν are built from that very cloud.
* `plane`, `space`: Gaussian to Gaussian in d = 2 and 8, Bures distance of mean and covariance, T_ν the Bures map;
* `line`: d = 1, N(0, 1) to its image under x + tanh 2x, two humps; distance by sorting;
* `crossing`: two blobs in the plane, each a class with its own Gaussian target, in positions that have crossed.
Problems without one: `circles` (T in the plane, learned linear head), and one of `digits`, `mnist`: ResNet9 with few
filters and batch norm, its encoder FROZEN at the random start and φ scaled to unit variance a feature, so that α is the
same cloud at every weight; T in eval mode, on test images. There, beside the fixed weights, the method of multipliers
from the largest weight on: λ grows by growth·risk every 5 steps.
All nets of a seed start from the same Kaiming weights, whatever w: gain 1 for images; 0.5 for dense nets, which then
move points by about a deviation of the cloud. (Gain 1 moves them ten times as far; in `plane`, on other seeds, Adam was
then far from the known least value after 1,500 steps, at gain 0.5 within 1 % of it after 800. That, and no gap, chose
gain, rate and steps; how far each run stays above the least value is measured.) Full-batch Adam (images: batches),
cosine schedule.

A minimiser is not what descent must find. Linear maps on Gaussians have reversed stationary points, T with a
negative direction, as long as w < (deviation of ν)/(deviation of α) there. Ratios here are at most 2 (line: slope at
most 3), the largest weight of the real size is 3: the predictions on known problems speak of that weight.

Predictions, made before any run of the real size. ε = 10 % counts as the relative error of a trained net's
displacement: distance to T_w at most ε; gap, excess action and crookedness of the paths are of second order in an
error, at most ε² = 0.01. No floor from sampling: an optimal map's pairing is optimal on any finite set of its points.
The Jacobian of a piecewise linear net is not bounded by errors of its values; the asymmetry of T − id (0 for a
gradient, 1 for unstructured matrices; unlike that of T it does not fall as T nears the identity) at most ε, a third of
a Jacobian in norm. Where T has little room between points, gap 0 says nothing: `gap_null` is the gap of the same
displacements dealt to other points of the class. A run whose net of weight 0 has a gap of at most ε² already (a first
look at another seed of `line` found 0) has nothing to lower: it is left out of the ratios and orders of gaps, not of
the rest.
Source: [Karkar2020].
"""

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field

from regimes.data.batches import Batches
from regimes.experiments.least_action.least_action_is_ot.ensemble import train_together
from regimes.experiments.least_action.least_action_is_ot.figure import draw
from regimes.experiments.least_action.least_action_is_ot.problems import CLASSIFIED, IMAGES, KNOWN, Problem, problem
from regimes.experiments.least_action.least_action_is_ot.quality import path_rows, quality
from regimes.experiments.least_action.least_action_is_ot.trends import UNKNOWN, gap_ratio, order, usable, with_first_gap
from regimes.lab.config import Settings
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.lab.statistics import Mean, mean_interval
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Objective, Plain
from regimes.transport.energy import sum_over_features

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["BATCHED", "GRID", "STATEMENT", "Config", "draw", "judge", "measure", "table"]

ERROR = 0.1  # relative error of a trained displacement
GAP = "relative gap within classes at the largest weight, worst known problem"
RATIO = "that gap over the one at weight 0, worst known problem"
DISTANCE = "‖T − T_w‖ / ‖T_w − id‖ at the largest weight, worst known problem"
STRAIGHTNESS = "straightness of the paths at the largest weight, worst known problem"
EXCESS = "action / cost of the map − 1 at the largest weight, worst known problem"
ASYMMETRY = "asymmetry of T − id at the largest weight, worse of plane and space"
ORDER = "Spearman correlation of weight and gap, worst known problem"
CROSSED = "crossing: gap over the whole cloud, largest weight where the true one is above 1/2"
CROSSED_OFF = "crossing: that gap minus the one of T_w"
CIRCLES = "circles: Spearman correlation of weight and gap"
CIRCLES_RATIO = "circles: gap at the largest weight that keeps the accuracy, over the one at weight 0"
CIRCLES_MULTIPLIER = "circles: gap by the method of multipliers over the one at weight 0"
IMAGES_ORDER = "images: Spearman correlation of weight and asymmetry of T − id"
IMAGES_GAP = "images: relative gap at the largest weight that keeps the accuracy"

STATEMENT = Statement(
    claim="A net that minimises transport cost and risk is an optimal-transport map along straight evenly paced paths: "
    "within each class, and over the whole cloud if the risk does not know labels.",
    source="[Karkar2020] section 3, with the classes told apart",
    predictions=(
        Prediction(GAP, Interval.at_most(ERROR**2), "derived"),
        Prediction(RATIO, Interval.at_most(0.1), "chosen"),
        Prediction(DISTANCE, Interval.at_most(ERROR), "chosen"),
        Prediction(STRAIGHTNESS, Interval.at_least(1 - ERROR**2), "derived"),
        Prediction(EXCESS, Interval.at_most(ERROR**2), "derived"),
        Prediction(ASYMMETRY, Interval.at_most(ERROR), "chosen"),
        Prediction(ORDER, Interval.at_most(-0.5), "chosen"),
        Prediction(CROSSED, Interval.at_least(0.5), "derived"),
        Prediction(CROSSED_OFF, Interval.around(0.0, 0.05), "derived"),
        Prediction(CIRCLES, Interval.at_most(-0.5), "chosen"),
        Prediction(CIRCLES_RATIO, Interval.at_most(0.1), "chosen"),
        Prediction(CIRCLES_MULTIPLIER, Interval.at_most(0.1), "chosen"),
        Prediction(IMAGES_ORDER, Interval.at_most(-0.5), "chosen"),
        Prediction(IMAGES_GAP, Interval.at_most(ERROR**2), "derived"),
    ),
)
GRID = ("problem", "weight", "seed")
BATCHED = ("weight", "seed")


class Config(Settings):
    """Sizes; weights need 0 and one more. configs/least_action_is_ot.yaml is the real one (with `mnist`)."""

    problem: tuple[Literal["plane", "space", "line", "crossing", "circles", "digits", "mnist"], ...] = (
        *KNOWN,
        "circles",
        "digits",
    )
    weight: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.3, 3.0)
    seeds: int = Field(2, ge=1)
    samples: int = Field(64, ge=32)
    fresh: int = Field(100, ge=20)
    probed: int = Field(32, ge=2)
    blocks: int = Field(3, ge=1)
    hidden: int = Field(16, ge=1)
    gain: float = Field(0.5, gt=0)  # of the dense nets
    steps: int = Field(60, ge=1)
    rate: float = Field(0.005, gt=0)
    images: int = Field(60, ge=20)
    filters: int = Field(2, ge=2)
    epochs: int = Field(2, ge=1)
    batch: int = Field(32, ge=2)
    image_rate: float = Field(0.003, gt=0)
    growth: float = Field(1.0, ge=0)
    drawn: int = Field(1, ge=0)  # seeds whose paths in the plane are kept for the figure


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """One row of kind `end` a run; the multiplier's run beside the largest weight; paths of the plane."""
    runs = [
        Run(problem(point["problem"], config, point["seed"]), point["weight"], growth, point["seed"], index)
        for index, point in enumerate(points)
        for growth in ((0.0, config.growth) if _largest(config, point) and point["problem"] in CLASSIFIED else (0.0,))
    ]
    rows: list[list[dict[str, Any]]] = [[] for _ in points]
    for run, final in zip(runs, _train(config, runs), strict=True):
        rows[run.point].append(
            {
                "kind": "end",
                "scheme": "multiplier" if run.growth else "fixed",
                "final_weight": final,
                **quality(run.posed, final, config.probed, run.seed),
            }
        )
        shown = run.weight == 0 or _largest(config, points[run.point])
        if run.posed.name == "plane" and run.seed < config.drawn and shown:
            rows[run.point] += path_rows(run.posed)
    return rows


class Run(NamedTuple):
    """One training: its problem, weight, growth of 1/w in units of the risk, seed, and place among the points."""

    posed: Problem
    weight: float
    growth: float
    seed: int
    point: int

    @property
    def unit(self) -> float:
        """The multiplier λ of weight 1: V/L."""
        return self.posed.variance / len(self.posed.model.segment(0).blocks)


def _largest(config: Config, point: dict[str, Any]) -> bool:
    return point["weight"] == max(config.weight)


def _train(config: Config, runs: list[Run]) -> list[float]:
    """Train the nets of one problem in place, dense ones together; the weights that the penalty had at the end."""
    if runs[0].posed.name in IMAGES:
        finals = [train_images(config, run) for run in runs]
    else:
        start, growth = (
            torch.tensor(values, dtype=torch.float64)
            for values in (
                [run.unit / run.weight if run.weight else math.inf for run in runs],
                [r.growth * r.unit for r in runs],
            )
        )
        trained = train_together([run.posed for run in runs], start, growth, steps=config.steps, rate=config.rate)
        for run, state in zip(runs, trained.states, strict=True):
            run.posed.model.load_state_dict(state)
        finals = [run.unit / float(value) for run, value in zip(runs, trained.multiplier, strict=True)]
    for run in runs:
        run.posed.model.eval()
    return [final if run.growth else run.weight for run, final in zip(runs, finals, strict=True)]


def train_images(config: Config, run: Run) -> float:
    """Adam with a cosine schedule on shuffled batches; returns the last weight."""
    model, aim = run.posed.model, objective(run)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.image_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    batches = Batches(run.posed.train, config.batch, seed=run.seed)
    for _ in descend(Training(model, aim, optimizer, schedule), batches, epochs=config.epochs):
        pass
    return run.unit / float(aim.multiplier) if isinstance(aim, LeastAction) else 0.0


def objective(run: Run) -> Objective:
    """Risk + w·A/V, or the risk alone; with growth the multiplier 1/w grows by growth·risk every 5 steps."""
    if run.weight == 0:
        return Plain(run.posed.value)
    start, growth = run.unit / run.weight, run.growth * run.unit
    return LeastAction(run.posed.value, multiplier=start, growth=growth, every=5, convention=sum_over_features)


def judge(rows: "DataFrame") -> Judgement:
    """Student intervals over the seeds at the weights the predictions speak of; the worst problem by its mean."""
    ends = with_first_gap(rows[rows.kind == "end"])
    fixed, told = ends[ends.scheme == "fixed"], ends[ends.first_gap > ERROR**2]
    top = {name: some[some.weight == some.weight.max()] for name, some in fixed.groupby("problem")}

    def worst(found: list[Mean], sign: float = 1.0) -> Interval:
        known = [mean for mean in found if not math.isnan(mean.value)]
        return max(known, key=lambda mean: sign * mean.value, default=UNKNOWN).interval

    crossing = fixed[fixed.problem == "crossing"]
    true = crossing.groupby("weight").gap_whole_true.mean()
    crossed = crossing[crossing.weight == true[true > 0.5].index.max()]
    images = fixed[fixed.problem.isin(IMAGES)]
    circles = fixed[fixed.problem == "circles"]
    multiplied = told[(told.problem == "circles") & (told.scheme == "multiplier")]
    lowered = {name: told[(told.problem == name) & (told.scheme == "fixed")] for name in (*KNOWN, "circles")}
    measured = {
        GAP: worst([mean_interval(top[name].gap) for name in KNOWN]),
        RATIO: worst([gap_ratio(lowered[name], top[name].weight.max()) for name in KNOWN]),
        DISTANCE: worst([mean_interval(top[name].distance) for name in KNOWN]),
        STRAIGHTNESS: worst([mean_interval(top[name].straightness) for name in KNOWN], -1.0),
        EXCESS: worst([mean_interval(top[name].excess_action) for name in KNOWN]),
        ASYMMETRY: worst([mean_interval(top[name].displacement_asymmetry) for name in ("plane", "space")]),
        ORDER: worst([order(lowered[name], "gap") for name in KNOWN]),
        CROSSED: mean_interval(crossed.gap_whole).interval,
        CROSSED_OFF: mean_interval(crossed.gap_whole - crossed.gap_whole_true).interval,
        CIRCLES: order(lowered["circles"], "gap").interval,
        CIRCLES_RATIO: gap_ratio(lowered["circles"], usable(circles).weight.max()).interval,
        CIRCLES_MULTIPLIER: gap_ratio(multiplied, ends.weight.max()).interval,
        IMAGES_ORDER: order(images, "displacement_asymmetry").interval,
        IMAGES_GAP: mean_interval(usable(images).gap).interval,
    }
    merits = {
        "runs": float(len(ends)),
        "runs whose gaps are certified": float(ends.certified.sum()),
        "seeds with a gap above ε² at weight 0": float((told.weight == 0).sum()),
        "largest excess of a known problem's objective over its minimum, largest weight": float(
            max(top[name].excess_objective.max() for name in KNOWN)
        ),
        "crossing: whole-cloud gap of T_w there": float(crossed.gap_whole_true.mean()),
        "circles: largest weight that keeps the accuracy": float(usable(circles).weight.max()),
        "images: largest weight that keeps the accuracy": float(usable(images).weight.max()),
        "images: gap of dealt-out displacements there": float(usable(images).gap_null.mean()),
    }
    return STATEMENT.judge(measured, merits=merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Means over the seeds, a line a problem, scheme and weight."""
    ends: Any = rows[rows.kind == "end"]
    columns = {
        "train_risk": "risk",
        "accuracy": "accuracy",
        "transport": "transport Σ‖v‖²",
        "action": "action",
        "map_cost": "cost of the map",
        "straightness": "straightness",
        "gap": "gap in classes",
        "gap_whole": "gap, whole cloud",
        "gap_null": "gap, dealt out",
        "asymmetry": "asymmetry of T",
        "displacement_asymmetry": "of T − id",
        "distance": "distance to T_w",
        "excess_objective": "objective / least value − 1",
    }
    groups = ends.groupby(["problem", "scheme", "weight"], sort=False)
    return groups[list(columns)].mean().rename(columns=columns).reset_index()
