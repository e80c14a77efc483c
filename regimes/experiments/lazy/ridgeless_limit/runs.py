"""Nets trained to the end by gradient flow, beside kernel regression with their own initial kernels.

Protocol (inferred: the paper has no such table). n points on the sphere of R^d, targets N(0, 1), fresh for each seed.
Runs of one width are one ensemble, integrated as v = α(w − w_0), each to its own end, at a tolerance of residual/1000
and of residual/100. The recorded error is the difference of the two, plus what the remaining residual is worth on the
test points, ‖Θ(x, X) Θ⁻¹ (f(X) − y)‖. Rank and condition of Θ(X, X) are recorded: the claim needs full rank.
"""

from typing import Any

import torch
from torch import Tensor

from regimes.activations import activation
from regimes.conventions import function_norm
from regimes.experiments.lazy.ridgeless_limit.config import Config
from regimes.experiments.lazy.starts import is_centred, nets, on_sphere, targets
from regimes.meanfield.displacement import displaced, displacement_flow
from regimes.meanfield.kernel import tangent_kernel_trace
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.streams import LazyNet
from regimes.tangent.regression import kernel_ridge, predict


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a run; the runs of one width are one ensemble."""
    unit, seeds = activation(config.activation), [point["seed"] for point in points]
    x, y = on_sphere(config.samples, config.inputs, seeds), targets(config.samples, seeds)
    x_test = on_sphere(config.test_samples, config.inputs, seeds, stream=LazyNet.TEST_INPUTS)
    start = nets(points, config.inputs)
    alpha = torch.tensor([point["alpha"] for point in points], dtype=torch.float64)
    net = TwoLayerRisk(x, y, unit)
    offset, offset_test = (torch.where(is_centred(points), net.outputs(start, at), 0.0) for at in (x, x_test))
    risk = TwoLayerRisk(x, y, unit, alpha=alpha, offset=offset)

    f_train_0, f_test_0 = risk.outputs(start), risk.outputs(start, x_test, offset=offset_test)
    kernel = tangent_kernel_trace(start, x, x, unit)
    k_test_train = tangent_kernel_trace(start, x_test, x, unit)
    fit = kernel_ridge(kernel, y - f_train_0)
    limit = f_test_0 + predict(fit, k_test_train)

    wide = all(point["start"] == "wide" for point in points)
    residual = config.wide_residual if wide else config.residual
    ends = []
    for tolerance in (residual / 1000, residual / 100):
        goal = residual**2 * risk.risk(start).clamp(min=0.5)
        *_, last = displacement_flow(
            risk, start, [1e9], rtol=tolerance, atol=tolerance, risk_below=goal, max_steps=1_000_000
        )
        weights = displaced(start, last.moved, alpha)
        ends.append((last, risk.outputs(weights), risk.outputs(weights, x_test, offset=offset_test)))
    (last, f_train, f_test), (_, _, f_test_coarse) = ends
    unfinished = predict(kernel_ridge(kernel, f_train - y), k_test_train)
    columns: dict[str, Tensor] = {
        "distance": function_norm(f_test - limit),
        "error": function_norm(f_test - f_test_coarse) + function_norm(unfinished),
        "without_offset": function_norm(f_test - predict(kernel_ridge(kernel, y), k_test_train)),
        "limit_size": function_norm(limit),
        "offset_size": function_norm(f_test_0),
        "residual": function_norm(f_train - y),
        "rank": fit.rank / config.samples,
        "condition": fit.condition,
        "time": last.time,
        "steps": last.steps,
    }
    return [{name: float(column[run]) for name, column in columns.items()} for run in range(len(points))]
