"""Small residual nets of the plane, trained side by side on risk + transport/λ under a fixed score of the height."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from regimes.conventions import generator
from regimes.errors import Diverged
from regimes.lab.config import Settings
from regimes.models.image_nets import dense_net
from regimes.models.initialise import initialise, kaiming
from regimes.models.residual import ResidualNet
from regimes.streams import KnownMap
from regimes.transport.energy import sum_over_features, transport_cost

Objective = Callable[[Tensor, Tensor], Tensor]  # (heights, signs) of each run → its risk


class AtMultiplier(Settings):
    """Of nets that are trained at one multiplier: points, size, λ and the way of training."""

    samples: int = Field(16, ge=4, description="points of a cloud")
    blocks: int = Field(3, ge=1, description="residual blocks")
    hidden: int = Field(8, ge=1, description="neurons of each block")
    multiplier: float = Field(5.0, gt=0, description="λ, fixed")
    steps: int = Field(60, ge=1, description="steps of full-batch Adam")
    rate: float = Field(0.01, gt=0, description="learning rate, a cosine to 0")


class Course(NamedTuple):
    """Of nets trained together: T of their points, risks and transport L Σ‖v‖² at the end, and λ at each look."""

    ends: Float[Tensor, "runs n 2"]
    risk: Float[Tensor, " runs"]
    transport: Float[Tensor, " runs"]
    multiplier: Float[Tensor, "looks runs"]


def net(seed: int, *, blocks: int, hidden: int, gain: float = 0.5) -> ResidualNet:
    """Dense blocks of the plane with Kaiming weights, no head: the output is T(x)."""
    made = dense_net((2,), 1, blocks=blocks, hidden=hidden, head=False).double()
    initialise(made, kaiming, gain, generator=generator(seed, KnownMap.WEIGHTS))
    return made


def descent(
    parameters: Mapping[str, Tensor], objective: Callable[[], Tensor], *, steps: int, rate: float
) -> Iterator[int]:
    """Full-batch Adam on the objective, with a cosine schedule to 0: the number of each step, from 1, after it.

    Diverged: the parameters of a net are no longer finite.
    """
    optimizer = torch.optim.Adam(parameters.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        objective().backward()
        optimizer.step()
        schedule.step()
        yield step
    for one in parameters.values():
        refuse_diverged(one, rate)


def refuse_diverged(values: Tensor, rate: float) -> None:
    """Diverged: weights or states of a net are not finite, or so large that their squares are not."""
    if not bool(values.square().isfinite().all()):
        raise Diverged(
            f"a net has diverged at the rate {rate:g}: its numbers are no longer finite; take a smaller rate"
        )


def train(
    nets: Sequence[ResidualNet],
    x: Float[Tensor, "runs n 2"],
    signs: Float[Tensor, "runs n"],
    risk: Callable[[Tensor], Tensor],
    score: Callable[..., Tensor],
    multiplier: Float[Tensor, " runs"],
    *,
    steps: int,
    rate: float,
    growth: float = 0.0,
    warm: int = 0,
    looks: Sequence[int] = (),
) -> Course:
    """Full-batch Adam with a cosine schedule on the mean risk of s·f(y) plus L Σ_k ‖v_k‖²/λ; λ = ∞ is the risk alone.

    After `warm` steps at the first λ, λ ← λ + growth·risk after each step. looks: steps after these, after
    which λ is kept.
    """
    parameters, _ = stack_module_state(list(nets))  # type: ignore[arg-type]
    frame, blocks = nets[0], len(nets[0].segment(0).blocks)

    def forward(weights: dict[str, Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
        trace = functional_call(frame, weights, (points,), {"trace": True})
        return trace.output, blocks * transport_cost(trace.flat_steps, convention=sum_over_features)

    kept: list[Tensor] = []

    def measured() -> tuple[Tensor, Tensor, Tensor]:
        ends, transport = vmap(forward)(parameters, x)
        return ends, risk(signs * score(ends[..., 1])).mean(1), transport

    before = torch.zeros_like(multiplier)  # the risks before a step

    def objective() -> Tensor:
        nonlocal before
        _, risks, transport = measured()
        before = risks.detach()
        return (risks + transport / multiplier).sum()

    for number in descent(parameters, objective, steps=steps, rate=rate):
        step = number - warm
        if step > 0:
            multiplier = multiplier + growth * before
        if step in looks:
            kept.append(multiplier)
    with torch.no_grad():
        ends, risks, transport = measured()
    course: Any = torch.stack(kept) if kept else multiplier[None]
    return Course(ends, risks, transport, course)
