"""The two models that are linear in their weights, solved exactly at every time: tangent model and infinite width."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.errors import UserError
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.problem import Problem, losses
from regimes.lab.array_files import Arrays
from regimes.meanfield.kernel import tangent_kernel
from regimes.tangent.infinite import two_layer_ntk
from regimes.tangent.regression import GradientFlow

KERNELS = ("tangent", "infinite_width")


class KernelModels(NamedTuple):
    """Curves (kernels, seeds, times) by quantity, the tangent model's outputs, and condition numbers."""

    curves: dict[str, np.ndarray]
    tangent_train: Tensor  # (times, seeds, n, k)
    tangent_test: Tensor
    condition: np.ndarray  # (kernels, seeds), of the training kernels

    def arrays(self) -> Arrays:
        """All of it as named arrays."""
        outputs = {"train": self.tangent_train.cpu().numpy(), "test": self.tangent_test.cpu().numpy()}
        return {
            **{f"curve/{name}": curve for name, curve in self.curves.items()},
            **outputs,
            "condition": self.condition,
        }

    @classmethod
    def read(cls, flat: Arrays, device: str) -> "KernelModels":
        """The models from such arrays."""
        curves = {name.removeprefix("curve/"): value for name, value in flat.items() if name.startswith("curve/")}
        train, test = (torch.from_numpy(flat[name]).to(device) for name in ("train", "test"))
        return cls(curves, train, test, flat["condition"])


def solve_kernels(config: Config, given: Problem, times: Tensor) -> KernelModels:
    """Gradient flow of both kernel models from f = 0 at all times."""
    sigma = activation(config.activation)
    n, k = given.y.shape[1:]
    quantities = ("train_loss", "train_error", "test_loss", "test_error")
    curves = {quantity: np.full((len(KERNELS), config.seeds, config.times), np.nan) for quantity in quantities}
    condition = np.zeros((len(KERNELS), config.seeds))
    tangent_train, tangent_test = (y.new_empty(config.times, *y.shape) for y in (given.y, given.y_test))
    for seed in range(config.seeds):
        here = slice(seed, seed + 1)
        x, x_test = given.x[here], given.x_test[here]
        particles = given.start.select(here)
        tangent = [tangent_kernel(particles, other, x, sigma)[0] for other in (x, x_test)]
        std = config.init_std
        infinite = [two_layer_ntk(other[0], x[0], activation=sigma, std_a=std, std_b=std) for other in (x, x_test)]
        # The infinite kernel acts on each output alone; the tangent kernel on (sample, output) pairs.
        for model, kernels in enumerate((tangent, infinite)):
            flow = GradientFlow(_symmetric(kernels[0]), given.y[seed])
            condition[model, seed] = float(flow.condition)
            for index, t in enumerate(times.tolist()):
                train = flow.train(t).reshape(1, n, k)
                test = flow.test(t, kernels[1]).reshape(1, -1, k)
                if model == 0:
                    tangent_train[index, seed], tangent_test[index, seed] = train[0], test[0]
                values = (
                    *losses(train, given.y[here], given.classes),
                    *losses(test, given.y_test[here], given.classes),
                )
                for quantity, value in zip(quantities, values, strict=True):
                    curves[quantity][model, seed, index] = float(value)
    return KernelModels(curves, tangent_train, tangent_test, condition)


def refuse_zero(config: Config, tangent: Tensor) -> None:
    """UserError where a tangent model's outputs (times, seeds, n, k) are all zero: no distance is relative to them."""
    dead = (tangent == 0).flatten(2).all(2).any(0).nonzero().flatten().tolist()
    if dead:
        seeds = f"seed {dead[0]}" if len(dead) == 1 else f"{len(dead)} of {config.seeds} seeds, {dead[0]} the first,"
        raise UserError(
            f"the tangent model of {seeds} is zero on all test samples: no neuron of its start is active on a training "
            f"and on a test sample, so that nothing can be compared with it. Take a larger width (now {config.width}), "
            f"more samples (now train_size {config.train_size}, test_size {config.test_size}) or activation=erf."
        )


def _symmetric(kernel: Tensor) -> Tensor:
    return (kernel + (kernel.mT if kernel.ndim == 2 else kernel.permute(1, 0, 3, 2))) / 2
