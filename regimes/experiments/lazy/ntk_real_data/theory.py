"""Two comparisons with theory: finite kernels of growing width, and the learning curve of the infinite kernel."""

from typing import Any

import torch

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.experiments.lazy.ntk_real_data.config import Config
from regimes.experiments.lazy.ntk_real_data.regressions import coefficients, mean_kernel, start
from regimes.experiments.lazy.ntk_real_data.samples import Parts, prepared
from regimes.streams import RealData
from regimes.tangent.held_out import empirical_modes, learning_curve
from regimes.tangent.infinite import dense_kernels

LIMIT_TEST = 200  # test images on which predictors are compared


def limit(config: Config, samples: Parts, width: int, seed: int) -> dict[str, float]:
    """‖f_m − f_∞‖/‖f_∞‖ on test images: the mean kernel of a net of width m, and the limit."""
    x, x_test, y = prepared(samples.train.x), prepared(samples.test.x[:LIMIT_TEST]), samples.train.y
    options: dict[str, Any] = {"depth": config.depth, "activation": RELU}
    net = start(config, x.shape[1], width, seed)
    infinite = dense_kernels(x_test, x, **options).ntk @ coefficients(
        dense_kernels(x, **options).ntk, y, config.limit_ridge
    )
    finite = mean_kernel(net, x_test, x) @ coefficients(mean_kernel(net, x), y, config.limit_ridge)
    return {"distance": float((finite - infinite).norm() / infinite.norm())}


def curve(config: Config, pool: Parts, n: int, seed: int) -> dict[str, float]:
    """Mean square error over a pool of images, of a fit to n of them, and the one foretold from the kernel of the pool.

    The law is the uniform one on the pool, so that its eigenvalues are known; trained images count as others do.
    """
    x, y = prepared(pool.train.x), pool.train.y
    kernel = dense_kernels(x, depth=config.depth, activation=RELU).ntk
    chosen = torch.randperm(len(x), generator=generator(seed, RealData.POOL, n))[:n]
    shift = config.curve_ridge * float(kernel.diagonal().mean())
    own = kernel[chosen][:, chosen]
    fit = coefficients(own, y[chosen], shift / float(own.diagonal().mean()))
    modes = empirical_modes(kernel, y)
    told = learning_curve(modes.eigenvalues, modes.coefficients, [n], ridge=shift / n)
    return {"square": float((kernel[:, chosen] @ fit - y).square().sum(1).mean()), "foretold": float(told.error[0])}
