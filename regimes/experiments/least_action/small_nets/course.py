"""Nets of one arm trained side by side, and their weights after the protocol's steps and at equal risk."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.conventions import generator
from regimes.data.classification import classification
from regimes.experiments.least_action.small_nets.settings import LAP, VANILLA, SmallNets
from regimes.models.image_nets import dense_net
from regimes.models.initialise import LAWS, initialise
from regimes.models.residual import ResidualNet
from regimes.streams import SmallNet
from regimes.training.ensemble import Ensemble, Memberwise
from regimes.training.objectives import LeastAction, Plain
from regimes.transport.energy import sum_over_features

Weights = dict[str, Tensor]


class Samples(NamedTuple):
    """Normalised images and labels, those of each net along the first axis."""

    x: Float[Tensor, "nets n *feature"]
    labels: Int[Tensor, "nets n"]


class Stage(NamedTuple):
    """Nets at some moment of their training: weights, steps until then, whether they came there, and their λ."""

    weights: Weights
    steps: Int[Tensor, " nets"]
    reached: Tensor
    multiplier: Float[Tensor, " nets"]


class Course(NamedTuple):
    """Nets trained side by side, their images, and where they stood after the protocol's steps and at equal risk."""

    nets: Ensemble
    train: Samples
    test: Samples
    protocol: Stage
    equal: Stage


class Start(NamedTuple):
    """What sets a net apart from others: its seed, and the law and gain of its initial weights."""

    seed: int
    gain: float
    law: str = "kaiming"


def samples(config: SmallNets, train_size: int, seeds: Sequence[int]) -> tuple[Samples, Samples]:
    """Training and test images of each seed."""
    found = [
        classification(config.dataset, train_size=train_size, test_size=config.test_size, seed=seed) for seed in seeds
    ]
    parts = [
        Samples(
            torch.stack([one.normalise(getattr(one, part).x) for one in found]),
            torch.stack([getattr(one, part).labels for one in found]),
        )
        for part in ("train", "test")
    ]
    return parts[0], parts[1]


def fresh(config: SmallNets, shape: tuple[int, ...], classes: int, width: int, start: Start) -> ResidualNet:
    """Linear φ to `width` features, dense blocks there, linear F; the weights of a seed are the same for all arms."""
    made = dense_net(shape, classes, blocks=config.blocks, width=width)
    return initialise(made, LAWS[start.law], start.gain, generator=generator(start.seed, SmallNet.WEIGHTS))  # type: ignore[return-value]


def objective(config: SmallNets, arm: str) -> Plain | LeastAction:
    """The risk; or λ·risk + Σ_k ‖v_k‖², norm summed over features; or, with the same rule for λ, λ·risk alone."""
    if arm == VANILLA:
        return Plain()
    return LeastAction(
        multiplier=config.multiplier,
        growth=config.growth,
        every=config.every,
        convention=sum_over_features,
        form="multiplied" if arm == LAP else "risk_only",
    )


def course(config: SmallNets, arm: str, train_size: int, width: int, starts: Sequence[Start]) -> Course:
    """Train the nets of these starts by one arm, each on the images of its seed."""
    train, test = samples(config, train_size, [start.seed for start in starts])
    shape = tuple(train.x.shape[2:])
    nets = Ensemble([fresh(config, shape, 10, width, start) for start in starts])
    return Course(nets, train, test, *descend(config, nets, train, Memberwise(objective(config, arm))))


def descend(config: SmallNets, nets: Ensemble, train: Samples, objective: Memberwise) -> tuple[Stage, Stage]:
    """SGD on the whole training set: the nets after `steps` steps, and each at its first risk of at most equal_risk.

    A net that is not there after most_steps is as it is then, and has not reached it.
    """
    optimizer = torch.optim.SGD(nets.parameters(), config.rate, config.momentum, weight_decay=config.decay)
    reached, protocol = torch.zeros(nets.size, dtype=torch.bool), None
    equal = Stage({}, torch.zeros(nets.size, dtype=torch.long), reached, torch.ones(nets.size))
    for step in range(max(config.steps, config.most_steps) + 1):
        last = step >= config.most_steps
        loss = objective(nets(train.x, trace=objective.traced), train.labels)
        now = Stage(
            weights_of(nets),
            torch.full_like(equal.steps, step),
            (loss.risk <= config.equal_risk) & (step <= config.most_steps),
            multipliers(objective, nets.size),
        )
        if step == config.steps:
            protocol = now._replace(reached=torch.ones_like(reached))
        equal = put(equal, now, ~equal.reached if step <= config.most_steps else torch.zeros_like(reached))
        if protocol is not None and (last or bool(equal.reached.all())):
            return protocol, equal
        optimizer.zero_grad(set_to_none=True)
        loss.value.sum().backward()
        optimizer.step()
        objective.after_step()
    raise AssertionError("a course ends by its last step")


def multipliers(objective: Memberwise, size: int) -> Tensor:
    """λ of each net; 1 where there is none."""
    inner = objective.objective
    return inner.multiplier.float().expand(size).clone() if isinstance(inner, LeastAction) else torch.ones(size)


def weights_of(nets: Ensemble) -> Weights:
    """A copy of the weights of all nets, by name."""
    return {name: value.detach().clone() for name, value in nets.state_dict().items()}


def put(kept: Stage, now: Stage, which: Tensor) -> Stage:
    """The present stage of these nets, and of the others the one that is kept."""

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (new.ndim - 1)), new, old)

    old = kept.weights or now.weights
    weights = {name: chosen(value, old[name]) for name, value in now.weights.items()}
    return Stage(weights, *(chosen(*pair) for pair in zip(now[1:], kept[1:], strict=True)))


@torch.no_grad()
def looked_at(nets: Ensemble, weights: Mapping[str, Tensor], samples: Samples) -> dict[str, Tensor]:
    """Of each net with these weights: mean risk, accuracy, Σ_k ‖v_k‖² and Σ_k ‖v_k‖²/‖z_{k−1}‖², means over samples."""
    nets.load_state_dict(weights)
    trace: Any = nets(samples.x, trace=True)
    squares = [step.square().sum(-1) for step in trace.flat_steps]
    sizes = [state.square().sum(-1) for path in trace.paths for state in path[:-1]]
    relative = [one / size.clamp(min=torch.finfo(size.dtype).tiny) for one, size in zip(squares, sizes, strict=True)]
    risk = torch.nn.functional.cross_entropy(trace.output.transpose(1, 2), samples.labels, reduction="none")
    return {
        "risk": risk.mean(1),
        "accuracy": (trace.output.argmax(-1) == samples.labels).double().mean(1),
        "transport": sum(squares).mean(1),  # type: ignore[union-attr]
        "relative": sum(relative).mean(1),  # type: ignore[union-attr]
    }


def rows_of(course: Course) -> list[dict[str, float]]:
    """One row a net: after the protocol's steps, and at equal risk with the prefix equal_."""
    columns: dict[str, Tensor] = {}
    for prefix, stage in (("", course.protocol), ("equal_", course.equal)):
        test = looked_at(course.nets, stage.weights, course.test)
        train = looked_at(course.nets, stage.weights, course.train)
        columns |= {prefix + name: value for name, value in test.items()}
        columns |= {f"{prefix}train_{name}": train[name] for name in ("risk", "accuracy")}
        columns |= {prefix + "steps": stage.steps, prefix + "multiplier": stage.multiplier}
    columns["reached"] = course.equal.reached
    return [{name: float(column[net]) for name, column in columns.items()} for net in range(course.nets.size)]
