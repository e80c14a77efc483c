"""Trained nets with blocks deleted: one at a time, and along random orders."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.conventions import generator
from regimes.data.classification import classification
from regimes.experiments.mean_field.deleted_blocks.config import Config
from regimes.experiments.mean_field.deleted_blocks.nets import Net, cross_entropy, drawn, errors, logits, train
from regimes.streams import DeepFlow


def numbers_deleted(layers: int) -> list[int]:
    """How many blocks are deleted together: 1 to 4, then about √2 times more each, and all."""
    found = {1, 2, 3, 4, layers}
    size = 4.0
    while size < layers:
        found.add(round(size))
        size *= 2**0.5
    return sorted(many for many in found if many <= layers)


def measure(config: Config, points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A row for each net and number of deleted blocks: means over the random orders, 0 for the whole net.

    change: root mean square over samples, classes and orders of f_S − f, f the logits less their mean over classes;
    departure: that of f_S − f − Σ_{i∈S} (f_i − f), with f_i for block i deleted alone.
    """
    kind, layers, seeds = points[0]["net"], points[0]["layers"], [point["seed"] for point in points]
    data = [classification("digits", train_size=config.train, test_size=config.test, seed=seed) for seed in seeds]
    x, x_test = (
        torch.stack([each.normalise(getattr(each, part).x).flatten(1) for each in data]) for part in ("train", "test")
    )
    labels, labels_test = (torch.stack([getattr(each, part).labels for each in data]) for part in ("train", "test"))
    net = drawn(config, kind, layers, x.shape[2], data[0].classes, seeds)
    net = train(config, net, x, labels, seeds)
    some = x[:, : config.test], labels[:, : config.test]  # training samples on which risks are measured
    with torch.no_grad():
        single = _centred(logits(net, x_test, 1 - torch.eye(layers).expand(len(seeds), -1, -1)))
        whole = _centred(logits(net, x_test))
        ranks = torch.stack(
            [
                torch.stack([torch.randperm(layers, generator=stream) for _ in range(config.draws)])
                for stream in (generator(seed, DeepFlow.BLOCKS, layers) for seed in seeds)
            ]
        )
        columns = {
            many: _deleted(net, some, (x_test, labels_test), (ranks >= many).float(), whole, single)
            for many in [0, *numbers_deleted(layers)]
        }
    return [
        [
            {"deleted": many} | {name: float(values[run]) for name, values in found.items()}
            for many, found in columns.items()
        ]
        for run in range(len(seeds))
    ]


def _deleted(
    net: Net,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    masks: Float[Tensor, "runs sets L"],
    whole: Tensor,
    single: Tensor,
) -> dict[str, Float[Tensor, " runs"]]:
    if bool((masks == 1).all()):
        masks = masks[:, :1]
    outputs = logits(net, test[0], masks)
    change = _centred(outputs) - whole
    departure = change - torch.einsum("rsl,rlnk->rsnk", 1 - masks, single - whole)
    return {
        "test_error": errors(outputs, test[1]).mean(1),
        "train_risk": cross_entropy(logits(net, train[0], masks), train[1]).mean(1),
        "train_error": errors(logits(net, train[0], masks), train[1]).mean(1),
        "change": change.square().mean((1, 2, 3)).sqrt(),
        "departure": departure.square().mean((1, 2, 3)).sqrt(),
    }


def _centred(outputs: Tensor) -> Tensor:
    return outputs - outputs.mean(3, keepdim=True)
