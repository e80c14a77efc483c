"""Training of the small transformers, and their test loss on the way."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from regimes.conventions import generator
from regimes.data import images
from regimes.experiments.least_action.ot_transformer.config import ARMS, LOOKS, Config
from regimes.experiments.least_action.ot_transformer.nets import Params, multiply_adds, outputs, weights
from regimes.streams import Sequences


def samples(config: Config, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images of a seed as rows in [0, 1], and their labels; disjoint, drawn uniformly."""
    held = images.digits()
    x = torch.cat([held.x_train, held.x_test]).float().view(-1, 8, 8) / 16
    labels = torch.cat([held.labels_train, held.labels_test])
    order = torch.randperm(len(x), generator=generator(seed, Sequences.DATA))
    first, second = order[: config.train], order[config.train : config.train + config.test]
    return x[first], labels[first], x[second], labels[second]


def losses(found: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each seed."""
    each = cross_entropy(found.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(1)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a seed of an arm: test loss at each look, and what the net ends with."""
    arm, seeds = ARMS[points[0]["arm"]], [config.first_seed + point["seed"] for point in points]
    x, labels, x_test, labels_test = (
        torch.stack(part) for part in zip(*(samples(config, seed) for seed in seeds), strict=True)
    )
    params = weights(config, arm, [generator(seed, Sequences.WEIGHTS) for seed in seeds])
    orders = [generator(seed, Sequences.BATCHES) for seed in seeds]
    matrices = [value for value in params.values() if value.ndim == 3]
    norms = [value for value in params.values() if value.ndim != 3]
    groups = [{"params": matrices, "weight_decay": config.decay}, {"params": norms, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99), fused=True)
    rows: list[dict[str, float]] = [{"multiply_adds": float(multiply_adds(config, arm))} for _ in seeds]
    tested: dict[str, Tensor] = {}
    for look in range(1, LOOKS + 1):
        for _ in range(config.spacing):
            chosen = torch.stack([torch.randperm(config.train, generator=one)[: config.batch] for one in orders])
            each = torch.arange(len(seeds)).unsqueeze(1)
            found, transport = outputs(config, arm, params, x[each, chosen])
            value = losses(found, labels[each, chosen]) + arm.weight * transport
            optimiser.zero_grad(set_to_none=True)
            value.sum().backward()
            optimiser.step()
        tested = ends(config, arm, params, x_test, labels_test)
        for row, loss in zip(rows, tested["loss"], strict=True):
            row[f"test_{look}"] = float(loss)
    trained = ends(config, arm, params, x, labels)
    for number, row in enumerate(rows):
        row |= {"accuracy": float(tested["accuracy"][number]), "transport": float(tested["transport"][number])}
        row |= {"train_loss": float(trained["loss"][number])}
    return rows


@torch.no_grad()
def ends(config: Config, arm: Any, params: Params, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Loss, accuracy and transport of each seed on its samples."""
    found, transport = outputs(config, arm, params, x)
    right = (found.argmax(-1) == labels).double().mean(1)
    return {"loss": losses(found, labels), "accuracy": right, "transport": transport}
