"""Three nets of one size: contractive steps, plain residual blocks, and deel-torchlip's orthogonal layers.

The plain net has residual blocks z + W₂ relu(W₁ z + b₁) + b₂ with half as many hidden units as the contractive steps
have, so that a block has as many weights, and ordinary linear layers in place of normed ones. deel-torchlip's is dense:
a layer with orthonormal rows for each step, each followed by sorted pairs, then rows of length 1; its weights are
certified by the bounds of `norm_bounds`. What attacks leave is an upper bound of what a perfect one would.
"""

from math import prod
from typing import Any, cast

from torch import nn

from regimes.errors import UserError
from regimes.experiments.control.contractive_robustness.config import CONTRACTIVE, DEEL, Task
from regimes.models.blocks import dense
from regimes.models.contractive import PairSort, contractive_net
from regimes.models.residual import Block, ResidualNet, Segment


def build(net: str, task: Task, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A net with torch's or the library's initial weights."""
    sizes: dict[str, Any] = {
        "blocks": task.blocks,
        "filters": task.filters,
        "unshuffle": task.unshuffle,
        "dense_blocks": task.dense_blocks,
        "width": task.width,
        "hidden": task.hidden,
        "scale": 1.0,
    }
    contractive = contractive_net(shape, classes, layers=task.layers, **sizes)
    if net == CONTRACTIVE:
        return contractive
    if net == DEEL:
        return _deel(task, shape, classes)
    last = nn.Linear(task.width, classes)

    def steps(number: int) -> list[Block]:
        return [Block(dense(task.width, task.hidden // 2)) for _ in range(number)]

    if task.layers == "dense":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), task.width))
        return ResidualNet(encoder, [Segment(steps(task.blocks))], last)
    channels, *places = cast(Any, contractive.encoder)[-1].shape  # of the states
    blocks = [Block(_convolutions(channels, channels // 2)) for _ in range(task.blocks)]
    first = nn.Linear(channels * prod(places), task.width)
    head = nn.Sequential(nn.Flatten(), first, *steps(task.dense_blocks), last)
    return ResidualNet(contractive.encoder, [Segment(blocks)], head)


def _convolutions(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 3, padding=1)
    )


def need(library: str) -> Any:
    """A library of the extra `robustness`; UserError says how to get it."""
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise UserError(
            f"contractive_robustness needs {library} for this: install the extra `robustness`, "
            "pip install 'regimes[robustness]', or leave the net deel and the attacks out"
        ) from None


def _deel(task: Task, shape: tuple[int, ...], classes: int) -> nn.Module:
    torchlip = need("deel.torchlip")
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = prod(shape)
    for _ in range(1 + task.blocks + (task.dense_blocks if task.layers == "convolutional" else 0)):
        layers += [torchlip.SpectralLinear(inputs, task.width), PairSort()]
        inputs = task.width
    return nn.Sequential(*layers, torchlip.FrobeniusLinear(inputs, classes))


def fixed(net: nn.Module) -> nn.Module:
    """The net in eval mode, deel-torchlip's layers as the linear maps that they are, which `lipschitz_bound` knows."""
    if isinstance(net, nn.Sequential):
        layers: list[Any] = list(net.eval())
        layers = [layer.vanilla_export() if hasattr(layer, "vanilla_export") else layer for layer in layers]
        return nn.Sequential(*layers).eval()
    return net.eval()
