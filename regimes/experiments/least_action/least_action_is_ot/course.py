"""The runs: one training a problem, weight and seed, dense nets of a problem together."""

import math
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field

from regimes.data.batches import Batches
from regimes.experiments.least_action.least_action_is_ot.ensemble import train_together
from regimes.experiments.least_action.least_action_is_ot.problems import CLASSIFIED, IMAGES, KNOWN, Problem, problem
from regimes.experiments.least_action.least_action_is_ot.quality import path_rows, quality
from regimes.lab.config import Settings
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Objective, Plain
from regimes.transport.energy import sum_over_features


class Config(Settings):
    """Sizes; weights need 0 and one more. configs/least_action_is_ot.yaml is the real one (with `mnist`)."""

    problem: tuple[Literal["plane", "space", "line", "crossing", "circles", "digits", "mnist"], ...] = Field(
        (*KNOWN, "circles", "digits"), description="problems: four with a known minimiser, circles, and images"
    )
    weight: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.0, 0.3, 3.0), description="weights w of the action in units of the risk; 0 is the risk alone"
    )
    seeds: int = Field(2, ge=1, description="number of seeds: clouds, images and initial weights")
    samples: int = Field(64, ge=32, description="training points of each cloud")
    fresh: int = Field(100, ge=20, description="points or test images on which the map is measured")
    probed: int = Field(32, ge=2, description="points at which the Jacobian is probed")
    blocks: int = Field(3, ge=1, description="residual blocks of the dense nets")
    hidden: int = Field(16, ge=1, description="neurons of each block of the dense nets")
    gain: float = Field(0.5, gt=0, description="gain of the Kaiming weights of the dense nets")
    steps: int = Field(60, ge=1, description="steps of full-batch Adam of the dense nets")
    rate: float = Field(0.005, gt=0, description="learning rate of the dense nets, a cosine to 0")
    images: int = Field(60, ge=20, description="training images")
    filters: int = Field(2, ge=2, description="filters of each convolution of the nets on images")
    epochs: int = Field(2, ge=1, description="epochs on images")
    batch: int = Field(32, ge=2, description="images a batch")
    image_rate: float = Field(0.003, gt=0, description="learning rate on images, a cosine to 0")
    growth: float = Field(
        1.0, ge=0, description="method of multipliers: every 5 steps 1/w grows by growth times the risk"
    )
    drawn: int = Field(1, ge=0, description="seeds whose paths in the plane are kept for the figure")


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
