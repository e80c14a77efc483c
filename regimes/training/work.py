"""The size of a network's products, from which the threads of its training follow."""

from typing import Any

import torch
from torch import Tensor, nn

from regimes.data.batches import Batches


def training_work(model: nn.Module, batches: Batches) -> float:
    """`typical_work` of one batch of a training."""
    x = batches.data.x[:1]
    samples = min(batches.size, len(batches.data.labels))
    return typical_work(model, x if batches.normalise is None else batches.normalise(x), samples)


@torch.no_grad()
def typical_work(model: nn.Module, x: Tensor, samples: float | int) -> float:
    """Multiply-adds of a typical layer on `samples` inputs like x, of which the first is shown to the model.

    Σ w²/Σ w over its layers with weight matrices or filters: the size of the product to which a multiply-add of the
    forward pass belongs on average. 0 for a model without such layers.
    """
    sizes: list[float] = []

    def note(module: nn.Module, given: Any, output: Any) -> None:
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1 and isinstance(output, Tensor):
            sizes.append(weight.numel() * output.numel() / weight.shape[0])  # every filter, at every place

    modes = [(module, module.training) for module in model.modules()]
    hooks = [module.register_forward_hook(note) for module, _ in modes]
    try:
        model.eval()(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return samples * sum(size**2 for size in sizes) / max(sum(sizes), 1.0)
