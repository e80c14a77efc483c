"""Training of the nets beside the kernels: all seeds and learning rates of one size as one ensemble.

f = h(w) − h(w_0), as its tangent model starts at zero, is trained on the half mean square by gradient descent with
momentum 0.9 on batches drawn with replacement. The rate is relative to 1/λ, with λ the largest eigenvalue of the mean
over outputs of the kernel at the start, divided by n. Rate and number of steps are chosen by the validation error.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from regimes.conventions import generator
from regimes.experiments.lazy.ntk_real_data.config import Config
from regimes.experiments.lazy.ntk_real_data.regressions import mean_kernel, start
from regimes.experiments.lazy.ntk_real_data.samples import Parts, error, prepared
from regimes.streams import RealData

MOMENTUM = 0.9
CURVATURE = 300  # training images on which λ is taken


class _Best(NamedTuple):
    """The states of all runs with their smallest validation errors, by (error, mean square error)."""

    scores: list[tuple[float, float]]
    steps: list[int]
    weights: dict[str, Tensor]


def trained(config: Config, width: int, seeds: list[int], samples: list[Parts]) -> list[dict[str, float]]:
    """One row a seed: test errors of the net with the chosen rate and number of steps."""
    x, x_held, x_test = ([prepared(some[part].x).float() for some in samples] for part in range(3))
    nets = [start(config, x[0].shape[1], width, seed).float() for seed in seeds]
    tops = []
    for net, inputs in zip(nets, x, strict=True):
        kernel = mean_kernel(net, inputs[:CURVATURE]).double()
        tops.append(float(torch.linalg.eigvalsh(kernel)[-1]) / len(kernel))
    runs = [(place, rate) for place in range(len(seeds)) for rate in config.rates]
    places = [place for place, _ in runs]
    weights, _ = stack_module_state([nets[place] for place in places])
    weights = {name: value.detach() for name, value in weights.items()}
    first = {name: value.clone() for name, value in weights.items()}
    rates = torch.tensor([rate / tops[place] for place, rate in runs])

    def outputs(at: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return vmap(lambda own, rows: functional_call(nets[0], own, (rows,)))(at, inputs)

    def centred(at: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return outputs(at, inputs) - outputs(first, inputs)

    y = [some.train.y.float() for some in samples]
    start_train = [net(inputs).detach() for net, inputs in zip(nets, x, strict=True)]
    held = torch.stack(x_held)[places]
    start_held = outputs(first, held)
    draws = [generator(seed, RealData.ORDER) for seed in seeds]
    speeds = {name: torch.zeros_like(value) for name, value in weights.items()}
    best = _Best([(float("inf"), float("inf"))] * len(runs), [0] * len(runs), first)
    for step in range(1, config.steps + 1):
        batches = [
            torch.randint(len(part), (config.batch,), generator=draw) for part, draw in zip(x, draws, strict=True)
        ]
        batch, goal = (
            torch.stack([part[rows] for part, rows in zip(whole, batches, strict=True)])[places]
            for whole in (x, [target + h for target, h in zip(y, start_train, strict=True)])
        )
        moving = {name: value.requires_grad_() for name, value in weights.items()}
        losses = (outputs(moving, batch) - goal).square().sum(-1).mean(-1) / 2
        slopes = torch.autograd.grad(losses.sum(), list(moving.values()))
        with torch.no_grad():
            for (name, value), slope in zip(moving.items(), slopes, strict=True):
                speeds[name].mul_(MOMENTUM).add_(slope)
                value -= rates.reshape(-1, *[1] * (slope.ndim - 1)) * speeds[name]
            weights = {name: value.detach() for name, value in moving.items()}
            if step % config.every == 0 or step == config.steps:
                found = outputs(weights, held) - start_held
                best = _better(best, step, weights, found, [samples[place].validation.y for place in places])
    rows = []
    with torch.no_grad():
        for place, some in enumerate(samples):
            number = min((best.scores[run], run) for run in range(len(runs)) if runs[run][0] == place)[1]
            own = {name: value[number : number + 1] for name, value in best.weights.items()}
            before = {name: value[number : number + 1] for name, value in first.items()}
            net = outputs(own, x_test[place][None])[0] - outputs(before, x_test[place][None])[0]
            rows.append(_row(net.double(), some.test.y, best, number, runs[number][1], config))
    return rows


def _better(best: _Best, step: int, weights: dict[str, Tensor], found: Tensor, held: list[Tensor]) -> _Best:
    """The best states, with those of this step where they are better; a run that diverged never is."""
    scores, steps = list(best.scores), list(best.steps)
    kept = {name: value.clone() for name, value in best.weights.items()}
    for run, (outputs, y) in enumerate(zip(found.double(), held, strict=True)):
        if not bool(outputs.isfinite().all()):
            continue
        score = (error(outputs, y), float((outputs - y).square().sum(1).mean()))
        if score < scores[run]:
            scores[run], steps[run] = score, step
            for name, value in weights.items():
                kept[name][run] = value[run]
    return _Best(scores, steps, kept)


def _row(outputs: Tensor, y: Tensor, best: _Best, run: int, rate: float, config: Config) -> dict[str, Any]:
    return {
        "error": error(outputs, y),
        "square": float((outputs - y).square().sum(1).mean()),
        "validation_error": best.scores[run][0],
        "rate": rate,
        "steps": float(best.steps[run]),
        "depth": float(config.depth),
    }
