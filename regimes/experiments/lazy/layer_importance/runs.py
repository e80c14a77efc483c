"""All scales and seeds of one activation as one ensemble of deep nets on digits; then one layer at a time goes back.

Net: h = m^-1/2 × a dense net in the NTK parametrisation (σ_w as in SPREAD, no biases), so that α = 1 is the mean-field
scaling and α = √m the NTK's. Inputs: 8 × 8 digits with ‖x‖ = 8; targets: one for each class. Trained as α (h − h(w_0))
by gradient descent on R/α², first step `step`·m, each net until its loss has fallen to `loss_ratio`.
Effects are measured on other digits: Δ_l = f − f(layer l back at its initial weights).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from regimes.activations import activation
from regimes.conventions import generator
from regimes.data import images
from regimes.errors import RunFailed
from regimes.experiments.lazy.layer_importance.config import Config
from regimes.models.mlp import MLP
from regimes.streams import Data, LazyNet

SPREAD = {"tanh": 1.5, "relu": 2**0.5}
GROWTH = 1.05
Weights = dict[str, Tensor]


class Nets(NamedTuple):
    """An ensemble α (h − h(w_0)): the architecture, initial and present weights by layer, one scale a run."""

    architecture: MLP
    first: Weights
    last: Weights
    alpha: Float[Tensor, " runs"]

    def outputs(self, weights: Weights, x: Float[Tensor, "runs n d"]) -> Float[Tensor, "runs n k"]:
        """f at some weights."""
        factor = self.alpha[:, None, None] / self.architecture.weights[-1].shape[1] ** 0.5
        plain = vmap(lambda own, each: functional_call(self.architecture, own, (each,)))
        with torch.no_grad():
            start = plain(self.first, x)
        return factor * (plain(weights, x) - start)


class Digits(NamedTuple):
    """Training and test digits of each run."""

    x: Float[Tensor, "runs n d"]
    y: Float[Tensor, "runs n k"]
    x_test: Float[Tensor, "runs m d"]
    y_test: Float[Tensor, "runs m k"]


def nets(config: Config, name: str, seeds: list[int], alpha: Float[Tensor, " runs"]) -> Nets:
    """One stream of weights a seed."""
    sizes = (64, *[config.width] * config.hidden, 10)
    drawn = [
        MLP(sizes, activation=activation(name), generator=generator(seed, LazyNet.WEIGHTS), sigma_w=SPREAD[name])
        for seed in seeds
    ]
    first = {key: value.detach() for key, value in stack_module_state(drawn)[0].items()}
    return Nets(drawn[0], first, {key: value.clone() for key, value in first.items()}, alpha)


def digits(config: Config, seeds: list[int]) -> Digits:
    """Balanced in the mean; of unit norm times 8, the root of the dimension."""
    source, parts = images.digits(), []
    for seed in seeds:
        data = images.split(source, config.samples, config.test_samples, generator=generator(seed, Data.DRAW))
        parts.append((8 * data.x_train, data.y_train, 8 * data.x_test, data.y_test))
    return Digits(*map(torch.stack, zip(*parts, strict=True)))


def trained(config: Config, start: Nets, data: Digits) -> tuple[Nets, Float[Tensor, " runs"]]:
    """The nets at the end, and the share of the training loss that is left.

    A step that raises the loss of a net is taken back and halved for this net; after others its step grows by GROWTH.
    """
    whole = data.y.square().sum(-1).mean(-1) / 2
    rate = torch.full_like(whole, config.step * config.width)
    kept, trial = start.last, start.last
    slopes = {key: torch.zeros_like(value) for key, value in kept.items()}
    left = torch.full_like(whole, torch.inf)
    for iteration in range(config.iterations + 1):
        leaves = {key: value.detach().requires_grad_() for key, value in trial.items()}
        losses = (start.outputs(leaves, data.x) - data.y).square().sum(-1).mean(-1) / 2
        found = torch.autograd.grad((losses / start.alpha.square()).sum(), list(leaves.values()))
        better = losses.detach() / whole < left
        taken = better[:, None, None]
        kept = {key: torch.where(taken, value, kept[key]) for key, value in trial.items()}
        slopes = {key: torch.where(taken, slope, slopes[key]) for key, slope in zip(kept, found, strict=True)}
        left = torch.where(better, losses.detach() / whole, left)
        rate = torch.where(better, GROWTH * rate, rate / 2) if iteration else rate
        going = left > config.loss_ratio
        if not bool(going.any()):
            break
        trial = {key: kept[key] - (rate * going)[:, None, None] * slope for key, slope in slopes.items()}
    return start._replace(last=kept), left


def effects(
    of: Nets, x: Float[Tensor, "runs n d"]
) -> tuple[Float[Tensor, "runs n k"], Float[Tensor, "layers runs n k"]]:
    """f, and f − f(layer l as at the start) for each layer."""
    f = of.outputs(of.last, x)
    return f, torch.stack([f - of.outputs(of.last | {key: of.first[key]}, x) for key in of.last])


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: how far its effects are from additive, on how many layers they rest, what accuracy each costs."""
    seeds = [config.first_seed + point["seed"] for point in points]
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    data = digits(config, seeds)
    ends, left = trained(config, nets(config, points[0]["activation"], seeds, alpha), data)
    if not bool((left <= config.loss_ratio).all()):
        raise RunFailed(
            f"after {config.iterations} iterations a net has {float(left.max()):.3g} of its loss left; take more"
        )
    f, parts = effects(ends, data.x_test)

    def right(outputs: Tensor) -> Tensor:
        return (outputs.argmax(-1) == data.y_test.argmax(-1)).double().mean(-1)

    size = norm(f)
    energy = norm(parts).square()
    drops = right(f) - right(f - parts)
    columns = {
        "gap": norm(parts.sum(0) - f) / size,
        "effective": energy.sum(0).square() / energy.square().sum(0),
        "largest_drop": drops.amax(0),
        "first_over_others": drops[0] - drops[1:].amax(0),
        "accuracy": right(f),
        "left": left,
    }
    for layer in range(len(parts)):
        columns |= {f"drop_{layer + 1}": drops[layer], f"effect_{layer + 1}": energy[layer].sqrt() / size}
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]


def norm(values: Float[Tensor, "*runs n k"]) -> Float[Tensor, "*runs"]:
    """Root of the sum of squares over samples and outputs."""
    return values.square().sum((-2, -1)).sqrt()
