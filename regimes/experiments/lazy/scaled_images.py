"""Centred nets of several output scales on labelled images, all trained to the same loss: two statements share them.

The task is the parity of a handwritten digit, ±1. The net is α (h(w) − h(w_0)), where h is m^{−1/2} times a net in the
NTK parametrisation with two hidden layers of m smooth units: α = 1 is the mean-field scale, α = √m the NTK scale. It is
trained by full-batch gradient descent on R(αh)/α², R the half mean square, until R has fallen to a given share.
The step is at most `STEP` over the largest eigenvalue of Θ_0/n; it is halved where the loss would rise, and grows back.
"""

from copy import deepcopy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from regimes.activations import GELU
from regimes.conventions import generator
from regimes.data.classification import Labelled, classification
from regimes.experiments.lazy.scaled_settings import SHUFFLED, Config
from regimes.models.mlp import MLP
from regimes.streams import ScaledImages
from regimes.tangent.kernel import ntk

STEP = 0.5  # largest step, in units of 1/λ
GROWTH = 1.05  # of a step that was halved


class Task(NamedTuple):
    """Training and held-out images of one seed, their parities, and the net at its start."""

    x: Float[Tensor, "n d"]
    y: Float[Tensor, "n 1"]
    x_held: Float[Tensor, "n1 d"]
    y_held: Float[Tensor, "n1 1"]
    net: MLP

    def shuffled(self, seed: int) -> "Task":
        """The same with the training labels in random order."""
        return self._replace(y=self.y[torch.randperm(len(self.y), generator=generator(seed, ScaledImages.SHUFFLE))])

    @property
    def points(self) -> Float[Tensor, "all d"]:
        """Training images, then held-out ones."""
        return torch.cat([self.x, self.x_held])

    def kernel(self, weights: dict[str, Tensor] | None = None) -> Float[Tensor, "all all"]:
        """Tangent kernel of h on all points, at the start or at other weights."""
        net = self.net
        if weights is not None:
            net = deepcopy(net)
            net.load_state_dict(weights)
        return ntk(net, self.points, outputs="trace") / net.weights[0].shape[0]

    def outputs(self, weights: dict[str, Tensor], alpha: float) -> Float[Tensor, "all 1"]:
        """α (h(w) − h(w_0)) on all points."""
        with torch.no_grad():
            end = functional_call(self.net, weights, (self.points,))
            return alpha * (end - self.net(self.points)) / self.net.weights[0].shape[0] ** 0.5


def task(dataset: str, n: int, held: int, width: int, seed: int, data_dir: Any = None) -> Task:
    """Samples and start of one seed."""
    found = classification(dataset, train_size=n, test_size=held, seed=seed, data_dir=data_dir).to(dtype=torch.float64)

    def part(some: Labelled) -> tuple[Tensor, Tensor]:
        return found.normalise(some.x).flatten(1), (1.0 - 2.0 * (some.labels % 2).double())[:, None]

    (x, y), (x_held, y_held) = part(found.train), part(found.test)
    draw = generator(seed, ScaledImages.WEIGHTS)
    return Task(x, y, x_held, y_held, MLP((x.shape[1], width, width, 1), activation=GELU, generator=draw))


class Trained(NamedTuple):
    """Weights at the end, R at the end over R at the start, and the steps taken."""

    weights: dict[str, Tensor]
    ratio: float
    steps: int


class _State(NamedTuple):
    """Of the runs that still go on: weights, slopes and loss at these, and the step."""

    weights: dict[str, Tensor]
    slopes: dict[str, Tensor]
    loss: Tensor
    rate: Tensor

    def where(self, chosen: Tensor, other: "_State") -> "_State":
        """This state for the chosen runs, another one for the rest."""

        def mixed(one: dict[str, Tensor], two: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: torch.where(_like(chosen, value), value, two[name]) for name, value in one.items()}

        return _State(
            mixed(self.weights, other.weights),
            mixed(self.slopes, other.slopes),
            torch.where(chosen, self.loss, other.loss),
            torch.where(chosen, self.rate, other.rate),
        )

    def of(self, chosen: Tensor) -> "_State":
        """The chosen runs alone."""
        weights, slopes = (
            {name: value[chosen] for name, value in part.items()} for part in (self.weights, self.slopes)
        )
        return _State(weights, slopes, self.loss[chosen], self.rate[chosen])


def _like(values: Tensor, other: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (other.ndim - 1))


def trained(tasks: list[Task], alphas: list[float], *, ratio: float, steps: int) -> list[Trained]:
    """Descent of all runs, a task and a scale each, until R has fallen to the share `ratio`, or for so many steps."""
    net, width = tasks[0].net, tasks[0].net.weights[0].shape[0]
    owners = {id(one.net): one for one in tasks}
    largest = {key: STEP / _top(one) for key, one in owners.items()}
    most = torch.tensor([largest[id(one.net)] for one in tasks], dtype=torch.float64)
    alpha = torch.tensor(alphas, dtype=torch.float64)
    x, y = (torch.stack([getattr(one, part) for one in tasks]) for part in ("x", "y"))

    def raw(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return vmap(lambda own, rows: functional_call(net, own, (rows,)))(weights, x) / width**0.5

    stacked = {name: value.detach() for name, value in stack_module_state([one.net for one in tasks])[0].items()}
    start = raw(stacked, x)

    def state(weights: dict[str, Tensor], rate: Tensor) -> _State:
        weights = {name: value.detach().requires_grad_() for name, value in weights.items()}
        loss = (_like(alpha, x) * (raw(weights, x) - start) - y).square().mean((1, 2)) / 2
        slopes = torch.autograd.grad(loss.sum(), list(weights.values()))
        weights = {name: value.detach() for name, value in weights.items()}
        return _State(weights, dict(zip(weights, slopes, strict=True)), loss.detach(), rate)

    now = state(stacked, most)
    first, numbers = now.loss, torch.arange(len(tasks))
    ends: dict[int, Trained] = {}
    for step in range(steps + 1):
        share = now.loss / first
        over = (share <= ratio) | (torch.full_like(share, step) == steps)
        for place in over.nonzero()[:, 0].tolist():
            own = {name: value[place].clone() for name, value in now.weights.items()}
            ends[int(numbers[place])] = Trained(own, float(share[place]), step)
        if bool(over.any()):
            x, y, start, alpha, most, first, numbers = (
                part[~over] for part in (x, y, start, alpha, most, first, numbers)
            )
            now = now.of(~over)
        if not len(numbers):
            break
        moved = {
            name: value - _like(now.rate / alpha**2, value) * now.slopes[name] for name, value in now.weights.items()
        }
        new = state(moved, torch.minimum(GROWTH * now.rate, most))
        now = new.where(new.loss <= now.loss, now._replace(rate=now.rate / 2))
    return [ends[number] for number in range(len(tasks))]


def _top(one: Task) -> float:
    """The largest eigenvalue of the kernel of h on the training images over n, on which stable steps depend."""
    n = len(one.x)
    return float(torch.linalg.eigvalsh(one.kernel()[:n, :n])[-1]) / n


class Run(NamedTuple):
    """One run: its task with true labels, the kernel at the start on all points, and the end of its training."""

    task: Task
    start: Float[Tensor, "all all"]
    end: Trained


def runs(config: Config, points: list[dict[str, Any]]) -> list[Run]:
    """All scales, labels and seeds trained as one ensemble; the nets and images of a seed are the same in all."""
    seeds = dict.fromkeys(point["seed"] for point in points)
    tasks = {
        seed: task(config.dataset, config.samples, config.held_out, config.width, seed, config.data_dir)
        for seed in seeds
    }
    starts = {seed: one.kernel() for seed, one in tasks.items()}
    given = []
    for point in points:
        one = tasks[point["seed"]]
        given.append(one.shuffled(point["seed"]) if point["labels"] == SHUFFLED else one)
    ends = trained(given, [point["alpha"] for point in points], ratio=config.ratio, steps=config.steps)
    return [Run(tasks[point["seed"]], starts[point["seed"]], end) for point, end in zip(points, ends, strict=True)]
