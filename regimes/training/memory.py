"""How many samples a network measures at a time, so that the states of their paths fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from regimes.data.batches import Batches
from regimes.models.residual import Trace, as_trace
from regimes.training.modes import eval_mode

EVALUATION_BATCH, BUDGET = 128, 2**29  # samples, and bytes of states and activations
ALIVE = 3  # largest activations that live at a time besides the states: input and output of a layer, and a shortcut


def evaluation_batch(model: nn.Module, sample: Tensor, *, budget: int = BUDGET) -> int:
    """Samples a batch: as many as fit into `budget` bytes with states, steps and activations, EVALUATION_BATCH at most.

    Counted from the shapes of one forward pass of `sample`, a batch of one, in eval mode: the same on every machine.
    """
    with eval_mode(model), torch.no_grad(), _largest_output(model) as largest:
        trace = as_trace(model(sample, trace=True))
    states = sum(_bytes(state) for state in _distinct(trace)) + _bytes(trace.output)
    return max(1, min(EVALUATION_BATCH, int(budget // max(1, states + ALIVE * largest[0]))))


def evaluation_batches(model: nn.Module, batches: Batches) -> Batches:
    """The same samples in stored order, without augmentation, in batches that fit into memory."""
    first = batches.data.x[:1]
    sample = first if batches.normalise is None else batches.normalise(first)
    return Batches(batches.data, evaluation_batch(model, sample), normalise=batches.normalise, shuffle=False)


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
