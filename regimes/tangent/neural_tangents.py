"""Infinite-width kernels and predictions by the neural-tangents library: a second, independent source.

The only file that imports jax. neural-tangents 0.6.5 expects names that jax 0.6 moved or dropped; they are put back
before its first import, and an empty module stands in for its experimental part, which alone needs TensorFlow.
"""

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation
from regimes.checks import not_negative, shapes
from regimes.tangent.infinite import Kernels

_MOVED = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")  # jax.core -> jax.extend.core


def _restore_names() -> None:
    core, extended = import_module("jax.core"), import_module("jax.extend.core")
    for name in _MOVED:
        if name not in vars(core):
            setattr(core, name, getattr(extended, name))
    try:
        import_module("jax.util")
    except ModuleNotFoundError:
        util = ModuleType("jax.util")
        vars(util).update(safe_map=lambda f, *xs: list(map(f, *xs)), safe_zip=lambda *xs: list(zip(*xs, strict=True)))
        sys.modules["jax.util"] = util
    differentiation = import_module("jax.interpreters.ad")
    if not hasattr(differentiation, "zeros_like_p"):
        setattr(differentiation, "zeros_like_p", extended.Primitive("zeros_like"))  # noqa: B010
    experimental = "neural_tangents.experimental"
    sys.modules.setdefault(experimental, ModuleType(experimental))


@cache
def library() -> Any:
    """The neural_tangents package, imported with what it misses in newer jax; ImportError says how to install it."""
    try:
        import_module("jax")
        _restore_names()
        return import_module("neural_tangents")
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"neural-tangents is optional here and {missing.name} is not installed: "
            "pip install 'regimes[infinite]', then pip install --no-deps neural-tangents==0.6.5."
        ) from missing


def _double(x: Tensor) -> np.ndarray:
    return x.detach().cpu().to(torch.float64).numpy()


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _stax_activation(activation: Activation) -> Any:
    stax = library().stax
    known = {"relu": stax.Relu, "erf": stax.Erf, "identity": stax.Identity}
    if activation.name not in known:
        raise ValueError(f"neural-tangents is asked for one of {', '.join(known)} only; got {activation.name!r}.")
    return known[activation.name]()


def dense_network(*, depth: int, activation: Activation, sigma_w: float, sigma_b: float, width: int = 1) -> Any:
    """(init_fn, apply_fn, kernel_fn) of the stax net with `depth` hidden layers, one output, NTK parametrisation."""
    stax = library().stax
    deviation = {"W_std": sigma_w, "b_std": sigma_b if sigma_b > 0 else None}
    hidden = [layer for _ in range(depth) for layer in (stax.Dense(width, **deviation), _stax_activation(activation))]
    return stax.serial(*hidden, stax.Dense(1, **deviation))


def dense_kernels(
    x1: Float[Tensor, "n1 d"],
    x2: Float[Tensor, "n2 d"] | None = None,
    *,
    depth: int,
    activation: Activation,
    sigma_w: float = 2**0.5,
    sigma_b: float = 0.0,
) -> Kernels:
    """regimes.tangent.infinite.dense_kernels as neural-tangents computes it, in float64 on jax's default device."""
    kernel_fn = dense_network(depth=depth, activation=activation, sigma_w=sigma_w, sigma_b=sigma_b)[2]
    with import_module("jax").enable_x64(True):
        kernels = kernel_fn(_double(x1), None if x2 is None else _double(x2), ("nngp", "ntk"))
        return Kernels(_tensor(kernels.nngp), _tensor(kernels.ntk))


def flow_prediction(
    k_train_train: Float[Tensor, "n n"],
    y: Float[Tensor, "n k"],
    k_test_train: Float[Tensor, "n1 n"],
    t: float,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n1 k"]]:
    """Train and test outputs at time t of the gradient flow from zero, in the time unit of regimes.

    neural-tangents takes the half mean over all n·k entries, which slows its flow by k: its clock is run k times as
    long.
    """
    caller = "flow_prediction"
    shapes(caller, k_train_train=(k_train_train, "n n"), y=(y, "n k"), k_test_train=(k_test_train, "n1 n"))
    not_negative(caller, "t", t, infinite=True)
    with import_module("jax").enable_x64(True):
        predict = library().predict.gradient_descent_mse(_double(k_train_train), _double(y), trace_axes=(-1,))
        train, test = predict(t * y.shape[1], 0.0, 0.0, _double(k_test_train))
        return _tensor(train), _tensor(test)


def empirical_ntk(
    x: Float[Tensor, "n d"],
    *,
    depth: int,
    activation: Activation,
    sigma_w: float,
    sigma_b: float,
    width: int,
    seed: int,
) -> tuple[Float[Tensor, "n n"], list[tuple[Tensor, Tensor | None]]]:
    """Tangent kernel of one random finite net, and its weights by layers: W (fan_in, fan_out), b (fan_out) or None."""
    jax = import_module("jax")
    init_fn, apply_fn, _ = dense_network(
        depth=depth, activation=activation, sigma_w=sigma_w, sigma_b=sigma_b, width=width
    )
    with jax.enable_x64(True):
        _, params = init_fn(jax.random.PRNGKey(seed), x.shape)
        contraction = library().NtkImplementation.JACOBIAN_CONTRACTION
        kernel_fn = library().empirical_ntk_fn(apply_fn, implementation=contraction)
        layers = [(_tensor(p[0]), None if p[1] is None else _tensor(p[1]).reshape(-1)) for p in params if len(p)]
        return _tensor(kernel_fn(_double(x), None, params)), layers
