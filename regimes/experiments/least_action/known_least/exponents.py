"""Nets that pay for their motion by ‖v‖^p and know the image of a cloud alone, and what their maps are worth."""

from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from regimes.conventions import generator
from regimes.experiments.least_action.known_least.nets import descent, net, refuse_diverged
from regimes.lab.config import Settings
from regimes.streams import KnownMap
from regimes.transport.brenier import brenier_test
from regimes.transport.energy import sum_over_features, transport_cost
from regimes.transport.pairing import exact_gap

Exponent = Annotated[float, Field(gt=1, le=4)]


class Config(Settings):
    """Exponents, weights, clouds and training; configs/exponent_p.yaml is the real size."""

    p: tuple[Exponent, ...] = Field((1.5, 2.0, 3.0), min_length=2, description="exponents p of the cost ‖v‖^p")
    weight: tuple[Annotated[float, Field(ge=0)], ...] = Field((0.0, 0.3), description="weights w of the action")
    seeds: int = Field(2, ge=1, description="clouds, targets and initial weights")
    samples: int = Field(32, ge=8, description="training points")
    fresh: int = Field(60, ge=8, description="points on which maps are tested")
    blocks: int = Field(3, ge=1, description="residual blocks")
    hidden: int = Field(8, ge=1, description="neurons of each block")
    gain: float = Field(0.5, gt=0, description="gain of the Kaiming weights")
    steps: int = Field(60, ge=1, description="steps of full-batch Adam")
    rate: float = Field(0.01, gt=0, description="learning rate, a cosine to 0")


def moments(x: Float[Tensor, "n 2"]) -> tuple[Tensor, Tensor]:
    """Mean and covariance, the latter with the factor 1/n."""
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def problem(config: Config, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training points, fresh points, and mean and covariance of the target.

    α has deviations 1 and 0.5 along the axes; ν has ‖m‖ = 1 and deviations 0.5 and 2 along axes turned by 45°.
    """
    scale = torch.tensor([1.0, 0.5], dtype=torch.float64)
    streams = (generator(seed, KnownMap.DATA), generator(seed, KnownMap.FRESH))
    sizes = (config.samples, config.fresh)
    train, fresh = (
        scale * torch.randn(n, 2, generator=stream, dtype=torch.float64)
        for n, stream in zip(sizes, streams, strict=True)
    )
    mean = torch.randn(2, generator=streams[1], dtype=torch.float64)
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / 2**0.5
    return train, fresh, mean / mean.norm(), turn @ torch.diag(torch.tensor([0.25, 4.0]).double()) @ turn.T


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: risk and action, its gap at its own p, and the asymmetry at each p."""
    p, blocks = points[0]["p"], config.blocks
    posed = [problem(config, point["seed"]) for point in points]
    x, fresh, mean, covariance = (torch.stack(part) for part in zip(*posed, strict=True))
    weight = torch.tensor([point["weight"] for point in points], dtype=torch.float64)
    shape = {"blocks": blocks, "hidden": config.hidden, "gain": config.gain}
    nets = [net(point["seed"], **shape) for point in points]
    parameters, _ = stack_module_state(list(nets))  # type: ignore[arg-type]

    def loss(weights: dict[str, Tensor], own: Tensor, m: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        trace = functional_call(nets[0], weights, (own,), {"trace": True})
        found = moments(trace.output)
        risk = (found[0] - m).square().sum() + (found[1] - c).square().sum()
        return risk, blocks ** (p - 1) * transport_cost(trace.flat_steps, p=p, convention=sum_over_features)

    risk = action = torch.zeros_like(weight)

    def objective() -> Tensor:
        nonlocal risk, action
        risk, action = vmap(loss)(parameters, x, mean, covariance)
        return (risk + weight * action).sum()

    for _ in descent(parameters, objective, steps=config.steps, rate=config.rate):
        pass
    rows = []
    for run, one in enumerate(nets):
        one.load_state_dict({name: value[run].detach() for name, value in parameters.items()})
        refuse_diverged(one.segment(0).transport(fresh[run]), config.rate)
        row = {"risk": float(risk[run].detach()), "action": float(action[run].detach())}
        rows.append(row | quality(config, one, fresh[run], p, points[run]["seed"]))
    return rows


def quality(config: Config, one: Any, fresh: Tensor, p: float, seed: int) -> dict[str, float]:
    """Relative gap at p on fresh points, the mean cost there, and the asymmetry at all p."""
    transport = one.segment(0).transport
    with torch.no_grad():
        gap = exact_gap(fresh, transport(fresh), p=p)
    tests = {
        other: brenier_test(
            transport, fresh, p=other, generator=generator(seed, KnownMap.PROBES), eigen_points=1
        ).asymmetry
        for other in config.p
    }
    others = [value for other, value in tests.items() if other != p]
    return {
        "gap": max(gap.relative_low, 0.0),
        "map_cost": gap.cost_network,
        "asymmetry": tests[p],
        "others": sum(others) / len(others),
        "certified": float(gap.certified),
    }
