"""Many small nets of one shape, trained at once: one launch serves all weights and seeds of a problem."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from regimes.experiments.least_action.least_action_is_ot.problems import Problem
from regimes.training.objectives import divided
from regimes.transport.energy import sum_over_features, transport_cost


class Trained(NamedTuple):
    """Weights of the trained nets, one state a run, and their last multipliers λ."""

    states: list[dict[str, Tensor]]
    multiplier: Float[Tensor, " runs"]


def train_together(
    posed: Sequence[Problem],
    multiplier: Float[Tensor, " runs"],
    growth: Float[Tensor, " runs"],
    *,
    steps: int,
    rate: float,
    every: int = 5,
) -> Trained:
    """Full-batch Adam with a cosine schedule on risk + transport/λ of each run; λ = ∞ is the risk alone.

    Every `every` steps λ ← λ + growth·risk, before the loss is formed: run by run what `descend` does with
    `LeastAction`. Adam sees each entry by itself, so the sum of the runs' losses trains each as if it were alone.
    """
    parameters, _ = stack_module_state([one.model for one in posed])  # type: ignore[arg-type]
    x, labels = (torch.stack(part) for part in zip(*(one.train for one in posed), strict=True))
    target = tuple(torch.stack(part) for part in zip(*(one.target for one in posed), strict=True))
    frame, risk = posed[0].model, posed[0].risk

    def loss(weights: dict[str, Tensor], points: Tensor, classes: Tensor, to: tuple[Tensor, ...]) -> tuple:
        trace = functional_call(frame, weights, (points,), {"trace": True})
        return risk(trace.output, classes, *to), transport_cost(trace.flat_steps, convention=sum_over_features)

    optimizer = torch.optim.Adam(parameters.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        risks, transport = vmap(loss)(parameters, x, labels, target)
        if step % every == 0:
            multiplier = multiplier + growth * risks.detach()
        optimizer.zero_grad(set_to_none=True)
        divided(risks, transport, multiplier).sum().backward()
        optimizer.step()
        schedule.step()
    states = [{name: value[run].detach().clone() for name, value in parameters.items()} for run in range(len(posed))]
    return Trained(states, multiplier)
