"""Risk, accuracy and transport cost of a network on a set of samples, in eval mode."""

from contextlib import AbstractContextManager, nullcontext
from math import nan
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regimes.data.batches import Batches
from regimes.models.residual import as_trace
from regimes.training.loop import right_answers
from regimes.training.modes import eval_mode
from regimes.training.objectives import Risk
from regimes.training.parallel import ALONE, Alone
from regimes.transport.energy import Convention, block_costs, sum_over_features


class Evaluation(NamedTuple):
    """Mean risk, share of right classes, transport cost of each block and their sum, number of samples.

    A network without residual blocks has no transport cost: None. Where targets are no class labels, accuracy is NaN.
    """

    risk: float
    accuracy: float
    blocks: Float[Tensor, " blocks"]
    transport: float | None
    samples: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    risk: Risk = cross_entropy,
    *,
    p: float = 2.0,
    convention: Convention = sum_over_features,
    autocast: AbstractContextManager[Any] | None = None,
    ranks: Alone = ALONE,
) -> Evaluation:
    """Means over all samples of `batches`, however they are cut; the model's modes are restored.

    With several processes `batches` are the part of this one, and the means are over the samples of all.

    Block costs are Σ_k ‖v_k‖^p as `convention` counts them, means over samples. One host synchronisation, at the end.
    """
    context = nullcontext() if autocast is None else autocast
    sums: Tensor | None = None
    count = 0
    with eval_mode(model):
        for x, labels in batches.epoch(0):
            with context:
                trace = as_trace(model(x, trace=True))
                value = risk(trace.output, labels)
            steps = trace.flat_steps
            costs = block_costs(steps, p=p, convention=convention) if steps else value.new_zeros(0)
            right = right_answers(trace.output, labels)
            share = value.new_full((), nan) if right is None else right.double().mean()
            figures = torch.cat([torch.stack([value.double(), share.double()]), costs.double()]) * len(labels)
            sums = figures if sums is None else sums + figures
            count += len(labels)
    assert sums is not None  # Batches refuses to be empty
    joined = ranks.total(torch.cat([sums, sums.new_full((1,), count)])).cpu()
    means, count = joined[:-1] / joined[-1], int(joined[-1])
    blocks = means[2:]
    return Evaluation(float(means[0]), float(means[1]), blocks, float(blocks.sum()) if len(blocks) else None, count)
