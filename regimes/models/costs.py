"""What one pass of a network costs, counted from its shapes: multiply-adds, flops, bytes of its states."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regimes.models.residual import Trace, as_trace
from regimes.modules import copied
from regimes.modules.modes import eval_mode

EVALUATION_BATCH, BUDGET = 128, 2**29  # samples, and bytes of states and activations
ALIVE = 3  # largest activations that live at a time besides the states: input and output of a layer, and a shortcut


@torch.no_grad()
def typical_work(model: nn.Module, x: Tensor, samples: float | int) -> float:
    """Multiply-adds of a typical layer on `samples` inputs like x, of which the first is shown to the model.

    Σ w²/Σ w over its layers with weight matrices or filters: the size of the product to which a multiply-add of the
    forward pass belongs on average. 0 for a model without such layers.
    """
    sizes: list[float] = []

    def note(module: nn.Module, given: Any, output: Any) -> None:
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return  # a lookup
        if isinstance(weight, Tensor) and weight.ndim > 1 and isinstance(output, Tensor):
            transposed = getattr(module, "transposed", False)
            places = given[0].numel() if transposed else output.numel()
            sizes.append(weight.numel() * places / weight.shape[0])  # every filter, at every place

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with eval_mode(model):
            model(x[:1].clone())  # as it may write to its input
    finally:
        for hook in hooks:
            hook.remove()
    return samples * sum(size**2 for size in sizes) / max(sum(sizes), 1.0)


def evaluation_batch(model: nn.Module, sample: Tensor, *, budget: int = BUDGET) -> int:
    """Samples a batch: as many as fit into `budget` bytes with states, steps and activations, EVALUATION_BATCH at most.

    Counted from the shapes of one forward pass of `sample`, a batch of one, in eval mode: the same on every machine.
    """
    with eval_mode(model), torch.no_grad(), _largest_output(model) as largest:
        trace = as_trace(model(sample.clone(), trace=True))  # as it may write to its input
    states = sum(_bytes(state) for state in _distinct(trace)) + _bytes(trace.output)
    return max(1, min(EVALUATION_BATCH, int(budget // max(1, states + ALIVE * largest[0]))))


def training_flops(model: nn.Module, samples: Sequence[int] | Tensor) -> float:
    """Flops a sample of the network's matrix products and convolutions, forward and backward; 2 a multiply-add.

    samples: the shape of one, or a batch. The transport cost, norms and the optimiser have no products and count
    nothing; so batch norms stand in eval mode, where they ask no other process.
    """
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward}
    twin = copied(model).eval()
    device = next(twin.parameters()).device
    x = samples if isinstance(samples, Tensor) else torch.zeros(2, *samples, device=device)
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        as_trace(twin(x)).output.sum().backward()
    return counter.get_total_flops() / len(x)


def _convolution_backward(
    grad: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    mask: Sequence[bool],
    out_shape: Any = None,
) -> int:
    """As many flops as forward for each of the two gradients asked for; torch's own count is too high with groups."""
    places = x if transposed else grad
    forward = 2 * torch.Size((places[0], *places[2:])).numel() * torch.Size(weight).numel()
    return forward * (int(mask[0]) + int(mask[1]))


@contextmanager
def _largest_output(model: nn.Module) -> Iterator[list[int]]:
    """Bytes of the largest output of a layer, as long as the context lasts."""
    largest = [0]

    def look(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            largest[0] = max(largest[0], _bytes(output))

    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    hooks = [module.register_forward_hook(look) for module in leaves]
    try:
        yield largest
    finally:
        for hook in hooks:
            hook.remove()


def _distinct(trace: Trace) -> list[Tensor]:
    states = [state for path in (*trace.paths, *trace.steps) for state in path]
    return list({id(state): state for state in states}.values())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
