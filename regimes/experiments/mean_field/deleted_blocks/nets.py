"""Small residual and plain classifiers, a whole ensemble of seeds in one tensor, with blocks that can be deleted.

State z_0 = A x, then for blocks l = 1..L with a mask g_l = 1, or 0 where the block is deleted:
    residual  z ← z + g_l s U_l tanh(V_l z + c_l),   s = 1/L or 1/√L;
    plain     z ← tanh(V_l z + c_l), or z itself where the layer is deleted;
logits B z_L + b. Weights start from N(0, 1/inputs), biases at 0; V_l of a plain net is a random orthogonal matrix,
with which tanh nets of this depth train.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from regimes.conventions import generator
from regimes.experiments.mean_field.deleted_blocks.config import MEAN_FIELD, PLAIN, Config
from regimes.streams import DeepFlow


class Net(NamedTuple):
    """Stacked weights of all seeds; `factor` is s, or None for a plain net (whose `output` has no part in it)."""

    encoder: Float[Tensor, "runs inputs width"]
    input: Float[Tensor, "runs L width hidden"]
    bias: Float[Tensor, "runs L hidden"]
    output: Float[Tensor, "runs L hidden width"]
    head: Float[Tensor, "runs width k"]
    offset: Float[Tensor, "runs k"]
    factor: float | None

    @property
    def weights(self) -> list[Tensor]:
        """All that is trained."""
        return list(self[:-1])


def drawn(config: Config, kind: str, layers: int, inputs: int, classes: int, seeds: Sequence[int]) -> Net:
    """Nets before training, one a seed."""
    plain = kind == PLAIN
    hidden = config.width if plain else config.hidden
    shapes = (
        (inputs, config.width),
        (layers, config.width, hidden),
        (layers, hidden, config.width),
        (config.width, classes),
    )
    parts = []
    for seed in seeds:
        stream = generator(seed, DeepFlow.WEIGHTS, layers)
        parts.append([torch.randn(*shape, generator=stream) / math.sqrt(shape[-2]) for shape in shapes])
    encoder, input, output, head = (torch.stack(part) for part in zip(*parts, strict=True))
    if plain:
        input = torch.linalg.qr(input)[0]
    factor = None if plain else 1 / layers if kind == MEAN_FIELD else 1 / math.sqrt(layers)
    return Net(encoder, input, input.new_zeros((*input.shape[:2], hidden)), output, head, head[:, 0] * 0, factor)


def logits(
    net: Net, x: Float[Tensor, "runs n inputs"], masks: Float[Tensor, "runs sets L"] | None = None
) -> Float[Tensor, "runs sets n k"]:
    """Outputs with the blocks of each set of masks; without masks one set, all blocks."""
    runs, layers = net.bias.shape[:2]
    masks = x.new_ones(runs, 1, layers) if masks is None else masks
    sets, samples = masks.shape[1], x.shape[1]
    state = (x @ net.encoder).repeat(1, sets, 1)
    for layer in range(layers):
        kept = masks[:, :, layer].repeat_interleave(samples, 1)[..., None]
        hidden = torch.tanh(torch.baddbmm(net.bias[:, layer, None], state, net.input[:, layer]))
        if net.factor is None:
            state = torch.where(kept > 0, hidden, state)
        else:
            state = state + kept * net.factor * (hidden @ net.output[:, layer])
    return torch.baddbmm(net.offset[:, None], state, net.head).unflatten(1, (sets, samples))


def cross_entropy(outputs: Float[Tensor, "runs sets n k"], labels: Int[Tensor, "runs n"]) -> Float[Tensor, "runs sets"]:
    """Mean over samples."""
    truth = labels[:, None, :, None].expand(*outputs.shape[:3], 1)
    return -functional.log_softmax(outputs, 3).gather(3, truth)[..., 0].mean(2)


def errors(outputs: Float[Tensor, "runs sets n k"], labels: Int[Tensor, "runs n"]) -> Float[Tensor, "runs sets"]:
    """Misclassified samples, in percent."""
    return 100 * (outputs.argmax(3) != labels[:, None]).float().mean(2)


def train(
    config: Config, net: Net, x: Float[Tensor, "runs n inputs"], labels: Int[Tensor, "runs n"], seeds: Sequence[int]
) -> Net:
    """The nets after Adam on the cross-entropy, as if each were alone; every seed has batches of its own."""
    weights = [weight.clone().requires_grad_() for weight in net.weights]
    trained = _net(weights, net.factor)
    steps = -(-x.shape[1] // config.batch)
    optimiser = torch.optim.Adam([weight for weight in weights if weight.numel()], lr=config.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * steps)
    streams = [generator(seed, DeepFlow.ORDER) for seed in seeds]
    rows = torch.arange(len(seeds))[:, None]
    for _ in range(config.epochs):
        order = torch.stack([torch.randperm(x.shape[1], generator=stream) for stream in streams])
        for chosen in order.split(config.batch, 1):
            optimiser.zero_grad(set_to_none=True)
            part = labels[rows, chosen]
            cross_entropy(logits(trained, x[rows, chosen]), part).sum().backward()
            optimiser.step()
            schedule.step()
    return _net([weight.detach() for weight in weights], net.factor)


def _net(weights: list[Tensor], factor: float | None) -> Net:
    encoder, input, bias, output, head, offset = weights
    return Net(encoder, input, bias, output, head, offset, factor)
