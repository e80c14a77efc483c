"""All scales and seeds of one optimiser as one ensemble of nets, beside their tangent models under the same optimiser.

Protocol. α (h − h(w_0)), h(x) = (1/m) Σ_j a_j tanh(b_j·x), from m Gaussian neurons; n points on the unit sphere of
R^d, targets N(0, 1), fresh for each seed and the same at all scales and for all optimisers. Net and tangent model are
trained as v = α(w − w_0), each by its own copy of the optimiser, on the same batches. There is no integration, hence no
integration error; rounding is about α·1e-16 in the outputs. Gradients are those of particle flow, m ∇F_α.
Where the rate is tuned, each run is made at every rate of a grid, and the one with the lowest risk of the net, mean
over the last tenth of the steps, is kept.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import TANH
from regimes.conventions import function_norm, generator
from regimes.experiments.lazy.optimisers_and_laziness.config import Config
from regimes.experiments.lazy.optimisers_and_laziness.rules import RULES, Descent
from regimes.experiments.lazy.starts import net, on_sphere, targets
from regimes.meanfield.displacement import displaced, motion, tangent_features, unflatten_particles
from regimes.meanfield.particles import Particles
from regimes.streams import LazyNet

TUNED = "Adam, tuned rate"


def batch_weights(config: Config, seeds: list[int]) -> Float[Tensor, "runs steps n"]:
    """Weight of each sample at each step: n/batch for those in the batch, else 0."""
    drawn = [
        torch.rand(config.steps, config.samples, generator=generator(seed, LazyNet.BATCHES), dtype=torch.float64)
        for seed in seeds
    ]
    size = min(config.batch, config.samples)
    chosen = torch.stack(drawn).argsort(dim=-1).argsort(dim=-1) < size
    return chosen.double() * (config.samples / size)


def tried_rates(config: Config) -> Float[Tensor, " rates"]:
    """Rates in w, `tuned` a decade, from 1 down to a thousandth of the inverse of the largest α."""
    decades = 3 + torch.tensor(max(config.alpha)).log10().ceil().int().item()
    return 10.0 ** -(torch.arange(decades * config.tuned + 1, dtype=torch.float64) / config.tuned)


def train(
    config: Config, optimiser: str, alphas: list[float], seeds: list[int], rates: Float[Tensor, " runs"]
) -> dict[str, Float[Tensor, " runs"]]:
    """The largest distances over the steps of each run, and the share of the risk that is left."""
    rule = RULES[optimiser]
    x, y = on_sphere(config.samples, config.inputs, seeds), targets(config.samples, seeds)
    start = Particles(
        *map(torch.cat, zip(*(net("centred", config.width, config.inputs, s) for s in seeds), strict=True))
    )
    alpha = torch.tensor(alphas, dtype=torch.float64)[:, None]
    tangents = tangent_features(start, x, TANH)
    first = outputs(start, tangents)
    weights = batch_weights(config, seeds) if rule.batches else torch.ones(len(seeds), 1, 1).double()
    v, v_bar = torch.zeros_like(tangents[..., 0]), torch.zeros_like(tangents[..., 0])
    descents = [Descent(rule, alpha, rates[:, None]) for _ in range(2)]
    largest = {name: torch.zeros(len(seeds), dtype=torch.float64) for name in ("weights", "departure", "outputs")}
    features, f, f_bar = tangents, torch.zeros_like(y), torch.zeros_like(y)
    late, last = torch.zeros(len(seeds), dtype=torch.float64), max(1, config.steps // 10)
    for step in range(config.steps):
        weight = weights[:, step % weights.shape[1], :, None] / config.samples
        v = v + descents[0].step((features @ (weight * (f - y)))[..., 0])
        v_bar = v_bar + descents[1].step((tangents @ (weight * (f_bar - y)))[..., 0])
        now = displaced(start, unflatten_particles(v, config.width), alpha)
        features = tangent_features(now, x, TANH)
        f = alpha[..., None] * (outputs(now, features) - first)
        f_bar = (tangents.mT @ v_bar[..., None]) / config.width
        for name, value in {
            "weights": motion(v, config.width) / alpha[:, 0],
            "departure": motion(v - v_bar, config.width) / alpha[:, 0],
            "outputs": function_norm(f - f_bar),
        }.items():
            largest[name] = torch.maximum(largest[name], value)
        if step >= config.steps - last:
            late += (f - y).square().mean((1, 2)) / y.square().mean((1, 2)) / last
    return largest | {"risk_left": late, "rate": rates}


def outputs(particles: Particles, features: Float[Tensor, "runs weights n"]) -> Float[Tensor, "runs n 1"]:
    """h on the points of the features: their first m rows are σ(b_j·x_i)."""
    return features[:, : particles.width].mT @ particles.output / particles.width


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run; where the rate is tuned, that of its best rate."""
    optimiser = points[0]["optimiser"]
    rule, tuned = RULES[optimiser], optimiser == TUNED
    tried = tried_rates(config) if tuned else torch.ones(1, dtype=torch.float64)
    alphas = [point["alpha"] for point in points for _ in tried]
    seeds = [point["seed"] for point in points for _ in tried]
    scale = torch.tensor(alphas, dtype=torch.float64) ** -rule.power
    made = train(config, optimiser, alphas, seeds, rule.rate * tried.repeat(len(points)) * scale)
    columns = {name: values.view(len(points), -1) for name, values in made.items()}
    best = columns["risk_left"].nan_to_num(nan=torch.inf).argmin(1, keepdim=True)
    return [{name: float(values[run, best[run]]) for name, values in columns.items()} for run in range(len(points))]
