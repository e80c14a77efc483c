"""Kernels and nets of one seed on all its targets: one spectrum and one ensemble of nets for all k.

Target: y = Σ_{i≤k} ±x_i² with as many plus as minus signs, scaled to E y² = 1 on the sphere of radius √d. It is a
quadratic form of trace 0 for every k. Kernel: the NTK of ReLU nets of infinite width, ridge from RIDGES. Nets:
h = (1/m) Σ_j a_j relu(b_j·x), a ~ N(0, 1), b ~ N(0, I/d), trained as α (h − h(w_0)) by gradient descent on R/α² with
the step `step`·m, in float32. All arms get the same validation points: the kernel chooses its ridge, each net its
iteration, for each k. Errors are shares of the energy of the target on the test points, mean (f − y)²/mean y².
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.errors import RunFailed
from regimes.experiments.lazy.feature_selection.config import Config
from regimes.experiments.lazy.rotations import least_error
from regimes.meanfield.flow import descend
from regimes.meanfield.kernel import tangent_kernel_trace
from regimes.meanfield.layout import tile_work
from regimes.meanfield.particles import Particles, gaussian
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import Data, LazyNet
from regimes.tangent.infinite import two_layer_ntk
from regimes.tangent.regression import GradientFlow, kernel_ridge, predict

RIDGES = (0.0, *(10.0 ** (power / 2) for power in range(-10, 3)))


class Part(NamedTuple):
    """Inputs, and the targets of all k as columns."""

    x: Float[Tensor, "n d"]
    y: Float[Tensor, "n k"]


def target(x: Float[Tensor, "n d"], relevant: int) -> Float[Tensor, " n"]:
    """Σ_{i≤k} ±x_i² over its standard deviation √(2k d/(d+2)) on the sphere of radius √d."""
    d = x.shape[1]
    signs = torch.zeros(d, dtype=x.dtype)
    signs[:relevant:2], signs[1:relevant:2] = 1.0, -1.0
    return x.square() @ signs / (2 * relevant * d / (d + 2)) ** 0.5


def draw_part(config: Config, relevant: list[int], seed: int, stream: Data, count: int) -> Part:
    """Points of the sphere of radius √d with their targets."""
    x = sphere(count, config.inputs, generator=generator(seed, stream)) * config.inputs**0.5
    return Part(x, torch.stack([target(x, each) for each in relevant], dim=1))


def share(f: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """The share of the target's energy that f does not explain, for each column."""
    return (f - y).square().mean(0) / y.square().mean(0)


def work(config: Config, points: list[dict[str, Any]]) -> int:
    """Multiply-adds of a typical product."""
    return tile_work(2 * len(points), config.width, torch.empty(config.samples, config.inputs, dtype=torch.float32))


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a target: the errors of the kernel, of the net and of the lazy net, and how lazy the latter was."""
    relevant, seed = [point["relevant"] for point in points], config.first_seed + points[0]["seed"]
    train, validation, test = (
        draw_part(config, relevant, seed, stream, count)
        for stream, count in (
            (Data.TRAIN, config.samples),
            (Data.VALIDATION, config.validation),
            (Data.TEST, config.test_samples),
        )
    )
    ridge, kernel = kernel_errors(train, validation, test)
    rich, lazy = (trained(config, seed, scale, train, validation, test) for scale in (config.rich, config.lazy))
    columns = {
        "kernel": kernel,
        "ridge": ridge,
        "net": rich.error,
        "lazy": lazy.error,
        "tangent": share(lazy.tangent, test.y),
        "to_tangent": share(lazy.f_test, lazy.tangent).sqrt(),
        "net_left": rich.left,
        "lazy_left": lazy.left,
        "net_stopped": rich.stopped,
        "lazy_stopped": lazy.stopped,
    }
    sizes = {"d_over_k": [config.inputs / each for each in relevant]}
    least = {"least": least_error(config.samples, config.inputs)}
    lists = {name: column.tolist() for name, column in columns.items()} | sizes
    return [dict(zip(lists, values, strict=True)) | least for values in zip(*lists.values(), strict=True)]


def kernel_errors(train: Part, validation: Part, test: Part) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """For each target, the ridge with the least validation error, and the test error with it."""
    kernels = [
        two_layer_ntk(part.x, train.x, activation=RELU, std_b=train.x.shape[1] ** -0.5)
        for part in (train, validation, test)
    ]
    fits = [kernel_ridge(kernels[0], train.y, ridge=ridge) for ridge in RIDGES]
    chosen = torch.stack([share(predict(fit, kernels[1]), validation.y) for fit in fits]).argmin(0)
    errors = torch.stack([share(predict(fit, kernels[2]), test.y) for fit in fits])
    return torch.tensor(RIDGES, dtype=torch.float64)[chosen], errors.gather(0, chosen[None])[0]


class Trained(NamedTuple):
    """Test error at the iteration with the least validation error, which that was, the share of the training risk left
    at the last one; the outputs on the test points there, and those of the tangent model at the same time."""

    error: Float[Tensor, " k"]
    stopped: Float[Tensor, " k"]
    left: Float[Tensor, " k"]
    f_test: Float[Tensor, "n k"]
    tangent: Float[Tensor, "n k"]


def first_net(config: Config, seed: int) -> Particles:
    """a ~ N(0, 1), b ~ N(0, I/d)."""
    drawn = gaussian(config.width, config.inputs, generators=[generator(seed, LazyNet.WEIGHTS)])
    return Particles(drawn.output, drawn.input / config.inputs**0.5)


def trained(config: Config, seed: int, alpha: float, train: Part, validation: Part, test: Part) -> Trained:
    """The same net at the start on all targets, as one ensemble at the scale α."""
    runs, single = train.y.shape[1], torch.float32
    net = first_net(config, seed)
    start = Particles(*(part.expand(runs, -1, -1).to(single) for part in net))

    def risk(part: Part) -> TwoLayerRisk:
        x, y = part.x[None].to(single), part.y.T[..., None].to(single)
        plain = TwoLayerRisk(x, torch.zeros_like(x[..., :1]), RELU)
        return TwoLayerRisk(x, y, RELU, alpha=alpha, offset=plain.outputs(start))

    risks = [risk(part) for part in (train, validation, test)]
    best = torch.full((runs,), torch.inf, dtype=torch.float64)
    error, stopped, f_test = best, torch.zeros_like(best), test.y
    end = start
    looks = {*range(0, config.iterations, config.look_every), config.iterations}
    for iteration, end in descend(
        risks[0], start, step=config.step * config.width, iterations=config.iterations, record=looks
    ):
        f_validation, f_test = (one.outputs(end)[..., 0].T.double() for one in risks[1:])
        now = share(f_validation, validation.y)
        better = now < best
        best = torch.where(better, now, best)
        error = torch.where(better, share(f_test, test.y), error)
        stopped = torch.where(better, float(iteration), stopped)
    left = 2 * risks[0].risk(end).double() / train.y.square().mean(0)
    if not bool(torch.isfinite(left).all()):
        raise RunFailed(f"gradient descent diverged at α = {alpha:g}; lower step")
    k_train, k_test = (tangent_kernel_trace(net, part.x[None], train.x[None], RELU)[0] for part in (train, test))
    tangent = GradientFlow(k_train, train.y).test(config.step * config.iterations, k_test)
    return Trained(error, stopped, left, f_test, tangent)
