"""Forward-backward sweeps beside back-propagation with SGD, at an equal budget of passes through the network.

ResNets of the plane, Euler steps of z' = tanh(K z + b), with a fixed output w·z and the logistic loss, from the same
weights N(0, 1) on the same samples. One unit of the budget is a pass forward and one backward of all samples through
all layers: a trial of a sweep costs one for each ascent, refused trials included, and an epoch of SGD costs one. Sweeps
have no rate to choose; SGD is told with the best rate of a grid, chosen after the fact by the loss it ends with, and
with the whole range over the grid. Losses are those of all training samples after the budget.

Run: python -m benchmarks.sweeps [--short]
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from regimes.control.layers import Layers, Params
from regimes.control.sweeps import forward_backward_sweeps
from regimes.control.tableau import EULER
from regimes.conventions import generator
from regimes.data.plane import PLANE
from regimes.streams import Plane

RATES = (0.3, 1.0, 3.0, 10.0, 30.0)
ASCENTS = (1, 2, 4)
HEAD = 5.0  # both output weights


def field(time: float, z: Tensor, params: Params) -> Tensor:
    """tanh(K z + b)."""
    return torch.tanh(z @ params["K"].T + params["b"])


def problem(dataset: str, seed: int, samples: int, depth: int) -> tuple[Layers, Tensor, Tensor]:
    """Layers at their start, inputs, and labels −1 or 1."""
    x, labels = PLANE[dataset](samples, generator=generator(seed, Plane.DATA))
    draw = generator(seed, Plane.WEIGHTS)
    kernels = torch.randn(depth, 2, 2, generator=draw, dtype=torch.float64)
    params = [{"K": kernel, "b": torch.zeros(2, dtype=torch.float64)} for kernel in kernels]
    return Layers(field, params, EULER), x, 2 * labels.double() - 1


def loss(end: Tensor, labels: Tensor) -> Tensor:
    """Mean of log(1 + exp(−y w·z))."""
    return softplus(-labels * HEAD * end.sum(1)).mean()


def swept(dataset: str, seed: int, samples: int, depth: int, budget: int, ascents: int) -> float:
    """The loss of sweeps that have used no more than the budget."""
    layers, x, labels = problem(dataset, seed, samples, depth)
    value = float("nan")
    for now in forward_backward_sweeps(layers, x, lambda end: loss(end, labels), ascents=ascents):
        if now.backward > budget:
            break
        value = now.cost
    return value


def by_sgd(dataset: str, seed: int, samples: int, depth: int, budget: int, rate: float, batch: int) -> float:
    """The loss after as many epochs of plain SGD, samples in a new order each."""
    layers, x, labels = problem(dataset, seed, samples, depth)
    layers = layers._replace(
        params=[{name: p.clone().requires_grad_() for name, p in one.items()} for one in layers.params]
    )
    optimiser = torch.optim.SGD([p for one in layers.params for p in one.values()], lr=rate)
    draw = generator(seed, Plane.FRESH)
    for _ in range(budget):
        for chosen in torch.randperm(samples, generator=draw).split(batch):
            optimiser.zero_grad()
            loss(layers.end(x[chosen]), labels[chosen]).backward()
            optimiser.step()
    with torch.no_grad():
        return float(loss(layers.end(x), labels))


def compare(
    dataset: str, seeds: Sequence[int], *, samples: int, depth: int, budget: int, batch: int
) -> dict[str, list[float]]:
    """The loss of each seed by each way."""
    size = (samples, depth, budget)
    found = {
        f"sweeps, {ascents} ascents": [swept(dataset, seed, *size, ascents) for seed in seeds] for ascents in ASCENTS
    }
    return found | {
        f"SGD, rate {rate:g}": [by_sgd(dataset, seed, *size, rate, batch) for seed in seeds] for rate in RATES
    }


def main() -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="seconds: smaller sizes, no numbers to quote")
    short = parser.parse_args().short
    torch.set_num_threads(1)
    seeds = range(1 if short else 5)
    for dataset in ("donut2d", "spiral2d"):
        size = {"samples": 60, "depth": 4, "budget": 10} if short else {"samples": 500, "depth": 10, "budget": 200}
        found = compare(dataset, seeds, batch=20 if short else 100, **size)
        print(f"{dataset}, {size['budget']} passes, losses of {len(seeds)} seeds")
        for way, losses in found.items():
            print(f"  {way:<18} {' '.join(f'{each:.4f}' for each in losses)}   mean {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main()
