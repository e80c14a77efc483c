"""The empirical tangent kernel by other means: torch.func in three ways, and neural-tangents.

Each way takes (model, x, outputs) to Θ (n, n, k, k) or its trace (n, n) in float32, of the model in eval mode. All
compute only the upper half of the kernel, in blocks that fit into memory.
"""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

from benchmarks.tangent_nets import OUTPUTS
from regimes.modules import plain_attention

JACOBIANS = 2**30  # bytes of a block of Jacobians
Way = Callable[[nn.Module, Tensor, str], Tensor]


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def _block(model: nn.Module, n: int) -> int:
    row = 4 * OUTPUTS * sum(value.numel() for value in model.parameters())
    return max(1, min(n, JACOBIANS // row))


def _empty(n: int, outputs: str) -> Tensor:
    return torch.empty(n, n) if outputs == "trace" else torch.empty(n, n, OUTPUTS, OUTPUTS)


def _put(kernel: Tensor, i: int, j: int, part: Tensor) -> None:
    """A block of the upper half, and its mirror."""
    n, m = part.shape[:2]
    kernel[i : i + n, j : j + m] = part
    kernel[j : j + m, i : i + n] = part.transpose(0, 1) if part.ndim == 2 else part.permute(1, 0, 3, 2)


def jacobian_contraction(model: nn.Module, x: Tensor, outputs: str) -> Tensor:
    """Jacobians of blocks of samples, contracted by parameters; those of the right side are formed again."""
    params, size, kernel = _parameters(model), _block(model, len(x)), _empty(len(x), outputs)
    of = vmap(jacrev(lambda values, sample: functional_call(model, values, (sample[None],))[0]), (None, 0))
    with plain_attention(), torch.no_grad():
        for i in range(0, len(x), size):
            left = [each.flatten(2) for each in of(params, x[i : i + size]).values()]
            for j in range(i, len(x), size):
                right = left if i == j else [each.flatten(2) for each in of(params, x[j : j + size]).values()]
                rule = "nap,map->nm" if outputs == "trace" else "nap,mbp->nmab"
                _put(kernel, i, j, sum(torch.einsum(rule, a, b) for a, b in zip(left, right, strict=True)))  # pyright: ignore[reportArgumentType]
                del right
    return kernel


def vector_products(model: nn.Module, x: Tensor, outputs: str) -> Tensor:
    """For each pair of samples and each output one product with Jᵀ and one with J, as the tutorial of torch.func."""
    params, kernel = _parameters(model), _empty(len(x), outputs)

    def f(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, values, (sample[None],))[0]

    def pair(one: Tensor, other: Tensor) -> Tensor:
        _, pull = vjp(lambda values: f(values, one), params)[:2]

        def product(unit: Tensor) -> Tensor:
            return jvp(lambda values: f(values, other), (params,), (pull(unit)[0],))[1]

        return vmap(product)(torch.eye(OUTPUTS))

    with plain_attention(), torch.no_grad():
        for i in range(len(x)):
            for j in range(i, len(x), _block(model, len(x))):
                part = vmap(pair, (None, 0))(x[i], x[j : j + _block(model, len(x))])
                _put(kernel, i, j, part[None].diagonal(0, 2, 3).sum(-1) if outputs == "trace" else part[None])
    return kernel


def batched_vector_products(model: nn.Module, x: Tensor, outputs: str) -> Tensor:
    """The same products arranged by hand: the Jacobian of one sample, then J of all later ones by each of its rows."""
    params, kernel = _parameters(model), _empty(len(x), outputs)

    def f(values: dict[str, Tensor], batch: Tensor) -> Tensor:
        return functional_call(model, values, (batch,))

    with plain_attention(), torch.no_grad():
        for i in range(len(x)):
            rows = jacrev(lambda values, one=x[i : i + 1]: f(values, one)[0])(params)
            rest = x[i:]
            part = vmap(lambda row, rest=rest: jvp(lambda values: f(values, rest), (params,), (row,))[1])(rows)
            part = part.transpose(0, 1)[None]  # (k, n, k) -> (1, n, k, k)
            _put(kernel, i, i, part.diagonal(0, 2, 3).sum(-1) if outputs == "trace" else part)
    return kernel


def neural_tangents(implementation: str) -> Way:
    """The compiled kernel of a dense net. One thread where torch has one."""
    if torch.get_num_threads() == 1:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import jax
    import jax.numpy as jnp

    from regimes.tangent.neural_tangents import library

    nt = library()

    def f(values: list, inputs: jax.Array) -> jax.Array:
        for place, (weight, bias) in enumerate(values):
            inputs = inputs @ weight.T + bias
            inputs = jax.nn.relu(inputs) if place < len(values) - 1 else inputs
        return inputs

    compiled = {
        axes: jax.jit(
            nt.empirical_ntk_fn(
                f, trace_axes=axes, vmap_axes=0, implementation=getattr(nt.NtkImplementation, implementation)
            )
        )
        for axes in ((), (-1,))
    }

    def way(model: nn.Module, x: Tensor, outputs: str) -> Tensor:
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        params = [
            (jnp.asarray(each.weight.detach().numpy()), jnp.asarray(each.bias.detach().numpy())) for each in layers
        ]
        inputs, size, kernel = jnp.asarray(x.numpy()), _block(model, len(x)), _empty(len(x), outputs)
        size = max(part for part in range(1, size + 1) if len(x) % part == 0)  # one shape, compiled once
        for i in range(0, len(x), size):
            for j in range(i, len(x), size):
                one, other = inputs[i : i + size], inputs[j : j + size]
                part = compiled[(-1,) if outputs == "trace" else ()](one, other, params)
                part = torch.from_numpy(jax.device_get(part).copy())
                _put(kernel, i, j, OUTPUTS * part if outputs == "trace" else part)
        return kernel

    return way


RIVALS: dict[str, Callable[[], Way]] = {
    "torch.func, Jacobian contraction": lambda: jacobian_contraction,
    "torch.func, NTK-vector products": lambda: vector_products,
    "NTK-vector products, batched by hand": lambda: batched_vector_products,
    "neural-tangents, JACOBIAN_CONTRACTION": lambda: neural_tangents("JACOBIAN_CONTRACTION"),
    "neural-tangents, NTK_VECTOR_PRODUCTS": lambda: neural_tangents("NTK_VECTOR_PRODUCTS"),
}
